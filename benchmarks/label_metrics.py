"""How well probabilities fit labels, and what can be said about the difference of two systems on the same rows.

    AUC       the probability that a positive row scores above a negative one, ties half: the Mann-Whitney statistic,
              from ranks (Hanley and McNeil 1982):  (sum of the positives' mean ranks - P (P + 1) / 2) / (P N)
    log loss  -mean( y log p + (1 - y) log(1 - p) ), p cut to [1e-7, 1 - 1e-7]; lower is better
    MAE, RMSE of numbers predicted, where labels are ratings

Intervals are percentile bootstrap over rows, two systems on the same resamples. An AUC of a resample needs no sorting:
rows are sorted once, a resample is how often each row was drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ranking_metrics import Interval, PairedComparison

Array = NDArray[np.floating[Any]]
EPSILON = 1e-7


def auc(labels: Array, scores: Array, weights: Array | None = None) -> float:
    """AUC of scores (n,) for labels 0 and 1 (n,); `weights` say how often each row counts. NaN without either label.

    >>> auc(np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.1, 0.4, 0.35, 0.8]))
    1.0
    >>> auc(np.array([0.0, 1.0]), np.array([0.5, 0.5]))
    0.5
    """
    order = np.argsort(scores, kind="stable")
    return _sorted_auc(
        labels[order], scores[order], np.ones(len(order)) if weights is None else weights[order]
    )


def _sorted_auc(labels: Array, scores: Array, weights: Array) -> float:
    starts = np.flatnonzero(np.diff(scores, prepend=np.nan) != 0)  # of runs of equal scores
    positives = np.add.reduceat(weights * labels, starts) if len(starts) else np.zeros(0)
    negatives = np.add.reduceat(weights * (1 - labels), starts) if len(starts) else np.zeros(0)
    below = np.cumsum(negatives) - negatives
    pairs = positives.sum() * negatives.sum()
    return float((positives * (below + negatives / 2)).sum() / pairs) if pairs > 0 else float("nan")


def row_log_loss(labels: Array, logits: Array) -> NDArray[np.float64]:
    """Log loss of each row from its logit: float64 (n,)."""
    p = np.clip(1 / (1 + np.exp(-np.clip(np.asarray(logits, np.float64), -50, 50))), EPSILON, 1 - EPSILON)
    return -(labels * np.log(p) + (1 - labels) * np.log1p(-p))


def log_loss(labels: Array, logits: Array) -> float:
    """Mean of `row_log_loss`.

    >>> round(log_loss(np.array([1.0, 0.0]), np.zeros(2)), 4)
    0.6931
    """
    return float(row_log_loss(labels, logits).mean())


def mae(values: Array, predicted: Array) -> float:
    """Mean absolute error.

    >>> mae(np.array([1.0, 4.0]), np.array([2.0, 2.0]))
    1.5
    """
    return float(np.abs(np.asarray(values, np.float64) - predicted).mean())


def rmse(values: Array, predicted: Array) -> float:
    """Root of the mean squared error.

    >>> rmse(np.array([1.0, 4.0]), np.array([1.0, 2.0])) == 2**0.5
    True
    """
    return float(np.sqrt(np.square(np.asarray(values, np.float64) - predicted).mean()))


def label_metrics(
    labels: Array, logits: Array, *, n_resamples: int = 200, seed: int = 0
) -> dict[str, Interval]:
    """AUC and log loss, with 95% intervals over rows."""
    return {
        name: _interval(value, samples[:, 0])
        for name, (value, samples) in _resampled(labels, [logits], n_resamples, seed).items()
    }


def compare_logits(
    labels: Array, ours: Array, theirs: Array, *, n_resamples: int = 200, seed: int = 0
) -> dict[str, PairedComparison]:
    """AUC and log loss of `ours` against `theirs` on the same rows: difference and ratio with 95% intervals."""
    found = dict[str, PairedComparison]()
    for name, (_, samples) in _resampled(labels, [ours, theirs], n_resamples, seed).items():
        metric = _METRICS[name]
        a, b = metric(labels, ours), metric(labels, theirs)
        found[name] = PairedComparison(
            difference=_interval(a - b, samples[:, 0] - samples[:, 1]),
            ratio=_interval(a / b if b else float("nan"), samples[:, 0] / samples[:, 1]),
        )
    return found


_METRICS: dict[str, Callable[[Array, Array], float]] = {"auc": auc, "log_loss": log_loss}


def _resampled(
    labels: Array, systems: list[Array], n_resamples: int, seed: int
) -> dict[str, tuple[float, NDArray[np.float64]]]:
    """Each metric's value for the first system, and of each resample for all of them: float64 (R, S)."""
    if len(labels) == 0:
        raise ValueError("labels: no rows, expected at least one")
    random = np.random.default_rng(seed)
    orders = [np.argsort(logits, kind="stable") for logits in systems]
    losses = np.stack([row_log_loss(labels, logits) for logits in systems], 1)  # (n, S)
    found = {name: np.empty((n_resamples, len(systems))) for name in _METRICS}
    for n in range(n_resamples):
        weights = np.bincount(random.integers(0, len(labels), len(labels)), minlength=len(labels)).astype(
            float
        )
        found["log_loss"][n] = weights @ losses / len(labels)
        found["auc"][n] = [
            _sorted_auc(labels[order], logits[order], weights[order])
            for order, logits in zip(orders, systems, strict=True)
        ]
    return {name: (metric(labels, systems[0]), found[name]) for name, metric in _METRICS.items()}


def _interval(value: float, samples: NDArray[np.float64]) -> Interval:
    samples = samples[np.isfinite(samples)]
    if not len(samples):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(samples, [0.025, 0.975])
    return Interval(value, float(low), float(high))
