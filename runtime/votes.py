"""Several opinions of one list, brought together.

    standardized   z = (s - mean) / deviation over the list
    Borda          the share of the other candidates that are ranked lower; a tie counts half    de Borda 1781
    reciprocal     1 / (60 + rank)                              Cormack, Clarke and Buettcher 2009 (SIGIR)

Whoever does not know a candidate says nothing of it: the mean of the first two, and no term in the third, as where a
retriever did not return a document.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
RRF_CONSTANT = 60
"""k of the paper, section 2: what the first ranks count beside the later."""


def standardized(scores: Floats) -> Floats:
    """float64 (C,), NaN or infinite where nothing is known -> mean 0, deviation 1, 0 for what is not known.

    >>> standardized(np.array([1.0, 3.0, np.nan])).round(6).tolist()
    [-1.0, 1.0, 0.0]
    """
    known = np.isfinite(scores)
    values = np.zeros(len(scores))
    if known.any():
        largest = np.abs(scores[known]).max() or 1.0  # so that the square of 1e300 is not infinite
        scaled = scores[known] / largest
        deviation = scaled.std()
        if deviation > 1e-9:
            values[known] = (scaled - scaled.mean()) / deviation
    return values


def borda(scores: Floats) -> Floats:
    """float64 (C,) -> from 0 to 1, 1/2 for what is not known.

    >>> borda(np.array([5.0, 1.0, 5.0, np.nan])).tolist()
    [0.75, 0.0, 0.75, 0.5]
    """
    known = np.isfinite(scores)
    points = np.full(len(scores), 0.5)
    among = np.sort(scores[known])
    if len(among) > 1:
        lower = np.searchsorted(among, scores[known], side="left")
        not_higher = np.searchsorted(among, scores[known], side="right") - 1  # without itself
        points[known] = (lower + not_higher) / 2 / (len(among) - 1)
    return points


def reciprocal_ranks(scores: Floats) -> Floats:
    """float64 (C,) -> 1 / (60 + rank), ties towards the earlier; 0 for what is not known.

    >>> (1 / reciprocal_ranks(np.array([1.0, 3.0, 2.0]))).tolist()
    [63.0, 61.0, 62.0]
    """
    known = np.flatnonzero(np.isfinite(scores))
    values = np.zeros(len(scores))
    order = known[np.argsort(-scores[known], kind="stable")]
    values[order] = 1.0 / (RRF_CONSTANT + 1 + np.arange(len(order)))
    return values
