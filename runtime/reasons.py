"""Why an item stands where it stands: what each expert gave to its score.

    score_i = sum_k w_k (x_k . e_i)  +  server  +  dismissed

A share is one of these products, under the expert's name (`adaptation`). `server` is what a server's score added,
`dismissed` what a dismissal took; an unknown item that a server scored has `prior`, the list's average, in place of the
experts, and one without any score has no shares. They sum to the score but for rounding. Shares of one expert are comparable over a list; that all of them are high says nothing of one item.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .adaptation import OWN_EXPERTS, TASTE_EXPERTS
from .experts import Experts
from .list_scores import ListScores
from .mixture import Mixture

if TYPE_CHECKING:
    from .reranker import Reranker
    from .user_model import UserModel

Floats = NDArray[np.float32]


def expert_shares(mixture: Mixture, experts: Experts, source: str, items: Floats) -> list[dict[str, float]]:
    """Shares by name of n items, whose vectors are float32 (n, D)."""
    weights = mixture.ranking_weights(experts, source)
    if weights is None:
        return [{"base": score} for score in (items[:, : len(experts.base)] @ experts.base).tolist()]
    shares = items @ experts.matrix.T * weights
    names = (OWN_EXPERTS + TASTE_EXPERTS)[: shares.shape[1]]
    return [dict(zip(names, row, strict=True)) for row in shares.tolist()]


def list_reasons(
    ranker: Reranker,
    model: UserModel,
    source: str,
    rows: NDArray[np.int64],
    scored: ListScores,
    order: NDArray[np.int64],
) -> list[dict[str, float]]:
    """Shares of the items of a list that were placed, in the order of their places.

    Args:
        rows: int64 (C,), -1 where unknown.
        scored: the scores of the C.
        order: int64 (K,), which of them were placed.
    """
    if ranker.tables:
        items = ranker.gather(rows[order]).vectors
        reasons = expert_shares(model.mixture, model.experts(), source, items)
    else:  # without item vectors the base alone ranks
        found = model.score_known(np.maximum(rows[order], 0), source)
        reasons = [{"base": score} for score in found.tolist()]
    for place, n in enumerate(order.tolist()):
        score = float(scored.scores[n])
        added = 0.0 if scored.added is None else float(scored.added[n])
        taken = scored.sent_back if scored.dismissed is not None and scored.dismissed[n] else 0.0
        if not np.isfinite(score):
            reasons[place] = {}
            continue
        if rows[n] < 0 and scored.by_server is not None and scored.by_server[n]:
            reasons[place] = {"prior": score - added + taken}
        if scored.added is not None:
            reasons[place]["server"] = added
        if taken:
            reasons[place]["dismissed"] = -taken
    return reasons


def posterior_features(mixture: Mixture, experts: Experts, source: str, items: Floats) -> NDArray[np.float64]:
    """Of n items, float64 (n, D of all spaces): the length of a row is the deviation of the item's logit (`exploration`)."""
    weights, spaces = mixture.weights(source, experts), mixture.spaces
    of_users = np.repeat(
        np.abs([weights[len(OWN_EXPERTS) - 1], weights[-1]])[: len(spaces)], [space.width for space in spaces]
    )
    unit = spaces.radius * np.sqrt(mixture.residual.gradient_squared)
    return (items.astype(np.float64) - spaces.center) * (of_users / unit)
