"""From scores and options to places: what the rules of one ranking are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .candidates import Candidates
from .category_terms import Calibration, CategoryCap, CategoryShares
from .diversity import LogVolume, MarginalRelevance, Term, unit_vectors
from .errors import InputError
from .exploration import make_policy
from .item_ids import ItemId
from .list_scores import ListScores
from .rank_options import RankOptions
from .ranking import Ranking
from .reasons import list_reasons, posterior_features
from .slate import Slate, fill_slate

if TYPE_CHECKING:
    from .reranker import Reranker
    from .user_model import UserModel


POOL = 256
"""`recommended` chooses among so many of the best, or ten times k; among more where rules leave places empty."""


def placed(
    ranker: Reranker,
    model: UserModel,
    candidates: Candidates,
    scored: ListScores,
    k: int,
    options: RankOptions,
    *,
    source: str,
    number: int,
) -> Ranking:
    """The k best of scored candidates as the options say.

    Args:
        source: one of `adaptation.SOURCES`.
        number: of the ranking.

    Raises:
        InputError: categories are needed and there are none.
    """
    slate = place(ranker, model, candidates, scored, k, options, source=source, number=number)
    ranking = Ranking.of(candidates.ids, candidates.known, scored.scores, slate.order, number)
    if options.explore is not None:
        ranking.propensities = slate.propensities.tolist()
    if options.explain:
        ranking.reasons = list_reasons(ranker, model, source, candidates.rows, scored, slate.order)
    return ranking


def recommended(
    ranker: Reranker,
    model: UserModel,
    k: int,
    options: RankOptions,
    exclude: NDArray[np.int64],
    number: int,
) -> Ranking:
    """Of the best of the catalogue and of what is pinned, the k that the options ask for.

    Args:
        exclude: int64, rows that are left out unless they are pinned.
    """
    user = model.user_vector("catalogue")
    never = ranker.rows(list(options.never))
    pinned = ranker.rows(list(dict.fromkeys(options.first)))
    pinned = pinned[(pinned >= 0) & ~np.isin(pinned, never)]
    exclude = np.concatenate([exclude, pinned, never[never >= 0]])
    size = max(10 * k, POOL)
    while True:
        rows, _ = ranker.top_k(user, size, exclude)
        pool = np.concatenate([pinned, rows])
        candidates = Candidates(ranker.ids(pool.tolist()), pool, None)
        scored = ListScores(model.score_known(pool, "catalogue"))  # exact: those of the catalogue are rounded
        ranking = placed(ranker, model, candidates, scored, k, options, source="catalogue", number=number)
        if len(ranking) == k or len(rows) < size:
            return ranking
        size *= 4


def place(
    ranker: Reranker,
    model: UserModel,
    candidates: Candidates,
    scored: ListScores,
    k: int,
    options: RankOptions,
    *,
    source: str,
    number: int,
) -> Slate:
    """Which candidates take the k places."""
    place_of = {item_id: n for n, item_id in enumerate(candidates.ids)}
    steps = scored.steps()
    first = [place_of[item_id] for item_id in dict.fromkeys(options.first) if item_id in place_of]
    if not ranker.tables and options.needs_vectors:
        raise InputError(
            "options: mmr, dpp, linucb and thompson need item vectors, and the bundle has item-item weights; leave them out"
        )
    if not options.places_one_by_one:
        order = np.argsort(-scored.scores, kind="stable")
        pinned = np.isin(order, first)
        placed = np.concatenate([np.array(first, np.int64), order[~pinned]])[:k]
        return Slate(placed, np.ones(len(placed)))
    scale = model.logit_scale(source)
    finite = np.isfinite(scored.scores)
    logits = np.where(finite, scored.scores, 0.0).astype(np.float64) * scale
    logits[~finite] = -np.arange(np.count_nonzero(~finite))  # in their order
    shares = _shares(ranker, options, candidates.ids, model.history.ids)
    explore = options.explore
    features = None
    if explore is not None and explore.policy in ("linucb", "thompson"):
        items = ranker.gather(candidates.rows).vectors
        features = posterior_features(model.mixture, model.experts(), source, items)
    return fill_slate(
        logits,
        steps,
        k,
        make_policy(explore, features, number),
        first=first,
        terms=_terms(ranker, options, candidates.rows, shares),
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
