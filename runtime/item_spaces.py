"""The spaces that a user learns in, side by side: an item's vector is its vectors in all of them, one after the other.

What is learned in each space then is one vector, and one product with the items of a list serves all experts of all
spaces (`mixture`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .item_space import ItemSpace
from .recency import Recency

Floats = NDArray[np.float32]

UNPACKED_BYTES = 8 << 20
"""A catalogue whose vectors take no more is unpacked once, when somebody first has a history: 12,000 items in two spaces of
width 64 in 5 ms. A list of 100 then costs one look-up and one product, a third of what its packed rows cost."""
_ROWS_AT_ONCE = 4096


class ItemSpaces:
    """The model's own space, and the taste space where the bundle has one; D is the sum of their widths."""

    def __init__(self, spaces: Sequence[ItemSpace], *, unpacked_bytes: int = UNPACKED_BYTES) -> None:
        self._spaces = tuple(spaces)
        self._unpacked_bytes = unpacked_bytes
        self._catalogue: Floats | None = None
        self.n_items = spaces[0].table.n_items if spaces else 0
        ends = np.cumsum([0, *(space.width for space in spaces)]).tolist()
        self.slices = tuple(slice(first, last) for first, last in pairwise(ends))
        """Which of the D dimensions each space has."""
        self.width: int = ends[-1]
        """D."""
        self.center = np.concatenate([np.empty(0, np.float32), *(space.center for space in spaces)])
        """float32 (D,)."""
        self.radius = np.concatenate(
            [np.empty(0, np.float32), *(np.full(s.width, s.radius, np.float32) for s in spaces)]
        )
        """float32 (D,): of each dimension's space."""

    def __len__(self) -> int:
        return len(self._spaces)

    def __iter__(self) -> Iterator[ItemSpace]:
        return iter(self._spaces)

    def __getitem__(self, n: int) -> ItemSpace:
        return self._spaces[n]

    def lookup(self, rows: NDArray[np.int64]) -> Floats:
        """Vectors of rows of the tables, int64 (n,) -> float32 (n, D)."""
        vectors = np.empty((len(rows), self.width), np.float32)
        for space, where in zip(self._spaces, self.slices, strict=True):
            vectors[:, where] = space.table.lookup(rows)
        return vectors

    @property
    def catalogue(self) -> Floats | None:
        """Vectors of all rows, float32 (N, D), where they take at most `unpacked_bytes`; unpacked at the first use."""
        if self._catalogue is None and 0 < self.n_items * self.width * 4 <= self._unpacked_bytes:
            vectors = np.empty((self.n_items, self.width), np.float32)
            for first in range(0, self.n_items, _ROWS_AT_ONCE):
                last = min(first + _ROWS_AT_ONCE, self.n_items)
                vectors[first:last] = self.lookup(np.arange(first, last))
            self._catalogue = vectors
        return self._catalogue

    def split(self, vector: Floats) -> tuple[Floats, ...]:
        """float32 (D,) -> float32 (width of the space,), one a space: views."""
        return tuple(vector[where] for where in self.slices)

    @cached_property
    def recency(self) -> Recency:
        """The means of what was chosen last; two threads that ask first make two, which are the same."""
        return Recency(self.center, self.radius)
