"""A square sparse matrix of item-item weights in a checkpoint, as `pickled_arrays` read it: NAME.csc.indptr and the like.

Indices come from a file and index memory: each is compared with the sizes before anything is made from them.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import InputError
from ...runtime.neighbors import Neighbors
from ..models.item_item import from_columns
from .weights import Weights

PARTS = ("indptr", "indices", "data", "shape")
MAX_CELLS = 1 << 31
"""Items times the neighbours of the item that has most: what `Neighbors` stores, 6 bytes each."""


def sparse_kind(keys: Collection[str], name: str) -> str | None:
    """`csc` or `csr`, by columns or by rows; None where there is no such matrix."""
    return next((kind for kind in ("csc", "csr") if f"{name}.{kind}.indptr" in keys), None)


def take_sparse(weights: Weights, name: str) -> Neighbors:
    """The neighbours of each column but the first, which pads, as its row does.

    Raises:
        InputError: a part is missing, the matrix is not square, or an index lies outside.
    """
    kind = sparse_kind(weights.unused, name)
    key = f"{name}.{kind}"
    shape = weights.take_integers(f"{key}.shape", (2,)).tolist()
    n_rows = shape[0]
    if shape != [n_rows, n_rows] or n_rows < 2:
        raise InputError(
            f"{weights.path}: {name} has shape {tuple(shape)}, expected one row and column an item"
        )
    indptr = weights.take_integers(f"{key}.indptr", (None,)).numpy()
    if len(indptr) != n_rows + 1:
        raise InputError(
            f"{weights.path}: {key}.indptr has {len(indptr)} values for {n_rows} items; expected {n_rows + 1}"
        )
    indices = weights.take_integers(f"{key}.indices", (None,)).numpy()
    data = weights.take(f"{key}.data", (len(indices),)).numpy()
    _check(weights, key, indptr, indices, n_rows)
    of_axis = np.repeat(
        np.arange(n_rows), np.diff(indptr)
    )  # which column (csc) or row (csr) each value is of
    column, row = (of_axis, indices) if kind == "csc" else (indices, of_axis)
    kept = np.flatnonzero((column > 0) & (row > 0))
    kept = kept[np.lexsort((row[kept], column[kept]))]
    counts = np.bincount(column[kept] - 1, minlength=n_rows - 1)
    if (n_rows - 1) * int(counts.max(initial=0)) > MAX_CELLS:
        raise InputError(
            f"{weights.path}: {name} has an item with {int(counts.max())} neighbours among {n_rows - 1} items; "
            f"expected at most {MAX_CELLS // (n_rows - 1)}"
        )
    ends = np.concatenate([[0], np.cumsum(counts)])
    return from_columns(ends, row[kept] - 1, data[kept], n_rows - 1)


def _check(
    weights: Weights, key: str, indptr: NDArray[np.int64], indices: NDArray[np.int64], n_rows: int
) -> None:
    if indptr[0] != 0 or indptr[-1] != len(indices) or (np.diff(indptr) < 0).any():
        raise InputError(
            f"{weights.path}: {key}.indptr does not run from 0 to {len(indices)}; the file is damaged, save it again"
        )
    if len(indices) and not (indices.min() >= 0 and indices.max() < n_rows):
        raise InputError(
            f"{weights.path}: {key}.indices run from {indices.min()} to {indices.max()}, expected 0 to {n_rows - 1}; "
            "the file is damaged, save it again"
        )
