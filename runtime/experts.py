"""The experts' vectors at one moment: rows of X, the first of which is the model's user vector (`mixture`).

Somebody waits for a ranking, nobody for a lesson. So a lesson makes all of X but its first row, and the product w X of that,
for the next ranking (`Ahead`), which then costs the model's vector, times its weight, and a sum:

    w X = w_0 base + w rest                rest: X with a first row of 0
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(slots=True, eq=False)
class Ahead:
    """What the next ranking needs, but for the model's user vector."""

    rest: Floats
    """float32 (K, D)."""
    source: str
    """Of candidates: what `weights` are for."""
    weights: Floats
    """float32 (K,)."""
    mixed: Floats
    """weights . rest, float32 (D,)."""


class Experts:
    """X, made when it is first asked for.

    While the model ranks alone nobody needs it before the first lesson, and a re-ranking is spared the work.
    """

    __slots__ = ("_make", "_matrix", "_rest", "ahead", "base", "n_recent")

    def __init__(
        self, base: Floats, n_recent: int, make: Callable[[], Floats], ahead: Ahead | None = None
    ) -> None:
        """make: of `rest`, where nothing was made ahead."""
        self.base = base
        """float32 (width of the model's space,): the model's user vector."""
        self.n_recent = n_recent
        """Events of the history that they look at; with none only the base has something to say."""
        self.ahead = ahead
        """None where no lesson came before."""
        self._make = make
        self._rest: Floats | None = None if ahead is None else ahead.rest
        self._matrix: Floats | None = None

    @property
    def rest(self) -> Floats:
        """X with a first row of 0, float32 (K, D); not to be changed."""
        if self._rest is None:
            self._rest = self._make()
        return self._rest

    @property
    def matrix(self) -> Floats:
        """X, float32 (K, D); not to be changed."""
        if self._matrix is None:
            matrix = self.rest.copy()
            matrix[0, : len(self.base)] = self.base
            self._matrix = matrix
        return self._matrix

    def mixed(self, weights: Floats, source: str) -> Floats:
        """weights . X, float32 (K,) -> (D,), a new array.

        Args:
            source: of candidates; what was made ahead for it was made with the same weights.
        """
        ahead = self.ahead
        mixed = weights.dot(self.rest) if ahead is None or ahead.source != source else ahead.mixed.copy()
        mixed[: len(self.base)] += weights[0] * self.base
        return mixed
