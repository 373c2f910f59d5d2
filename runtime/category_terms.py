"""Categories of items: at most n of each, and the shares that a user is used to.

Calibration (Steck 2018, RecSys, "Calibrated recommendations", sections 3 and 4): with p(g|i) = 1/n for each of an item's n
categories, p(g) its mean over the user's history and q(g) over the list,

    KL(p || q~) = sum_g p(g) log(p(g) / q~(g)),   q~ = .99 q + .01 p

is what the list's categories lack; a candidate's value is minus the KL of the list with it, divided by its largest, log 100,
so that it is from -1 to 0 like the terms of `diversity`. Without a history whose items have categories there is nothing to
be calibrated to.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .item_ids import ItemId
from .rank_options import Categories

Floats = NDArray[np.float64]
SMOOTHING = 0.01
"""alpha of the paper: keeps the KL finite while a category is missing."""
LARGEST_KL = -math.log(SMOOTHING)


class CategoryShares:
    """p(g|i) of candidates, and of the user's history. Items of the same categories are of one kind.

    >>> shares = CategoryShares({1: "a", 2: ("a", "b")}, [2, 1, 9, 1])
    >>> shares.of_kinds[shares.kind].tolist()
    [[0.5, 0.5], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]
    """

    def __init__(self, categories: Categories, candidates: Sequence[ItemId], history: Iterable[ItemId] = ()):
        self._categories = categories
        self._column: dict[str, int] = {}
        self._kind_of: dict[Any, int] = {}
        self._columns: list[list[int]] = []  # by kind
        kinds = [self._kind(item_id) for item_id in candidates]
        past = [kind for item_id in history if self._columns[kind := self._kind(item_id)]]
        self.kind = np.array(kinds, np.int64)
        """int64 (C,)."""
        self.of_kinds = np.zeros((len(self._columns), len(self._column)))
        """float64 (kinds, G), rows of sum 1, or 0 without a category."""
        for kind, columns in enumerate(self._columns):
            self.of_kinds[kind, columns] = 1.0 / max(len(columns), 1)
        self.of_history = self.of_kinds[past].mean(axis=0) if past else None
        """float64 (G,), of sum 1; None where no item of the history has a category."""

    def _kind(self, item_id: ItemId) -> int:
        found: Any = self._categories.get(item_id)
        key = found if found is None or isinstance(found, str | tuple) else _names(found, item_id)
        kind = self._kind_of.get(key)
        if kind is None:
            names = () if key is None else (key,) if isinstance(key, str) else _names(key, item_id)
            kind = self._kind_of[key] = len(self._columns)
            self._columns.append([self._column.setdefault(name, len(self._column)) for name in names])
        return kind


def _names(found: Any, item_id: ItemId) -> tuple[str, ...]:
    """Several names, each once."""
    names: set[Any] = {*found} if isinstance(found, Collection) else {None}
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"categories: {found!r} of item {item_id!r}; expected a name or several names")
    return tuple(sorted(names))


class CategoryCap:
    """At most `largest` items of one category."""

    def __init__(self, shares: CategoryShares, largest: int) -> None:
        self._kind = shares.kind
        self._in_category = shares.of_kinds > 0
        self._left = np.full(self._in_category.shape[1], largest)

    def place(self, n: int) -> None:
        """Candidate n takes a place."""
        self._left[self._in_category[self._kind[n]]] -= 1

    def allowed(self) -> NDArray[np.bool_]:
        """bool (C,): whose categories have room for one more."""
        full = self._in_category[:, self._left <= 0].any(axis=1)
        return np.logical_not(full)[self._kind]


class Calibration:
    """Minus the KL of the list's categories to the user's."""

    def __init__(self, shares: CategoryShares, target: Floats) -> None:
        wanted = target > 0
        self._target = target[wanted]
        self._kind = shares.kind
        self._kinds = shares.of_kinds[:, wanted]  # (kinds, G wanted)
        self._weights = shares.of_kinds.sum(axis=1)  # 0 without a category: it leaves the shares as they are
        self._sum = np.zeros(len(self._target))
        self._placed = 0.0

    def values(self) -> Floats:
        placed = self._placed + self._weights
        shares = (self._sum + self._kinds) / np.maximum(placed, 1.0)[:, None]
        smoothed = (1 - SMOOTHING) * shares + SMOOTHING * self._target
        lacking = (self._target * np.log(self._target / smoothed)).sum(axis=1) / LARGEST_KL
        return -lacking[self._kind]

    def place(self, n: int) -> None:
        kind = self._kind[n]
        self._sum += self._kinds[kind]
        self._placed += float(self._weights[kind])
