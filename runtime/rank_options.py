"""What an app may ask of one ranking beyond the best k: all off by default.

    RankOptions(never=sold_out, first=[sponsored], max_per_category=3, categories=genre_of, mmr=0.3)

An item's utility for the next place of the list is

    (1 - mmr)(1 - dpp)(1 - calibration) r  -  mmr * similarity  -  dpp * lost volume  -  calibration * miscalibration

with r its score brought to [0, 1] over the list, and the other three, from 0 to 1, what the items placed before it leave
(`diversity`, `category_terms`). Dials at 0 are the plain ranking; at 1 the score no longer counts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from .errors import InputError
from .item_ids import ItemId

Categories = Mapping[ItemId, "str | Collection[str]"]
"""What an item is: one category or several. Items that are missing have none."""
Policy = Literal["epsilon", "softmax", "linucb", "thompson"]
POLICIES: tuple[str, ...] = get_args(Policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explore:
    """Show sometimes what the ranking does not prefer, to learn about it. What each place's item was shown with is in
    `Ranking.propensities` and in the user's log. See `exploration` for the policies and what their propensities mean.

    >>> Explore(policy="epsilon", strength=2.0)
    Traceback (most recent call last):
        ...
    pocketrec.runtime.errors.InputError: explore: strength 2.0 for epsilon, expected a number from 0 to 1
    """

    policy: Policy
    strength: float
    """epsilon: the share of places, 0 to 1. softmax: the temperature of the logits, above 0 (1 is what the mixture believes).
    linucb, thompson: how many posterior deviations, from 0 (alpha, v; .1 to .5 in most papers)."""
    seed: int = 0
    """With the same seed a user's n-th ranking explores in the same way, also after a restart."""

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise InputError(f"explore: policy {self.policy!r}, expected one of {', '.join(POLICIES)}")
        low, high = {"epsilon": (0.0, 1.0), "softmax": (1e-6, 1e6)}.get(self.policy, (0.0, 1e6))
        if not _is_number(self.strength) or not low <= self.strength <= high:
            expected = "from 0 to 1" if high == 1 else "above 0" if low else "of at least 0"
            raise InputError(
                f"explore: strength {self.strength!r} for {self.policy}, expected a number {expected}"
            )
        if type(self.seed) is not int or self.seed < 0:
            raise InputError(f"explore: seed {self.seed!r}, expected an integer of at least 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class RankOptions:
    """How `User.rerank` and `User.recommend` fill the places of a list.

    >>> RankOptions(mmr=1.5)
    Traceback (most recent call last):
        ...
    pocketrec.runtime.errors.InputError: options: mmr 1.5, expected a number from 0 to 1
    """

    never: Collection[ItemId] = ()
    """Items that are left out, also of `first`."""
    first: Sequence[ItemId] = ()
    """Items that come first, in this order. `rerank` places those that are among the candidates; `recommend` all that the
    bundle knows, seen or not. They count against `max_per_category`, and are never dropped for it."""
    categories: Categories | None = None
    """For `max_per_category` and `calibration`. None: those that ship with the bundle, if any."""
    max_per_category: int | None = None
    """At most so many of one category; an item of several counts in each. The list is shorter where nothing else is left."""
    mmr: float = 0.0
    """0 to 1: maximal marginal relevance. What is like an item placed before loses."""
    dpp: float = 0.0
    """0 to 1: determinantal point process. What lies in the span of all items placed before loses."""
    calibration: float = 0.0
    """0 to 1: shares of categories as in the user's history."""
    explore: Explore | None = None
    """None: nothing is left to chance."""
    unknown: Literal["last", "prior"] = "last"
    """Candidates that the bundle does not know come last with the score -inf, or are ranked by the score of an average item."""
    explain: bool = field(default=False)
    """Whether `Ranking.reasons` says what each expert gave to a score."""

    def __post_init__(self) -> None:
        for name in ("mmr", "dpp", "calibration"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value <= 1:
                raise InputError(f"options: {name} {value!r}, expected a number from 0 to 1")
        if self.max_per_category is not None and (
            type(self.max_per_category) is not int or self.max_per_category < 1
        ):
            raise InputError(
                f"options: max_per_category {self.max_per_category!r}, expected an integer of at least 1"
            )
        if self.unknown not in ("last", "prior"):
            raise InputError(f"options: unknown {self.unknown!r}, expected 'last' or 'prior'")
        for name in ("never", "first"):
            if isinstance(getattr(self, name), str):
                raise InputError(f"options: {name} {getattr(self, name)!r}, expected a list of item ids")

    @property
    def needs_categories(self) -> bool:
        return self.max_per_category is not None or self.calibration > 0

    @property
    def needs_vectors(self) -> bool:
        explores_by_vectors = self.explore is not None and self.explore.policy in ("linucb", "thompson")
        return self.mmr > 0 or self.dpp > 0 or explores_by_vectors

    @property
    def places_one_by_one(self) -> bool:
        """Whether a place depends on those before it."""
        return self.needs_categories or self.mmr > 0 or self.dpp > 0 or self.explore is not None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
