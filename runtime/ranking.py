"""What a ranking is: items and scores, best first, and what else is known of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .item_ids import ItemId

_first = itemgetter(0)
_NONE_UNKNOWN: frozenset[ItemId] = frozenset()


class RankedItem(NamedTuple):
    """An item and its score; scores are comparable within one ranking only."""

    item_id: ItemId
    score: float


_ranked_item = partial(tuple.__new__, RankedItem)  # of a pair, in half the time


class Ranking(list[RankedItem]):
    """A list of `RankedItem`, best first; equal to any list of the same items and scores.

    >>> ranking = Ranking([RankedItem(7, 0.5)], id=3)
    >>> ranking == [(7, 0.5)], ranking.id, ranking.unknown
    (True, 3, frozenset())
    """

    __slots__ = ("id", "propensities", "reasons", "unknown")

    def __init__(
        self,
        items: Iterable[RankedItem] = (),
        *,
        id: int = 0,
        unknown: frozenset[ItemId] = _NONE_UNKNOWN,
        propensities: list[float] | None = None,
        reasons: list[dict[str, float]] | None = None,
    ) -> None:
        super().__init__(items)
        self.id = id
        """The user's running number of it, also after a restart: `User.feedback(..., ranking=ranking)`."""
        self.unknown = unknown
        """Those of its items that the bundle does not know."""
        self.propensities = propensities
        """With `RankOptions.explore`: the probability of each place's item given the places before it."""
        self.reasons = reasons
        """With `RankOptions.explain`: what each expert gave to each item's score; of sum the score, but for rounding."""

    def item_ids(self) -> tuple[ItemId, ...]:
        """Best first."""
        return tuple(map(_first, self))

    @classmethod
    def of(
        cls,
        ids: Sequence[ItemId],
        known: NDArray[np.bool_] | None,
        scores: NDArray[np.float32],
        order: NDArray[np.int64],
        number: int,
    ) -> Ranking:
        """Of C candidates those at `order`, int64 (K,).

        Args:
            known: bool (C,), None where all are.
            scores: float32 (C,).
        """
        places = order.tolist()
        pairs = zip(map(ids.__getitem__, places), scores.take(order).tolist(), strict=True)
        ranking = cls(map(_ranked_item, pairs), id=number)
        if known is not None and not known.all():
            ranking.unknown = frozenset(ids[n] for n in places if not known[n])
        return ranking
