"""How long one call takes, for several systems at once.

All systems answer the same questions in the same run, in turns: system A's call, B's call, A's next call,
... with the first of each round moving on, so that whatever the machine does meanwhile hits all alike.
Before each timed call the same system makes one that is not timed: neither the caches nor the spinning
threads that the other system left behind count. A monotonic clock; the garbage collector rests while
timing.

Quantiles come with distribution-free intervals from order statistics: the number of calls below the
q-quantile is Binomial(n, q) (David and Nagaraja, Order Statistics, sec. 7.1). With too few calls the upper
end of a high quantile does not exist, and is None. A speed-up is the ratio of the medians, with a bootstrap
interval over rounds; a winner is named only where the intervals of the two medians do not overlap. Both
assume that rounds are independent: on a busy machine they are not quite, and the truth is wider.
"""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .ranking_metrics import Interval

System = TypeVar("System")
Call = Callable[[], object]

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How often to call."""

    n_rounds: int = 400
    """Timed calls of each system; 400 are enough for an interval of p99."""
    n_warmup: int = 10
    """Untimed calls of each system at the start: sessions are made, pages are mapped."""
    max_seconds: float = 20.0
    """A limit for one operation over all systems; reached, at least `min_rounds` were timed."""
    min_rounds: int = 20

    def __post_init__(self) -> None:
        if self.n_rounds < 1 or self.min_rounds < 1 or self.n_warmup < 0:
            raise ValueError(f"timing: {self}, expected at least one round and no negative number")


def time_interleaved(
    systems: Mapping[str, System],
    prepare: Callable[[System, int], Call],
    timing: Timing,
    *,
    progress: Callable[[int], object] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Milliseconds of each call: system -> float64 (n,), the n-th entries of all systems being of the same round.

    Args:
        systems: what to time, by name.
        prepare: makes the call of a round for a system; not timed itself.
        timing: how often.
        progress: called with 1 after each timed round.
    """
    names = list(systems)
    samples: dict[str, list[int]] = {name: [] for name in names}
    for n in range(timing.n_warmup):
        for name in names:
            prepare(systems[name], n)()
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        deadline = time.perf_counter() + timing.max_seconds
        for n in range(timing.n_rounds):
            if n >= timing.min_rounds and time.perf_counter() > deadline:
                break
            for turn in range(len(names)):
                name = names[(n + turn) % len(names)]
                prepare(systems[name], n)()
                call = prepare(systems[name], n)
                began = time.perf_counter_ns()
                call()
                samples[name].append(time.perf_counter_ns() - began)
            if progress is not None:
                progress(1)
    finally:
        if collecting:
            gc.enable()
    return {name: np.array(nanoseconds) / 1e6 for name, nanoseconds in samples.items()}


@contextlib.contextmanager
def settled_heap() -> Generator[None]:
    """Collect once and set aside what is alive, so that the many collections of a long measurement cost nothing."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def summarize(samples_ms: NDArray[np.float64], confidence: float = 0.95) -> dict[str, Any]:
    """Quantiles with intervals, mean, maximum, calls per second, and the distribution itself as 101 percentiles."""
    ordered = np.sort(samples_ms)
    return {
        "n": len(ordered),
        **{name: quantile_interval(ordered, q, confidence).to_json() for name, q in QUANTILES.items()},
        "mean_ms": float(ordered.mean()),
        "max_ms": float(ordered[-1]),
        "per_second": float(1000.0 / ordered.mean()),
        "percentiles_ms": [round(float(value), 6) for value in np.percentile(ordered, range(101))],
    }


def quantile_interval(ordered: NDArray[np.float64], q: float, confidence: float = 0.95) -> Interval:
    """The q-quantile of sorted values (n,) with its interval; NaN where the values are too few for an end.

    >>> quantile_interval(np.arange(1.0, 101.0), 0.5)
    Interval(value=50.5, low=40.0, high=61.0)
    >>> quantile_interval(np.arange(1.0, 21.0), 0.99).high
    nan
    """
    n, tail = len(ordered), (1.0 - confidence) / 2.0
    below = np.cumsum([_binomial(n, count, q) for count in range(n)])  # P(B <= count)
    low_at = int(np.searchsorted(below, tail, side="right"))  # 1-based index of the lower order statistic
    high_at = int(np.searchsorted(below, 1.0 - tail, side="left")) + 1
    low = float(ordered[low_at - 1]) if low_at >= 1 else float("nan")
    high = float(ordered[high_at - 1]) if high_at <= n else float("nan")
    value = float(np.quantile(ordered, q))
    # Of very few values, interpolation may leave the interval: the largest of 20 is a better p99 than that.
    return Interval(float(np.fmin(np.fmax(value, low), high)), low, high)


@dataclass(frozen=True, slots=True)
class SpeedUp:
    """One system against the reference, same operation, same rounds."""

    ratio: Interval
    """Median of the reference / median of the system: above 1 the system is faster."""
    told_apart: bool
    """Whether the intervals of the two medians do not overlap. Where they do, no winner is named."""

    def to_json(self) -> dict[str, Any]:
        return {"ratio": self.ratio.to_json(), "told_apart": self.told_apart}


def compare(
    samples_ms: NDArray[np.float64],
    reference_ms: NDArray[np.float64],
    *,
    confidence: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> SpeedUp:
    """How many times faster `samples_ms` (n,) are than `reference_ms` (n,), call by call of the same rounds."""
    n = len(samples_ms)
    rounds = np.random.default_rng(seed).integers(0, n, size=(n_resamples, n))
    ratios = np.median(reference_ms[rounds], axis=1) / np.median(samples_ms[rounds], axis=1)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(ratios, [tail, 1.0 - tail])
    medians = [quantile_interval(np.sort(values), 0.5, confidence) for values in (samples_ms, reference_ms)]
    ratio = float(np.median(reference_ms) / np.median(samples_ms))
    return SpeedUp(Interval(ratio, float(low), float(high)), told_apart=not medians[0].overlaps(medians[1]))


def _binomial(n: int, count: int, q: float) -> float:
    """P(Binomial(n, q) = count), by logarithms: the coefficients overflow a float from n = 1030 on."""
    coefficient = math.lgamma(n + 1) - math.lgamma(count + 1) - math.lgamma(n - count + 1)
    return math.exp(coefficient + count * math.log(q) + (n - count) * math.log1p(-q))
