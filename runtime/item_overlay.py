"""Items that the bundle was not made with: their vectors stand beside its tables.

Their rows follow the catalogue's: the n-th added item has row `n_items + n`. In the taste space nobody knows anything of
them, so they lie in its center. An overlay is never changed: adding makes another, so that threads need no lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .item_ids import ItemId


@dataclass(frozen=True, slots=True, eq=False)
class ItemOverlay:
    """Added items."""

    n_items: int
    """Of the catalogue."""
    vectors: NDArray[np.float32]
    """float32 (n, D), in the model's item space."""
    row_of: dict[Any, int] = field(default_factory=dict)
    """Rows by id, from `n_items` on."""

    @property
    def ids(self) -> list[ItemId]:
        return list(self.row_of)

    def with_items(self, ids: Sequence[ItemId], vectors: NDArray[np.float32]) -> ItemOverlay:
        """These too; of an id that is there already, the new vector.

        Raises:
            InputError: vectors of another shape than float (len(ids), D), or not finite.
        """
        width = self.vectors.shape[1]
        if vectors.shape != (len(ids), width) or not np.isfinite(vectors).all():
            raise InputError(
                f"items: vectors of shape {vectors.shape} for {len(ids)} ids, expected ({len(ids)}, {width}) of finite values"
            )
        row_of = dict(self.row_of)
        for item_id in ids:
            row_of.setdefault(item_id, self.n_items + len(row_of))
        grown = np.zeros((len(row_of), width), np.float32)
        grown[: len(self.vectors)] = self.vectors
        for item_id, vector in zip(ids, vectors, strict=True):
            grown[row_of[item_id] - self.n_items] = vector
        return ItemOverlay(self.n_items, grown, row_of)

    def fill(self, rows: NDArray[np.int64], ids: Sequence[Any]) -> NDArray[np.int64]:
        """Rows with those of added items for -1."""
        if self.row_of and len(rows) and rows.min() < 0:
            for n in np.flatnonzero(rows < 0).tolist():
                rows[n] = self.row_of.get(ids[n], -1)
        return rows
