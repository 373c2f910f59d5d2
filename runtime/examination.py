"""Who sees what of a list: the position-based model, for apps that can show that it helps them. Off by default: on simulated
clicks of several strengths of bias no correction was better than none (`benchmarks/biased_clicks.py`).

    P(click on item i at position k) = theta_k gamma_i          Craswell et al. 2008 (WSDM); examined, and attractive

Learning with it: a choice was made among what was shown, each weighed by its chance to have been seen,

    q_i ~ theta_k(i) exp(logit_i)

so that what was hardly seen is hardly a negative, and what was not shown is none.

`estimate_examination` fits theta to logged impressions by expectation maximization (Chuklin, Markov and de Rijke 2015,
"Click Models for Web Search", section 4.3). It needs the same items at several positions, and many clicks: the logs of many
users of one app, rather than one person's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .impressions import ImpressionLog
from .shown_list import Contrast

SMALLEST = 1e-3
"""A position is seen at least so often: its logit is never lower by more than 7."""
CLICKS = ("click", "purchase", "share")
_ITERATIONS = 50
_PRIOR = (
    1.0  # an examination and a click, and one without, of each position and item before the first is counted
)


def read_examination(probabilities: Sequence[float] | NDArray[Any] | None) -> NDArray[np.float64] | None:
    """theta, float64 (positions,), of what an app says; positions beyond are as the last.

    Raises:
        InputError: none, or not all of them from 0 to 1.
    """
    if probabilities is None:
        return None
    try:
        theta = np.asarray(probabilities, np.float64)
    except (TypeError, ValueError):
        theta = np.empty((0, 0))
    if theta.ndim != 1 or len(theta) == 0 or not ((theta >= 0) & (theta <= 1)).all():
        raise InputError(
            f"examination: {probabilities!r}; expected for each position, from the first, a number from 0 to 1"
        )
    return np.maximum(theta, SMALLEST)


def among_examined(against: Contrast, displayed: NDArray[np.int64], theta: NDArray[np.float64]) -> Contrast:
    """The items of a contrast that were displayed, their logits raised by log theta.

    Args:
        against: its item is among the displayed.
        displayed: int64 (P,), rows in the order of their places; -1 where unknown.
    """
    order = np.argsort(displayed, kind="stable")
    found = np.searchsorted(displayed, against.rows, sorter=order)
    places = order[np.minimum(found, len(order) - 1)]
    kept = np.flatnonzero(displayed[places] == against.rows)
    seen = np.log(theta[np.minimum(places[kept], len(theta) - 1)])
    added = seen if against.added is None else against.added[kept] + seen
    return Contrast(
        against.rows[kept],
        added.astype(np.float32),
        int(np.flatnonzero(kept == against.item)[0]),
    )


def estimate_examination(logs: Iterable[ImpressionLog], n_positions: int = 10) -> NDArray[np.float64]:
    """theta of the first positions, float64 (n_positions,), relative to the most examined one, which is 1.

    Positions that no list reached are as the last one that was.

    Raises:
        InputError: no list was shown, or nothing was clicked.
    """
    positions, items, clicks = _observations(logs, n_positions)
    if not clicks.any():
        raise InputError(
            f"examination: {len(clicks)} places were logged and nothing was clicked; there is nothing to estimate from"
        )
    n_seen, n_items = int(positions.max()) + 1, int(items.max()) + 1
    shown_at, shown_of = np.bincount(positions), np.bincount(items)
    theta, gamma = np.full(n_seen, 0.5), np.full(n_items, 0.5)
    for _ in range(_ITERATIONS):
        t, g = theta[positions], gamma[items]
        unclicked = 1 - t * g
        examined = np.where(clicks, 1.0, t * (1 - g) / unclicked)
        attractive = np.where(clicks, 1.0, g * (1 - t) / unclicked)
        theta = (np.bincount(positions, examined, n_seen) + _PRIOR) / (shown_at + 2 * _PRIOR)
        gamma = (np.bincount(items, attractive, n_items) + _PRIOR) / (shown_of + 2 * _PRIOR)
    return np.concatenate([theta, np.full(max(n_positions - n_seen, 0), theta[-1])]) / theta.max()


def _observations(
    logs: Iterable[ImpressionLog], n_positions: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Position from 0, number of the item, and whether it was clicked, of each logged place."""
    number: dict[Any, int] = {}
    found: list[tuple[int, int, bool]] = []
    for log in logs:
        clicked = {(o.ranking, o.position) for o in log.outcomes if o.kind in CLICKS}
        for shown in log.impressions:
            for n, item_id in enumerate(shown.item_ids[:n_positions]):
                item = number.setdefault(item_id, len(number))
                found.append((n, item, (shown.ranking, n + 1) in clicked))
    if not found:
        raise InputError("examination: no list was logged; rerank or recommend first")
    columns = np.array(found, np.int64)
    return columns[:, 0], columns[:, 1], columns[:, 2].astype(bool)
