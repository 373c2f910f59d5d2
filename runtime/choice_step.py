"""One choice moves the weights of a multinomial logit: a Newton step whose memory only grows.

    p = softmax of the list,   mu = sum p z
    H <- H + v (sum p z z' - mu mu'),   delta <- delta + v H^-1 (z_chosen - mu)

z are the list's expert columns, v is what the event counts (1 for a click). A step that is not finite is not made.

`kalman_step` takes g g' for the list's covariance, g = z_chosen - mu: the same in expectation under p (the empirical Fisher
information). Then P = H^-1 follows by Sherman and Morrison, without a system to solve and without the list's columns:

    P <- P - v P g g' P / (1 + v g' P g),   delta <- delta + v P g
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
AnyFloat = TypeVar("AnyFloat", np.float32, np.float64)
_FAR_ABOVE = np.float32(80.0)
_ONES = np.ones(512, np.float32)  # made once: a product with them sums faster than a reduction
_TOO_MUCH = math.exp(79.0)  # a sum that may have a term that was cut; float32 goes to exp(88)


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


def kalman_step(
    delta: Floats, covariance: Floats, surprise: NDArray[AnyFloat], weight: float = 1.0
) -> tuple[Floats, Floats]:
    """The next (delta, P), new arrays; the same ones where the step is not finite, or P is no covariance any more.

    Args:
        delta: float64 (K,).
        covariance: P, float64 (K, K), symmetric and positive definite.
        surprise: g, float (K,): the chosen item's columns less the list's mean.
        weight: of the event.

    >>> kalman_step(np.zeros(1), np.eye(1), np.array([1.0]))  # P = 1 / (1 + 1)
    (array([0.5]), array([[0.5]]))
    """
    carried = covariance.dot(surprise)
    length = float(carried.dot(surprise))
    if not 0.0 <= length < math.inf:
        return delta, covariance
    carried_part = carried * (weight / (1.0 + weight * length))
    return delta + carried_part, covariance - carried_part[:, None] * carried


def choice_odds(logits: NDArray[np.float32], item: int) -> tuple[NDArray[np.float32], list[float]]:
    """The first row's softmax, float32 (C,), and each row's logarithm of the probability of `item`; not finite where a logit is not.

    Relative to the item rather than to the largest, which would have to be found: a reduction costs as much as all of the
    rest. Where the largest is too far above, it is found after all.

    Args:
        logits: float32 (n, C).

    >>> q, logs = choice_odds(np.log([[1.0, 3.0], [1.0, 1.0]], dtype=np.float32), 0)
    >>> q.round(2).tolist(), np.exp(logs).round(2).tolist()
    ([0.25, 0.75], [0.25, 0.5])
    """
    relative = logits - logits[:, item : item + 1]
    odds = np.exp(np.minimum(relative, _FAR_ABOVE))
    count = odds.shape[1]
    sums = odds.dot(_ONES[:count] if count <= len(_ONES) else np.ones(count, np.float32))
    logs = [-math.log(total) if total < _TOO_MUCH else math.nan for total in sums.tolist()]
    if not math.isfinite(sum(logs)):
        relative -= np.maximum.reduce(relative, axis=1, keepdims=True)
        odds = np.exp(relative)
        sums = np.add.reduce(odds, axis=1)
        logs = (relative[:, item] - np.log(sums)).tolist()
    return odds[0] / sums[0], logs


def softmax(logits: Floats) -> Floats:
    """float64 (C,) of sum 1."""
    q = np.exp(logits - np.maximum.reduce(logits))
    q /= np.add.reduce(q)  # the ufuncs themselves: the methods of an array cost a microsecond more, each
    return q
