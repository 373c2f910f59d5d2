"""One choice moves the weights of a multinomial logit: a Newton step whose memory only grows.

    p = softmax of the list,   mu = sum p z
    H <- H + v (sum p z z' - mu mu'),   delta <- delta + v H^-1 (z_chosen - mu)

z are the list's expert columns, v is what the event counts (1 for a click). A step that is not finite is not made.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
AnyFloat = TypeVar("AnyFloat", np.float32, np.float64)


def choice_step(
    delta: Floats,
    information: Floats,
    features: NDArray[AnyFloat],
    q: NDArray[AnyFloat],
    item: int,
    weight: float = 1.0,
) -> tuple[Floats, Floats]:
    """The next (delta, H), new arrays.

    Args:
        delta: float64 (K,).
        information: H, float64 (K, K), positive definite.
        features: float (C, K).
        q: float (C,), of sum 1.
        item: which of the C was chosen.
        weight: of the event.

    >>> delta, _ = choice_step(np.zeros(1), np.eye(1), np.array([[1.0], [-1.0]]), np.array([0.5, 0.5]), 0)
    >>> delta.tolist()  # H = 1 + 1, z - mu = 1
    [0.5]
    """
    centered = features - q.dot(features)
    seen, step = (centered.T * q).dot(centered), centered[item]
    if weight != 1.0:
        seen *= weight
        step *= weight
    grown = information + seen
    moved = delta + np.linalg.solve(grown, step)
    return (moved, grown) if math.isfinite(float(moved.dot(moved))) else (delta, information)


def softmax(logits: NDArray[AnyFloat]) -> NDArray[AnyFloat]:
    """Of each row, or of one: float (..., C) of sum 1."""
    # the ufuncs themselves: the methods of an array cost a microsecond more, each
    q = logits - np.maximum.reduce(logits, axis=-1, keepdims=True)
    np.exp(q, out=q)
    q /= np.add.reduce(q, axis=-1, keepdims=True)
    return q
