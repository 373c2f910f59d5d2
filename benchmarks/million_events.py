"""One user for a very long life: is memory flat, is there ever a NaN, is the ranking still a ranking?

    python -m pocketrec.benchmarks.million_events model.pocket --events 1000000 --json benchmarks/results/state/million-events.json

One user of the bundle clicks for ever: items of a taste that changes every `TASTE_EVENTS` events, now and then a dismissal, a
click on an item that the bundle does not know, an observed event, a ranking of 100 candidates with server scores among
which some are NaN or infinite. At `CHECKS` moments:

    memory   resident memory of the process; over the last events also what Python allocated (`tracemalloc`)
    state    every learned number is finite; the file is at most 40 KiB
    ranking  100 candidates come back, each once, by falling finite scores; also after saving and loading, the same to the bit

Memory is flat if, from a tenth of the way on, the process grew by less than `FLAT_BYTES`, and Python's own allocations by
less than a tenth of that.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from ..runtime.reranker import Reranker
from ..runtime.user import User
from .measurement_file import write_measurement

TASTE_EVENTS = 500
TASTE_ITEMS = 40
CHECKS = 100
FLAT_BYTES = 4 << 20
LARGEST_STATE_BYTES = 40 << 10
TRACED_EVENTS = 10_000
"""Events at the end that run under `tracemalloc`, which slows them down severalfold; at most a tenth of all."""
RANK_EVERY = 20
N_CANDIDATES = 100


def main(argv: Sequence[str] | None = None) -> int:
    """The module as a command: 0, or 1 where something of the above does not hold."""
    parser = argparse.ArgumentParser(prog="python -m pocketrec.benchmarks.million_events", allow_abbrev=False)
    parser.add_argument("bundle", metavar="BUNDLE")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    ranker = Reranker.load(args.bundle)
    results = live_long(ranker, args.events, seed=args.seed)
    settings = {
        "bundle": Path(args.bundle).name,
        "fingerprint": ranker.engine.bundle.fingerprint,
        "events": args.events,
        "seed": args.seed,
    }
    write_measurement(args.json, "million_events", settings, results)
    return 0 if results["holds"] else 1


def live_long(ranker: Reranker, n_events: int, *, seed: int = 0) -> dict[str, Any]:
    """One user's `n_events`; what was found."""
    life = _Life(ranker, seed)
    n_traced = min(TRACED_EVENTS, n_events // 10)
    every = max((n_events - n_traced) // CHECKS, 1)
    started = time.perf_counter()
    resident: list[int] = []
    for number in range(n_events - n_traced):
        life.event()
        if (number + 1) % every == 0:
            life.check()
            gc.collect()
            resident.append(psutil.Process().memory_info().rss)
    seconds = time.perf_counter() - started
    traced_bytes = _traced_growth(life, n_traced)
    settled = resident[len(resident) // 10 :]
    grown = max(settled[len(settled) // 2 :]) - settled[0]
    return {
        "events": n_events,
        "rankings": life.n_rankings,
        "checks": life.n_checks,
        "seconds": seconds,
        "us_per_event": seconds / max(n_events - n_traced, 1) * 1e6,
        "resident_bytes": resident,
        "resident_growth_bytes": grown,
        "traced_events": n_traced,
        "traced_growth_bytes": traced_bytes,
        "largest_state_bytes": life.largest_state_bytes,
        "problems": life.problems[:10],
        "holds": not life.problems and grown < FLAT_BYTES and traced_bytes < FLAT_BYTES / 10,
    }


class _Life:
    """A user and what happens to them; every number follows from the seed."""

    def __init__(self, ranker: Reranker, seed: int) -> None:
        self.ranker = ranker
        self.user: User = ranker.user()
        self.n_rankings = self.n_checks = self.largest_state_bytes = self._n_events = 0
        self.problems: list[str] = []
        self._rng = np.random.default_rng(seed)
        self._taste: list[Any] = []
        self._folder = tempfile.TemporaryDirectory()

    def event(self) -> None:
        """One of them."""
        number, rng, user = self._n_events, self._rng, self.user
        if number % TASTE_EVENTS == 0:
            self._taste = self._drawn(TASTE_ITEMS)
        self._n_events += 1
        if number % RANK_EVERY == 0:
            candidates = self._drawn(N_CANDIDATES)
            scores = rng.standard_normal(len(candidates))
            scores[:3] = np.nan, np.inf, -np.inf
            self.n_rankings += 1
            user.rerank(candidates, k=10, scores=None if rng.random() < 0.5 else scores)
        item_id = self._taste[int(rng.integers(len(self._taste)))]
        kind = rng.random()
        if kind < 0.9:
            user.feedback(item_id)
        elif kind < 0.95:
            user.feedback(item_id, clicked=False)
        elif kind < 0.97:
            user.feedback(f"unknown {number % 1000}")
        else:
            user.observe(item_id)

    def check(self) -> None:
        """Is everything as it should be?"""
        self.n_checks += 1
        state = self.user.state
        if not all(np.isfinite(values).all() for values in state.learned.values()):
            self._problem("a learned number is not finite")
        candidates = self._drawn(N_CANDIDATES)
        ranking = self.user.rerank(candidates, k=N_CANDIDATES)
        scores = np.array([item.score for item in ranking])
        if {item.item_id for item in ranking} != {*candidates} or len(ranking) != len(candidates):
            self._problem("the ranking is not the candidates, each once")
        if not np.isfinite(scores).all() or (np.diff(scores) > 0).any():
            self._problem("scores that are not finite, or not falling")
        path = Path(self._folder.name) / "state.bin"
        self.largest_state_bytes = max(self.largest_state_bytes, self.user.save(path))
        if self.largest_state_bytes > LARGEST_STATE_BYTES:
            self._problem(f"a state of {self.largest_state_bytes} bytes")
        again = self.ranker.user(path).rerank(candidates, k=N_CANDIDATES)
        if [(item.item_id, item.score) for item in again] != [(item.item_id, item.score) for item in ranking]:
            self._problem("another ranking after saving and loading")

    def _drawn(self, count: int) -> list[Any]:
        n_items = self.ranker.engine.n_items
        rows = self._rng.choice(n_items, min(count, n_items), replace=False)
        return self.ranker.engine.item_ids.ids(rows.tolist())

    def _problem(self, what: str) -> None:
        self.problems.append(f"after {self._n_events} events: {what}")


def _traced_growth(life: _Life, n_events: int) -> int:
    """By how many bytes Python's allocations grew from the middle of so many events to their end."""
    tracemalloc.start()
    try:
        for _ in range(n_events // 2):
            life.event()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(n_events - n_events // 2):
            life.event()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    raise SystemExit(main())
