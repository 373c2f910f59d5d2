"""Rows of the results' `latency`: one operation, all systems in turns, each beside the reference.

A row holds what `latency.summarize` says of a system and, for every system but the reference, `speedup` over it; its
`batch` is how many histories one call answers, and its `per_second` counts histories.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .latency import Call, Timing, compare, summarize, time_interleaved
from .progress import Track

FEW_ROUNDS = 40
"""Of calls that are slow and vary little, such as loads and large batches."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing to time; `size` is the number of candidates, of items returned, or of histories."""

    name: str
    size: int | None
    prepare: Callable[[Any, int], Call]
    batch: int = 1
    """Histories that one call answers."""
    slow: bool = False
    """Timed in fewer rounds, after one warm-up: `load` and `load_cold`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyRows:
    """Times operations and keeps their rows."""

    timing: Timing
    reference: str | None
    device: str
    seed: int
    track: Track
    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def measure(self, operation: Operation, systems: Mapping[str, Any], threads: int) -> None:
        """Time one operation of all systems, interleaved, and add a row for each."""
        timing = self._timing(operation)
        title = f"{operation.name} {operation.size or ''}".strip() + f", threads {threads}"
        with self.track(title, timing.n_rounds) as advance:
            samples = time_interleaved(systems, operation.prepare, timing, progress=advance)
        for name, samples_ms in samples.items():
            of = {"operation": operation.name, "size": operation.size, "batch": operation.batch}
            of |= {"threads": threads, "system": name, "device": self.device}
            summary = summarize(samples_ms)
            summary["per_second"] *= operation.batch
            self.rows.append({**of, **summary, "speedup": self._speedup(name, samples_ms, samples)})

    def _timing(self, operation: Operation) -> Timing:
        n_rounds = self.timing.n_rounds
        if operation.slow:
            return replace(self.timing, n_rounds=min(n_rounds, FEW_ROUNDS), n_warmup=1)
        return replace(self.timing, n_rounds=min(n_rounds, max(FEW_ROUNDS, n_rounds // operation.batch)))

    def _speedup(
        self, name: str, samples_ms: NDArray[np.float64], samples: Mapping[str, NDArray[np.float64]]
    ) -> dict[str, Any] | None:
        if self.reference is None or name == self.reference:
            return None
        return compare(samples_ms, samples[self.reference], seed=self.seed).to_json()
