"""Rows of an item table, unpacked once: their scores for any user, and their vectors where somebody wants them.

    value = scale * sum over planes of weight * level        one plane of weight 1 where levels are stored whole

A score needs no vector: the product is made plane by plane, and scaled at the end. What is unpacked can be kept, so that
a list that was scored is learned from without being looked up again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(
    slots=True, eq=False
)  # not frozen, which costs a microsecond: one is made for each list that is ranked
class GatheredRows:
    """C rows of width D; nothing in it may be changed.

    >>> rows = GatheredRows(np.array([[1, -1], [1, 1]], np.float32), 2, np.array([0.5], np.float32), np.array([1, 2], np.float32))
    >>> rows.vectors().tolist(), rows.scores(np.array([1, 0], np.float32)).tolist()  # .5 (1 + 2), .5 (-1 + 2)
    ([[1.5, 0.5]], [1.5])
    """

    levels: Floats
    """float32 (C * planes, D or more), the planes of a row one below the other; what is beyond D is padding."""
    width: int
    """D."""
    scales: Floats | None = None
    """float32 (C,); None: 1."""
    plane_weights: Floats | None = None
    """float32 (planes,); None: one plane of weight 1."""

    @property
    def n_rows(self) -> int:
        """C."""
        planes = 1 if self.plane_weights is None else len(self.plane_weights)
        return len(self.levels) // planes

    def scores(self, user: Floats) -> Floats:
        """Dot products with a user vector: float32 (D,) -> float32 (C,)."""
        padding = self.levels.shape[1] - len(user)
        if padding:
            user = np.concatenate([user, np.zeros(padding, np.float32)])
        # one product for all planes of all rows: a stack of small ones would cost a call each
        products = self.levels.dot(user)
        if self.plane_weights is not None:
            products = products.reshape(-1, len(self.plane_weights)).dot(self.plane_weights)
        if self.scales is not None:
            products *= self.scales
        return products

    def vectors(self, out: Floats | None = None) -> Floats:
        """float32 (C, D), into `out` where it is given.

        The sum of planes is exact and is scaled afterwards: a row is the same bit for bit, whoever asks for it.
        """
        values = self.levels
        if self.plane_weights is not None:
            stacked = values.reshape(-1, len(self.plane_weights), values.shape[1])
            values = np.matmul(self.plane_weights, stacked)
        values = values[:, : self.width]
        if self.scales is not None:
            return np.multiply(values, self.scales[:, None], out=out)
        if out is None:
            return values.copy()
        out[...] = values
        return out
