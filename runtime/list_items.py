"""The items of one list in all spaces: looked up once, for its scores and, when feedback comes, for what is learned from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .gathered_rows import GatheredRows

Floats = NDArray[np.float32]


class ListItems:
    """C items. Unpacked rows (`gathered_rows`) until somebody asks for the vectors, and then those."""

    __slots__ = ("_gathered", "_vectors")

    def __init__(self, gathered: Sequence[GatheredRows]) -> None:
        """gathered: the same C items, in each space."""
        self._gathered = gathered
        self._vectors: Floats | None = None

    def scores(self, users: Sequence[Floats]) -> Floats:
        """Sums of dot products, float32 (C,), a new array; `users` holds a vector a space, or of the first spaces only."""
        scores = self._gathered[0].scores(users[0])
        for gathered, user in zip(self._gathered[1:], users[1:], strict=False):
            scores += gathered.scores(user)
        return scores

    @property
    def vectors(self) -> Floats:
        """float32 (C, D), D the widths of all spaces together; not to be changed."""
        if self._vectors is None:
            gathered = self._gathered
            ends = np.cumsum([rows.width for rows in gathered]).tolist()
            self._vectors = np.empty((gathered[0].n_rows, ends[-1]), np.float32)
            for rows, end in zip(gathered, ends, strict=True):
                rows.vectors(out=self._vectors[:, end - rows.width : end])
        return self._vectors
