"""What pickles as scipy's sparse matrices do, without scipy."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np


def sparse_matrix(kind: str, shape: Any, **arrays: Any) -> Any:
    """An object of a class that goes by the name of `csr_matrix` or `csc_matrix`; use with `no_scipy_left_behind`."""
    module = types.ModuleType(f"scipy.sparse._{kind}")
    made = type(f"{kind}_matrix", (), {"__module__": module.__name__})
    setattr(module, f"{kind}_matrix", made)
    known = getattr(sys.modules.setdefault(module.__name__, module), f"{kind}_matrix")
    matrix = known.__new__(known)
    matrix.__dict__.update(arrays, _shape=shape, maxprint=50)
    return matrix


def sparse(matrix: np.ndarray, kind: str) -> Any:
    """What scipy makes of a matrix, by columns (csc) or by rows (csr)."""
    by = matrix.T if kind == "csc" else matrix
    along, across = np.nonzero(by)
    return sparse_matrix(
        kind,
        matrix.shape,
        indptr=np.concatenate([[0], np.cumsum(np.bincount(along, minlength=len(by)))]).astype(np.int32),
        indices=across.astype(np.int32),
        data=by[along, across],
    )
