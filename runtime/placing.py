"""From scores and options to places: what the rules of one ranking are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .category_terms import Calibration, CategoryCap, CategoryShares
from .diversity import LogVolume, MarginalRelevance, Term, unit_vectors
from .errors import InputError
from .exploration import make_policy
from .item_ids import ItemId
from .rank_options import RankOptions
from .reasons import posterior_features
from .slate import Slate, fill_slate

if TYPE_CHECKING:
    from .reranker import Reranker
    from .user_model import UserModel


@dataclass(frozen=True, slots=True, eq=False)
class Placeable:
    """C candidates with scores."""

    ids: Sequence[ItemId]
    rows: NDArray[np.int64]
    """int64 (C,), -1 where unknown."""
    scores: NDArray[np.float32]
    """float32 (C,), -inf where there is none."""
    steps: NDArray[np.int64]
    """int64 (C,), see `slate`."""


def place(
    ranker: Reranker,
    model: UserModel,
    among: Placeable,
    k: int,
    options: RankOptions,
    *,
    source: str,
    ranking: int,
) -> Slate:
    """Fill k places as the options say.

    Raises:
        InputError: categories are needed and there are none.
    """
    place_of = {item_id: n for n, item_id in enumerate(among.ids)}
    first = [place_of[item_id] for item_id in dict.fromkeys(options.first) if item_id in place_of]
    if not options.places_one_by_one:
        order = np.lexsort((-among.scores.astype(np.float64), among.steps))
        pinned = np.isin(order, first)
        placed = np.concatenate([np.array(first, np.int64), order[~pinned]])[:k]
        return Slate(placed, np.ones(len(placed)))
    scale = model.logit_scale(source)
    finite = np.isfinite(among.scores)
    logits = np.where(finite, among.scores, 0.0).astype(np.float64) * scale
    logits[~finite] = -np.arange(np.count_nonzero(~finite))  # in their order
    shares = _shares(ranker, options, among.ids, model.history.ids)
    explore = options.explore
    features = None
    if explore is not None and explore.policy in ("linucb", "thompson"):
        items = [ranker.lookup(space, among.rows) for space in range(len(ranker.tables))]
        features = posterior_features(model.mixture, model.experts(), source, items)
    return fill_slate(
        logits,
        among.steps,
        k,
        make_policy(explore, features, ranking),
        first=first,
        terms=_terms(ranker, options, among.rows, shares),
        cap=None if options.max_per_category is None else CategoryCap(shares, options.max_per_category),
    )


def _shares(
    ranker: Reranker, options: RankOptions, ids: Sequence[ItemId], history: Iterable[ItemId]
) -> CategoryShares:
    if not options.needs_categories:
        return CategoryShares({}, ())
    categories = ranker.categories if options.categories is None else options.categories
    if categories is None:
        raise InputError(
            "options: max_per_category and calibration need categories, and the bundle has none; "
            "give them as RankOptions(categories={item_id: name})"
        )
    return CategoryShares(categories, ids, history)


def _terms(
    ranker: Reranker, options: RankOptions, rows: NDArray[np.int64], shares: CategoryShares
) -> list[tuple[float, Term]]:
    terms: list[tuple[float, Term]] = []
    if options.mmr or options.dpp:
        units = unit_vectors(ranker.lookup(0, rows), ranker.spaces[0].center)
        if options.mmr:
            terms.append((options.mmr, MarginalRelevance(units)))
        if options.dpp:
            terms.append((options.dpp, LogVolume(units)))
    if options.calibration and shares.of_history is not None:
        terms.append((options.calibration, Calibration(shares, shares.of_history)))
    return terms
