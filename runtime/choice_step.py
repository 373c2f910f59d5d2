"""One choice moves the weights of a multinomial logit: a Newton step whose memory only grows.

    p = softmax of the list,   mu = sum p z
    H <- H + v (sum p z z' - mu mu'),   delta <- delta + v H^-1 (z_chosen - mu)

z are the list's expert columns, v is what the event counts (1 for a click). A step that is not finite is not made.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def choice_step(
    delta: Floats, information: Floats, features: Floats, q: Floats, item: int, weight: float = 1.0
) -> tuple[Floats, Floats]:
    """The next (delta, H), new arrays.

    Args:
        delta: float64 (K,).
        information: H, float64 (K, K), positive definite.
        features: float64 (C, K).
        q: float64 (C,), of sum 1.
        item: which of the C was chosen.
        weight: of the event.

    >>> delta, _ = choice_step(np.zeros(1), np.eye(1), np.array([[1.0], [-1.0]]), np.array([0.5, 0.5]), 0)
    >>> delta.tolist()  # H = 1 + 1, z - mu = 1
    [0.5]
    """
    mean = q @ features
    centered = features - mean
    grown = (centered.T * q) @ centered
    step = centered[item]
    if weight != 1.0:
        grown *= weight
        step *= weight
    grown += information
    moved = delta + np.linalg.solve(grown, step)
    return (moved, grown) if math.isfinite(float(moved @ moved)) else (delta, information)


def softmax(logits: Floats) -> Floats:
    """float64 (C,) of sum 1."""
    q = np.exp(logits - np.maximum.reduce(logits))
    q /= np.add.reduce(q)  # the ufuncs themselves: the methods of an array cost a microsecond more, each
    return q
