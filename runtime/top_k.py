"""Exact top-k of a long score vector without sorting it.

The scores are cut into n blocks of 32, score j of each going to block j mod n, so that the maxima of all blocks are a
chain of long vector maxima. The k blocks with the largest maxima hold the k largest scores: a score outside them is at
most the maximum of its block, and k blocks have a maximum at least as large. So only k * 32 scores are looked at
closely. Ties are broken towards the lower row, so the result does not depend on the blocking.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

BLOCK = 32  # of 8 to 128 about the fastest for k of 10 and of 100, and lists of 10,000 to 1,000,000
_ROWS_AT_ONCE = 8192  # of a table, unpacked: 2 MB at width 64


def top_k(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Rows of the k largest scores, best first: float32 (N,) -> int64 (min(k, N),).

    Scores of -inf rank last and NaN is not allowed (the engine never makes one).

    >>> top_k(np.array([0.1, 0.9, 0.5, 0.9], np.float32), 3)
    array([1, 3, 2])
    """
    rows, found = _at_least_kth(scores, k, 0.0)
    return rows[np.argsort(-found, kind="stable")[: max(k, 0)]]


def exact_top_k(
    scores: NDArray[np.float32],
    k: int,
    rounding: float,
    exact: Callable[[NDArray[np.int64]], NDArray[np.float32]],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k largest by exact scores, of scores (N,) that are known to within `rounding`: rows int64 (k,) and scores.

    Args:
        rounding: at most this lies between a score and the exact one; 0: they are exact.
        exact: rows, int64 (n,), to their exact scores, float32 (n,).
    """
    if rounding == 0.0:
        rows = top_k(scores, k)
        return rows, scores[rows]
    rows = contenders(scores, k, 2 * rounding)
    pieces = [exact(rows[start : start + _ROWS_AT_ONCE]) for start in range(0, len(rows), _ROWS_AT_ONCE)]
    found = pieces[0] if len(pieces) == 1 else np.concatenate(pieces or [scores[:0]])
    order = np.argsort(-found, kind="stable")[: max(k, 0)]  # of few rows, in ascending order
    return rows.take(order), found.take(order)


def contenders(scores: NDArray[np.float32], k: int, slack: float) -> NDArray[np.int64]:
    """Rows of all scores of at least the k-th largest minus `slack`, ascending: float32 (N,) -> int64 (k or more,).

    Where each score is known to within half of the slack, these hold the k best.

    >>> contenders(np.array([0.1, 0.9, 0.5, 0.8], np.float32), 1, 0.2)
    array([1, 3])
    """
    return _at_least_kth(scores, k, slack)[0]


def _at_least_kth(
    scores: NDArray[np.float32], k: int, slack: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows, ascending, and their scores."""
    n = len(scores)
    k = min(k, n)
    if k <= 0:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    n_blocks = n // BLOCK
    if n_blocks <= 2 * k:  # most blocks would be chosen anyway
        rows = np.flatnonzero(scores >= _kth(scores, k) - slack)
        return rows, scores[rows]
    body = scores[: n_blocks * BLOCK].reshape(BLOCK, n_blocks)
    maxima = body.max(axis=0)
    blocks = np.flatnonzero(maxima >= _kth(maxima, k) - slack)
    near = np.concatenate([body.take(blocks, axis=1).ravel(), scores[n_blocks * BLOCK :]])
    chosen = np.flatnonzero(near >= _kth(near, k) - slack)
    # place p of `near` is score p // len(blocks) of block p % len(blocks); the tail follows the blocks as it does the body
    place, column = np.divmod(chosen, len(blocks))
    rows = place * n_blocks + blocks.take(column)
    if n_blocks * BLOCK < n:
        tail = chosen >= BLOCK * len(blocks)
        rows[tail] = chosen[tail] + BLOCK * (n_blocks - len(blocks))
    return rows, near.take(chosen)


def _kth(scores: NDArray[np.float32], k: int) -> np.float32:
    """The k-th largest."""
    ordered, at = scores.copy(), len(scores) - k
    ordered.partition(at)
    return ordered[at]
