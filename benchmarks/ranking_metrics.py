"""Ranking metrics with one relevant item per user, from ranks, and what can be said about a difference.

A rank is 1 for the best. With r the rank of the target among the candidates:

    HR@k = [r <= k]        NDCG@k = [r <= k] / log2(r + 1)        MRR@k = [r <= k] / r

(the ideal DCG is 1 because one item is relevant), and the figure of a system is the mean over users. Ties are
broken against the model: r = 1 + the number of other candidates whose score is not smaller than the target's.
A score that is not a number therefore counts as lost, never as won.

Intervals are percentile bootstrap over users (Efron and Tibshirani, An Introduction to the Bootstrap, ch.
13). A metric at k takes at most k + 1 values, so resampling U users with replacement is a multinomial draw
over the few distinct values, or pairs of values, weighted by how many users have them: the same
distribution, without an array of resamples x users. Two systems are compared on the same users (paired),
which cancels most of the spread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

CUTOFFS = (5, 10, 20)


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and its bootstrap interval; NaN where it is not defined (a ratio to zero)."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """NaN and infinity have no place in JSON: they become null."""
        named = {"value": self.value, "low": self.low, "high": self.high}
        return {name: float(number) if np.isfinite(number) else None for name, number in named.items()}

    def overlaps(self, other: Interval) -> bool:
        """Whether the two intervals share a point; intervals that are not defined overlap with everything."""
        return not (self.low > other.high or other.low > self.high)


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """What `paired_bootstrap` found about system `a` against the reference `b`."""

    difference: Interval
    """mean(a) - mean(b)."""
    ratio: Interval
    """mean(a) / mean(b): the share of the reference that is kept."""


def hit_rate(ranks: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """HR@k of each user: float64 (U,)."""
    return (ranks <= k).astype(np.float64)


def ndcg(ranks: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """NDCG@k of each user: float64 (U,)."""
    return np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)


def mrr(ranks: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """MRR@k of each user: float64 (U,)."""
    return np.where(ranks <= k, 1.0 / ranks, 0.0)


METRICS: dict[str, Callable[[NDArray[np.int64], int], NDArray[np.float64]]] = {
    "hr": hit_rate,
    "ndcg": ndcg,
    "mrr": mrr,
}


def per_user(ranks: NDArray[np.int64], name: str) -> NDArray[np.float64]:
    """The metric called `name`, such as "ndcg@10", of each user.

    >>> per_user(np.array([1, 3, 11]), "ndcg@10").tolist()
    [1.0, 0.5, 0.0]
    """
    metric, _, k = name.partition("@")
    return METRICS[metric](ranks, int(k))


def metric_names(cutoffs: Sequence[int] = CUTOFFS) -> list[str]:
    """Every metric at every cutoff: "hr@5", "hr@10", ..., "mrr@20"."""
    return [f"{metric}@{k}" for metric in METRICS for k in cutoffs]


def mean_metrics(ranks: NDArray[np.int64], cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """Mean over users of every metric at every cutoff.

    >>> mean_metrics(np.array([1, 3, 11]), [10])["ndcg@10"]
    0.5
    """
    if len(ranks) == 0:
        raise ValueError("ranks: no users, expected at least one; the protocol left every user out")
    return {name: float(per_user(ranks, name).mean()) for name in metric_names(cutoffs)}


def coverage(top_rows: NDArray[np.integer], n_items: int) -> float:
    """Share of the catalogue that is in somebody's list. top_rows: (U, K), -1 where a list is shorter."""
    shown = np.unique(top_rows)
    return float(np.count_nonzero(shown >= 0)) / n_items


def overlap(top_rows: NDArray[np.integer], reference: NDArray[np.integer]) -> float:
    """Mean share of the reference's list that is in ours too, order ignored: (U, K) against (U, K).

    >>> overlap(np.array([[1, 2], [3, 4]]), np.array([[2, 1], [4, 5]]))
    0.75
    """
    found = (top_rows[:, :, None] == reference[:, None, :]) & (reference[:, None, :] >= 0)
    listed = np.count_nonzero(reference >= 0)
    return float(found.any(axis=1).sum() / listed) if listed else float("nan")


def bootstrap_mean(
    values: ArrayLike, *, n_resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Mean of values (U,) with a percentile interval over users.

    >>> interval = bootstrap_mean(np.array([0.0, 1.0] * 50))
    >>> bool(interval.low < interval.value < interval.high)
    True
    """
    column = np.asarray(values, dtype=np.float64)
    means = _resampled_means(column[:, None], n_resamples, seed)[:, 0]
    return _interval(float(column.mean()), means, confidence)


def paired_bootstrap(
    a: ArrayLike, b: ArrayLike, *, n_resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> PairedComparison:
    """Difference and ratio of the means of a (U,) and b (U,): two systems' metric of the same users.

    >>> same = paired_bootstrap([0.5, 1.0], [0.5, 1.0])
    >>> same.ratio
    Interval(value=1.0, low=1.0, high=1.0)
    """
    pairs = np.stack([np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)], axis=1)  # (U, 2)
    means = _resampled_means(pairs, n_resamples, seed)  # (R, 2)
    mean_a, mean_b = (float(mean) for mean in pairs.mean(axis=0))
    ratios = np.full(n_resamples, np.nan)
    np.divide(means[:, 0], means[:, 1], out=ratios, where=means[:, 1] != 0)
    return PairedComparison(
        difference=_interval(mean_a - mean_b, means[:, 0] - means[:, 1], confidence),
        ratio=_interval(mean_a / mean_b if mean_b else float("nan"), ratios, confidence),
    )


def users_to_tell_apart(a: ArrayLike, b: ArrayLike) -> int | None:
    """How many users a paired comparison would need to find this difference significant, for two systems' metric (U,).

    For a two-sided test at 5% that finds the difference in 80% of repetitions: n = (1.96 + 0.84)^2 var(a - b) /
    mean(a - b)^2 (Cohen, Statistical Power Analysis, 2nd ed., ch. 2, for paired observations). None where the means are equal.

    >>> rng = np.random.default_rng(0)
    >>> base = rng.normal(0.5, 0.1, 5000)
    >>> users_to_tell_apart(base + rng.normal(0.05, 0.1, 5000), base)  # about 7.84 * .1^2 / .05^2
    30
    """
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    mean = differences.mean()
    if mean == 0:
        return None
    return max(2, int(np.ceil((1.96 + 0.84) ** 2 * differences.var() / mean**2)))


def _resampled_means(columns: NDArray[np.float64], n_resamples: int, seed: int) -> NDArray[np.float64]:
    """Means of `n_resamples` resamples of the rows of columns (U, S): float64 (R, S)."""
    if len(columns) == 0:
        raise ValueError("bootstrap: no users, expected at least one")
    cells, users = np.unique(columns, axis=0, return_counts=True)  # (V, S), (V,)
    draws = np.random.default_rng(seed).multinomial(len(columns), users / len(columns), size=n_resamples)
    return draws @ cells / len(columns)


def _interval(value: float, resampled: NDArray[np.float64], confidence: float) -> Interval:
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(resampled, [tail, 1.0 - tail])
    return Interval(value, float(low), float(high))
