"""Exact top-k of a long score vector without sorting it.

The scores are cut into blocks of 128. The k blocks with the largest maxima hold the k largest scores: a score outside
them is at most the maximum of its block, and k blocks have a maximum at least as large. So only k * 128 scores are
looked at closely. Ties are broken towards the lower row, so the result does not depend on the blocking.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 128


def top_k(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Rows of the k largest scores, best first: float32 (N,) -> int64 (min(k, N),).

    Scores of -inf rank last and NaN is not allowed (the engine never makes one).

    >>> top_k(np.array([0.1, 0.9, 0.5, 0.9], np.float32), 3)
    array([1, 3, 2])
    """
    n = len(scores)
    k = min(k, n)
    if k <= 0:
        return np.empty(0, np.int64)
    n_blocks = n // BLOCK
    if n_blocks <= 2 * k:  # most blocks would be chosen anyway
        return _sorted_best(scores, np.arange(n), k)
    body = scores[: n_blocks * BLOCK].reshape(n_blocks, BLOCK)
    maxima = body.max(axis=1)
    threshold = np.partition(maxima, n_blocks - k)[n_blocks - k]
    blocks = np.flatnonzero(maxima >= threshold)  # more than k only where maxima tie
    rows = (blocks[:, None] * BLOCK + np.arange(BLOCK)).ravel()
    rows = np.concatenate([rows, np.arange(n_blocks * BLOCK, n)])
    return _sorted_best(scores[rows], rows, k)


def _sorted_best(scores: NDArray[np.float32], rows: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    if k < len(scores):
        threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
        chosen = np.flatnonzero(scores >= threshold)
    else:
        chosen = np.arange(len(scores))
    order = chosen[np.argsort(-scores[chosen], kind="stable")][:k]
    return rows[order]
