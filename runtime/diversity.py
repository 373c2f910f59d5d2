"""Diversity of a list: what an item adds beside those that were placed before it, from -1 to 0.

    MMR   -max over placed j of s_ij                               Carbonell and Goldstein 1998 (SIGIR)
    DPP   log(det S_{placed + i} / det S_{placed}) / 13.8          Chen, Zhang and Zhou 2018 (NeurIPS), greedy MAP

with s_ij = (1 + cos(e_i - mu, e_j - mu)) / 2, from 0 to 1, mu the catalogue's mean vector. The kernel of Chen et al. has the
relevance r in it, L = Diag(exp(a r)) S Diag(exp(a r)) with a = t / (2 (1 - t)) for a dial t; the log determinant then splits
into 2 a r_i + log(...), so that greedy MAP is the greedy maximum of t r_i + (1 - t) log(...): the same sum as for MMR. It is
divided by the largest value that it may take here, so that a dial costs about as much for one as for the other.

The determinants come from a Cholesky factor that grows by a row a placed item (their algorithm 1): with c_i the row of
candidate i and d_i^2 what is left of s_ii,

    e_i = (s_ji - <c_j, c_i>) / d_j,   c_i <- [c_i, e_i],   d_i^2 <- d_i^2 - e_i^2         after placing j

which costs C * n for the n-th place. The rank of S is D + 1: once the placed items span it, no item adds anything, and
the score alone goes on.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SMALLEST_VOLUME = 1e-6
"""d^2 below it is rounding: copies of an item. Its log is -13.8."""


class Term(Protocol):
    """A part of the utility of C candidates that depends on what was placed."""

    def values(self) -> Floats:
        """float64 (C,), of each candidate for the next place."""
        ...

    def place(self, n: int) -> None:
        """Candidate n takes the next place."""
        ...


def unit_vectors(vectors: NDArray[np.float32], center: NDArray[np.float32]) -> Floats:
    """Directions from the center: float32 (C, D) -> float64 (C, D); the center itself, or what is not finite, is 0."""
    centered = np.nan_to_num(vectors.astype(np.float64) - center, posinf=0.0, neginf=0.0)
    lengths = np.sqrt((centered * centered).sum(axis=1))
    return centered / np.where(lengths > 0, lengths, 1.0)[:, None]


class MarginalRelevance:
    """MMR of candidates with unit vectors, float64 (C, D)."""

    def __init__(self, units: Floats) -> None:
        self._units = units
        self._nearest = np.zeros(len(units))

    def values(self) -> Floats:
        return -self._nearest

    def place(self, n: int) -> None:
        np.maximum(self._nearest, (1 + self._units @ self._units[n]) / 2, out=self._nearest)


class LogVolume:
    """DPP of candidates with unit vectors, float64 (C, D).

    >>> term = LogVolume(np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]))
    >>> term.place(0)
    >>> term.values().round(1)
    array([-1., -1.,  0.])
    """

    def __init__(self, units: Floats) -> None:
        self._units = units
        self._left = np.ones(len(units))  # d^2
        self._rows = np.empty((0, len(units)))  # c_i in columns

    def values(self) -> Floats:
        return np.log(np.maximum(self._left, SMALLEST_VOLUME)) / -np.log(SMALLEST_VOLUME)

    def place(self, n: int) -> None:
        if self._left[n] <= SMALLEST_VOLUME:  # it adds nothing, and so takes nothing from the others
            return
        similarity = (1 + self._units @ self._units[n]) / 2
        similarity[n] = 1.0  # also of a vector without direction
        row = (similarity - self._rows[:, n] @ self._rows) / np.sqrt(self._left[n])
        self._rows = np.concatenate([self._rows, row[None]])
        self._left = np.maximum(self._left - row * row, 0.0)
