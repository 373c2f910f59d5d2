"""The geometry of a catalogue: where its item vectors lie, and how far they spread.

    center  mu     mean of the item vectors
    spread  Sigma  their covariance
    radius  rho    root mean square distance from the center, sqrt(trace Sigma)

What is learned on the device is learned in these units, so that one learning rate serves every model: an item is the
vector (e - mu) / rho, of length about 1, and the scores that a user vector x gives vary over the catalogue with
standard deviation sqrt(x' Sigma x), known without scoring it. All items are divided by the same rho, not each by its own
length: whatever is learned then stays a user vector that ranks by plain dot products (and ranked better when it was
measured: +11% against +5% for recency means on MovieLens-100K).

Estimated from at most `SAMPLED_ROWS` rows, evenly spaced over the table, so that a large table is not read as a whole;
the same rows every time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .item_table import ItemTable

SAMPLED_ROWS = 4096
"""Enough for a relative error of a few percent in each figure; 1 to 3 ms at width 64."""
_SMALLEST = 1e-12  # below it a spread is none: every item is the same, and nothing can be learned


@dataclass(frozen=True, slots=True, eq=False)
class ItemSpace:
    """A table with the center, spread and radius of its vectors."""

    table: ItemTable
    center: NDArray[np.float32]
    """float32 (D,)."""
    covariance: NDArray[np.float32]
    """float32 (D, D)."""
    radius: float

    @classmethod
    def of(cls, table: ItemTable) -> ItemSpace:
        """Estimate it from a table."""
        n_rows = min(table.n_items, SAMPLED_ROWS)
        vectors = table.lookup(np.linspace(0, table.n_items - 1, n_rows).astype(np.int64))
        center = vectors.mean(axis=0)
        centered = vectors - center
        covariance = centered.T @ centered / np.float32(n_rows)
        return cls(table, center, covariance, max(float(np.sqrt(np.trace(covariance))), _SMALLEST))

    @property
    def width(self) -> int:
        return self.table.width

    def spread(self, user: NDArray[np.float32]) -> float:
        """Standard deviation over the catalogue of the scores of `user`, float32 (D,); 0 where all items are equal."""
        return float(np.sqrt(max(float(user @ (self.covariance @ user)), 0.0)))
