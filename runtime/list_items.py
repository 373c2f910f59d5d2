"""The items of one list in all spaces: looked up once, for its scores and, when feedback comes, for what is learned from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .gathered_rows import GatheredRows

Floats = NDArray[np.float32]


class ListItems:
    """C items: their vectors, or unpacked rows (`gathered_rows`) until somebody asks for the vectors."""

    __slots__ = ("_gathered", "_vectors")

    def __init__(self, vectors: Floats | None, gathered: Sequence[GatheredRows] = ()) -> None:
        """Give the one or the other.

        Args:
            vectors: float32 (C, D), D the widths of all spaces together.
            gathered: the same C items in each space.
        """
        self._vectors = vectors
        self._gathered: Sequence[GatheredRows] = gathered

    def scores(self, user: Floats) -> Floats:
        """Dot products with a user vector, float32 (D,) -> float32 (C,), a new array."""
        if self._vectors is not None:
            return self._vectors.dot(user)
        scores, first = np.float32(0.0), 0
        for rows in self._gathered:
            scores = scores + rows.scores(user[first : first + rows.width])
            first += rows.width
        return np.asarray(scores)

    @property
    def vectors(self) -> Floats:
        """float32 (C, D); not to be changed."""
        if self._vectors is None:
            gathered = list(self._gathered)
            ends = np.cumsum([rows.width for rows in gathered]).tolist()
            self._vectors = np.empty((gathered[0].n_rows, ends[-1]), np.float32)
            for rows, end in zip(gathered, ends, strict=True):
                rows.vectors(out=self._vectors[:, end - rows.width : end])
            self._gathered = ()
        return self._vectors
