"""Item-based collaborative filtering: a weight for each pair of items, and no vectors at all.

    score(user, i) = sum over the history's items j of  w[i, j]                  w: (N, N), row i: what speaks for item i

Two ways to the weights, as RecBole computes them; X is users by items, 1 where a user met an item, in the training part:

    EASE (Steck, arXiv:1905.03375, eq. 8)     P = (X'X + reg I)^-1,  w[i, j] = -P[j, i] / P[i, i],  w[i, i] = 0
    ItemKNN (Sarwar et al. 2001, section 3)   w[i, j] = x_i . x_j / (|x_i| |x_j| + shrink + 1e-6) for i's K most alike, else 0

What a checkpoint holds, what compression prunes and what a device scores with is one structure, `runtime.neighbors.Neighbors`.

Shape letters: U users, N items, K neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import InputError
from ...runtime.item_table import FloatRows
from ...runtime.neighbors import Neighbors, row_dtype

Floats = NDArray[np.float32]

MAX_ITEMS = 20_000
"""Of a catalogue whose pairs are all weighed: 3.2 GB in float64, and an hour to invert."""
_USERS_AT_ONCE = 1024


def co_occurrence(sequences: Sequence[NDArray[np.int64]], n_items: int) -> Floats:
    """X'X: how many users met both, float32 (N, N); the diagonal counts each item's users."""
    both = np.zeros((n_items, n_items), np.float32)  # (N, N)
    for start in range(0, len(sequences), _USERS_AT_ONCE):
        block = sequences[start : start + _USERS_AT_ONCE]
        met = np.zeros((len(block), n_items), np.float32)  # (U, N)
        for user, sequence in enumerate(block):
            met[user, sequence] = 1.0
        both += met.T @ met
    return both


def ease(sequences: Sequence[NDArray[np.int64]], n_items: int, *, regularization: float = 250.0) -> Neighbors:
    """EASE of training sequences of item rows; 250 is RecBole's default.

    >>> ease([np.array([0, 1]), np.array([0, 1]), np.array([2])], 3, regularization=1.0).weights.values.astype(float).round(2).tolist()
    [[0.0, 0.67, -0.0], [0.67, 0.0, -0.0], [-0.0, -0.0, 0.0]]
    """
    _check_items(n_items)
    gram = co_occurrence(sequences, n_items).astype(np.float64)
    inverse = np.linalg.inv(gram + regularization * np.eye(n_items))  # (N, N)
    weights = (inverse / -np.diag(inverse)).T  # row i: column i divided by its diagonal
    np.fill_diagonal(weights, 0.0)
    return Neighbors(None, FloatRows(np.ascontiguousarray(weights, np.float32)))


def item_knn(
    sequences: Sequence[NDArray[np.int64]], n_items: int, *, count: int = 100, shrink: float = 0.0
) -> Neighbors:
    """Cosines of training sequences of item rows; 100 neighbours without shrinkage are RecBole's default.

    >>> knn = item_knn([np.array([0, 1]), np.array([0, 1]), np.array([2])], 3, count=1)
    >>> knn.weights.values.round(2).tolist(), knn.rows[:2].tolist()
    ([[1.0], [1.0], [0.0]], [[1], [0]])
    """
    _check_items(n_items)
    both = co_occurrence(sequences, n_items)
    lengths = np.sqrt(np.diag(both))
    np.fill_diagonal(both, 0.0)
    cosines = (both / (np.outer(lengths, lengths) + shrink + 1e-6)).astype(np.float32)
    return strongest(Neighbors(None, FloatRows(cosines)), count)


def _check_items(n_items: int) -> None:
    if n_items > MAX_ITEMS:
        raise InputError(f"{n_items:,} items: weights of all pairs are solved for at most {MAX_ITEMS:,}")


def strongest(neighbors: Neighbors, count: int) -> Neighbors:
    """Of each item the `count` neighbours of the largest weights, by size and not by sign, in the order of their rows.

    Weights are restored to float32; fewer where there are no more.
    """
    weights = neighbors.weights.lookup(np.arange(neighbors.n_items))  # (N, K)
    count = min(count, neighbors.count)
    order = np.argsort(-np.abs(weights), axis=1, kind="stable")[:, :count]  # (N, count)
    rows = order if neighbors.rows is None else np.take_along_axis(neighbors.rows, order, axis=1)
    by_row = np.argsort(rows, axis=1, kind="stable")
    rows = np.take_along_axis(rows, by_row, axis=1).astype(row_dtype(neighbors.n_items))
    kept = np.take_along_axis(weights, np.take_along_axis(order, by_row, axis=1), axis=1)
    return Neighbors(rows, FloatRows(kept))


def from_columns(
    indptr: NDArray[np.int64], indices: NDArray[np.int64], data: Floats, n_items: int
) -> Neighbors:
    """The neighbours of a sparse matrix by columns (CSC): column i, what speaks for item i, has `indices` and `data`.

    Args:
        indptr: int64 (N + 1,), ascending from 0; indices: int64 (E,), rows of neighbours; data: float32 (E,).
    """
    counts = np.diff(indptr)
    count = max(int(counts.max(initial=0)), 1)
    rows = np.zeros((n_items, count), row_dtype(n_items))
    weights = np.zeros((n_items, count), np.float32)
    item = np.repeat(np.arange(n_items), counts)  # (E,)
    place = np.arange(len(indices)) - np.repeat(indptr[:-1], counts)  # (E,)
    rows[item, place], weights[item, place] = indices, data
    return Neighbors(rows, FloatRows(weights))


def spread(neighbors: Neighbors) -> Neighbors:
    """The same weights with all items as neighbours, float32 (N, N): 4 bytes a pair of items."""
    weights = neighbors.weights.lookup(np.arange(neighbors.n_items))  # (N, K)
    if neighbors.rows is not None:
        kept, weights = weights, np.zeros((neighbors.n_items, neighbors.n_items), np.float32)
        rows = np.arange(neighbors.n_items)[:, None]
        np.add.at(
            weights, (rows, neighbors.rows), kept
        )  # places left over point at item 0, with weights of 0
    return Neighbors(None, FloatRows(weights))
