"""Item-item weights: each item keeps its strongest neighbours, quantized, and is scored by those in the history.

    score(user, i) = sum over i's neighbours j of  w[i, j] * x[j],      x[j] = 1 where j is in the user's history, else 0

Two arrays of N rows and K columns: the rows of the neighbours, and their weights as an item table of width K
(`item_table`: 2 to 8 bits and a scale a row, or float32). Where all N items are neighbours in their order, the first is
left out. In a bundle it is `neighbor_rows`, or where that is smaller (K above N / 16 or so) `neighbor_bits`: N bits an item,
which are unpacked when it is loaded. The user vector is x, so scoring C candidates costs C * K products, whatever the size of the catalogue; nothing is
ever expanded to N * N. More than one event with an item counts once, as in the matrices that these weights come from.

Source: item-based collaborative filtering, Sarwar et al. 2001, "Item-Based Collaborative Filtering Recommendation
Algorithms", section 3; EASE, Steck, arXiv:1905.03375.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle
from .errors import BundleError
from .item_table import FloatRows, ItemTable, read_item_table

_VALUES_AT_ONCE = (
    1 << 15
)  # restored weights at once when the catalogue is scored: what fits in a cache is 4 times faster
_BITS_AT_ONCE = 1 << 24


@dataclass(frozen=True, slots=True, eq=False)
class Neighbors:
    """The neighbours of N items, K each."""

    rows: NDArray[np.unsignedinteger[Any]] | None
    """uint16 or uint32 (N, K), see `row_dtype`; an item with fewer has weights of 0 in the places left. None: neighbour j of every item is item j."""
    weights: ItemTable
    """(N, K)."""

    @property
    def n_items(self) -> int:
        return self.weights.n_items

    @property
    def count(self) -> int:
        """K."""
        return self.weights.width

    def users(self, histories: NDArray[np.int64]) -> NDArray[np.float32]:
        """x of each history, int64 (B, n) -> float32 (B, N).

        >>> weights = FloatRows(np.array([[0.0, 1.0, 2.0], [3.0, 0.0, 4.0], [5.0, 6.0, 0.0]], np.float32))
        >>> neighbors = Neighbors(None, weights)
        >>> users = neighbors.users(np.array([[2, 0, 2]]))
        >>> neighbors.score(users, np.array([[1]])), neighbors.score_all(users)
        (array([[7.]], dtype=float32), array([[2., 7., 5.]], dtype=float32))
        """
        users = np.zeros((len(histories), self.n_items), np.float32)
        users[np.arange(len(histories))[:, None], histories] = 1.0
        return users

    def score(self, users: NDArray[np.float32], item_rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores of candidates: float32 (B, N), int64 (B, C) -> float32 (B, C)."""
        if self.rows is None:
            return self.weights.score(users, item_rows)
        return np.stack([self._score_one(user, rows) for user, rows in zip(users, item_rows, strict=True)])

    def score_all(self, users: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores of the whole catalogue: float32 (B, N) -> float32 (B, N)."""
        scores = np.empty((len(users), self.n_items), np.float32)
        step = max(1, _VALUES_AT_ONCE // self.count)
        for start in range(0, self.n_items, step):
            items = slice(start, min(start + step, self.n_items))
            weights = self.weights.lookup(np.arange(items.start, items.stop))  # (R, K)
            if self.rows is None:
                np.matmul(users, weights.T, out=scores[:, items])
                continue
            neighbors = self.rows[items]  # (R, K)
            for user, into in zip(users, scores, strict=True):
                np.einsum("rk,rk->r", user.take(neighbors), weights, out=into[items])
        return scores

    def parts(self) -> dict[str, NDArray[Any]]:
        """The bundle's parts that hold them."""
        rows: dict[str, NDArray[Any]] = {} if self.rows is None else {"neighbor_rows": self.rows}
        if self.rows is not None and self.n_items * bits_width(self.n_items) < self.rows.nbytes:
            bits = _pack_rows(self.rows)
            rows = rows if bits is None else {"neighbor_bits": bits}
        return {**rows, **self.weights.parts()}

    def _score_one(self, user: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        assert self.rows is not None
        return np.einsum("ck,ck->c", user.take(self.rows.take(rows, axis=0)), self.weights.lookup(rows))


def row_dtype(n_items: int) -> type[np.unsignedinteger[Any]]:
    """How the rows of neighbours are stored."""
    return np.uint16 if n_items <= 1 << 16 else np.uint32


def bits_width(n_items: int) -> int:
    """Bytes of an item's neighbours as bits."""
    return -(-n_items // 8)


def _pack_rows(rows: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.uint8] | None:
    """uint8 (N, N / 8), bit j % 8 of byte j / 8 for neighbour j; None where neighbours are not distinct and ascending."""
    if (rows[:, 1:] <= rows[:, :-1]).any():
        return None
    n_items = len(rows)
    packed = np.empty((n_items, bits_width(n_items)), np.uint8)
    step = max(1, _BITS_AT_ONCE // n_items)
    for start in range(0, n_items, step):
        block = rows[start : start + step]
        is_neighbor = np.zeros((len(block), n_items), bool)
        is_neighbor[np.arange(len(block))[:, None], block] = True
        packed[start : start + step] = np.packbits(is_neighbor, axis=1, bitorder="little")
    return packed


def _unpack_rows(bundle: Bundle, n_items: int, count: int) -> NDArray[np.unsignedinteger[Any]]:
    packed = bundle.array("neighbor_bits", np.uint8, (n_items, bits_width(n_items)))
    rows = np.empty((n_items, count), row_dtype(n_items))
    step = max(1, _BITS_AT_ONCE // n_items)
    for start in range(0, n_items, step):
        is_neighbor = np.unpackbits(packed[start : start + step], axis=1, count=n_items, bitorder="little")
        item, neighbor = np.nonzero(is_neighbor)
        if not (np.bincount(item, minlength=len(is_neighbor)) == count).all():
            raise BundleError(
                f"{bundle.path}: items with other than {count} neighbours in part 'neighbor_bits'; export the bundle again"
            )
        rows[start : start + step] = neighbor.reshape(-1, count)
    return rows


def read_neighbors(bundle: Bundle) -> Neighbors:
    """The neighbours of a bundle, weights mapped in place; raises `BundleError` where manifest and parts disagree."""
    weights = read_item_table(bundle)
    n_items, count = weights.n_items, weights.width
    if "neighbor_bits" in bundle:
        return Neighbors(_unpack_rows(bundle, n_items, count), weights)
    if "neighbor_rows" not in bundle:
        if count != n_items:
            raise BundleError(
                f"{bundle.path}: {count} weights an item for {n_items} items and no part 'neighbor_rows'; export it again"
            )
        return Neighbors(None, weights)
    rows = bundle.array("neighbor_rows", row_dtype(n_items), (n_items, count))
    if int(rows.max()) >= n_items:
        raise BundleError(
            f"{bundle.path}: a neighbour in row {int(rows.max())} of {n_items} items; export the bundle again"
        )
    return Neighbors(rows, weights)


def no_vectors(n_items: int) -> FloatRows:
    """The item table of a model whose items have no vectors: of width 0."""
    return FloatRows(np.empty((n_items, 0), np.float32))
