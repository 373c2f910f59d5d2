"""How cost grows: with the catalogue, the history, the list of candidates, and the users of one machine.

    OMP_NUM_THREADS=1 python -m pocketrec.benchmarks.scale model.pocket --long-history long.pocket --json-dir benchmarks/results/scale

writes `catalogue.json`, `history.json`, `candidates.json` and `users.json`, each with its series:

    catalogue   made-up catalogues of 64 dimensions in 4 bits (`synthetic_catalogue`), 1,000 to 10,000,000 items: the best
                10 of all, 100 candidates ranked, the bundle opened; memory of each; bytes of the bundle
    history     one new event, then 100 candidates ranked, after 10 to 1,000 events; of the model, and of one that reads
                longer histories where it is given (`python -m pocketrec.cli.long_history` makes one)
    candidates  10 to 10,000 of them ranked
    users       states in one store, 1 to 100,000: one read, one visit (read, rank, learn, save), the store's bytes

All sizes of an axis are timed in turns, so that the machine's other work hits them alike. A time is what the thread itself
worked, the median: long calls are interrupted and short ones are not, and a busy machine would bend every line; `elapsed` is what
passed meanwhile. Of the users, whose visits wait for the disk, it is what passed. Memory is the peak of a process of
its own, without what importing numpy and onnxruntime takes. A series ends with its line and knees (`scale_line`).
Without OMP_NUM_THREADS=1, numpy's own threads take part from 2,000 candidates or so on, and on a busy machine wait for each other.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.reranker import Reranker
from ..runtime.user import User
from .latency import Call, Timing, quantile_interval, time_interleaved
from .measurement_file import write_measurement
from .memory import PEAK, baseline_memory, measure_memory
from .scale_line import Span, describe_growth
from .store_users import measure as measure_store
from .synthetic_catalogue import write_catalogue

AXES = ("catalogue", "history", "candidates", "users")
CATALOGUES = tuple(int(n) for n in (1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7))
HISTORIES = (10, 20, 50, 100, 200, 500, 1000)
CANDIDATES = (10, 30, 100, 300, 1000, 3000, 10_000)
USERS = (1, 10, 100, 1000, 10_000, 100_000)
WIDTH, BITS = 64, 4
LISTED, K = 100, 10

_RANKS = (
    """
import json, sys
import numpy
from pocketrec.runtime.reranker import Reranker
path, events, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ranker = Reranker.load(path)
rng = numpy.random.default_rng(0)
def drawn(n, replace):
    n_items = ranker.engine.n_items
    return ranker.engine.item_ids.ids(rng.choice(n_items, n if replace else min(n, n_items), replace=replace).tolist())
user = ranker.user()
user.observe(*drawn(events, True))
user.rerank(drawn(count, False), k=10)
"""
    + PEAK
    + "print(json.dumps(peak()))\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What to measure at; in ascending order."""

    catalogue: Sequence[int] = CATALOGUES
    history: Sequence[int] = HISTORIES
    candidates: Sequence[int] = CANDIDATES
    """Those beyond the bundle's catalogue are left out."""
    users: Sequence[int] = USERS


def main(argv: Sequence[str] | None = None) -> int:
    """The module as a command; 0."""
    parser = argparse.ArgumentParser(prog="python -m pocketrec.benchmarks.scale", allow_abbrev=False)
    parser.add_argument("bundle", metavar="BUNDLE")
    parser.add_argument("--long-history", metavar="BUNDLE", help="a model that reads 1,000 events, say")
    parser.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES))
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--max-seconds", type=float, default=15.0, help="for one operation at all sizes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json-dir", type=Path)
    args = parser.parse_args(argv)
    timing = Timing(n_rounds=args.rounds, n_warmup=2, max_seconds=args.max_seconds, min_rounds=10)
    bundles = [args.bundle] + ([args.long_history] if args.long_history else [])
    for axis in args.axes:
        series = measure_axis(axis, bundles, Sizes(), timing, seed=args.seed)
        settings = {
            "bundles": [Path(bundle).name for bundle in bundles],
            "fingerprints": [Reranker.load(bundle).engine.bundle.fingerprint for bundle in bundles],
            "width": WIDTH, "bits": BITS, "rounds": args.rounds, "seed": args.seed, "threads": 1,
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        }  # fmt: skip
        path = args.json_dir / f"{axis}.json" if args.json_dir else None
        write_measurement(path, "scale", settings, {"axis": axis, "series": series})
    return 0


def measure_axis(
    axis: str, bundles: Sequence[str], sizes: Sizes, timing: Timing, *, seed: int = 0
) -> list[dict[str, Any]]:
    """The series of one of `AXES`."""
    match axis:
        case "catalogue":
            return grow_catalogue(sizes.catalogue, timing, seed)
        case "history":
            rankers = [Reranker.load(bundle) for bundle in bundles]
            return [
                series for ranker, bundle in zip(rankers, bundles, strict=True)
                for series in grow_history(ranker, bundle, sizes.history, timing, seed)
            ]  # fmt: skip
        case "candidates":
            return grow_candidates(Reranker.load(bundles[0]), bundles[0], sizes.candidates, timing, seed)
        case "users":
            return grow_users(Reranker.load(bundles[0]), sizes.users, timing, seed)
        case unknown:
            raise ValueError(f"axis: got {unknown!r}, expected one of {', '.join(AXES)}")


def grow_catalogue(sizes: Sequence[int], timing: Timing, seed: int) -> list[dict[str, Any]]:
    """With the number of items."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {size: Path(folder) / f"{size}.pocket" for size in sizes}
        size_bytes = {
            size: write_catalogue(path, size, width=WIDTH, bits=BITS, seed=seed)
            for size, path in paths.items()
        }
        baseline = baseline_memory(n_repeats=1)
        memory = {size: measure_memory(path, baseline, n_repeats=1) for size, path in paths.items()}
        opened = _timed(sizes, lambda size, n: lambda: Reranker.load(paths[size]), timing)
        rankers = {size: Reranker.load(path) for size, path in paths.items()}

        def ranks(size: int, n: int) -> Call:
            rng = np.random.default_rng([seed, n])
            user = _user(rankers[size], 20, rng)
            candidates = _drawn(rankers[size], min(LISTED, size), rng)
            return lambda: user.rerank(candidates, k=K)

        def recommends(size: int, n: int) -> Call:
            user = _user(rankers[size], 20, np.random.default_rng([seed, n]))
            return lambda: user.recommend(k=K)

        recommended, ranked = _timed(sizes, recommends, timing), _timed(sizes, ranks, timing)
    return [
        _series(f"the best {K} of the catalogue", "items", "ms", recommended),
        _series(f"{LISTED} candidates ranked", "items", "ms", ranked),
        _series("the bundle opened and checked", "items", "ms", opened),
        _series("memory to recommend", "items", "bytes", {n: memory[n]["recommend"]["added_bytes"] for n in sizes}),
        _series("memory to rank candidates", "items", "bytes", {n: memory[n]["rerank"]["added_bytes"] for n in sizes}),
        _series("the bundle", "items", "bytes", size_bytes),
    ]  # fmt: skip


def grow_history(
    ranker: Reranker, path: str, sizes: Sequence[int], timing: Timing, seed: int
) -> list[dict[str, Any]]:
    """With what the user did before."""

    def ranks(size: int, n: int) -> Call:
        rng = np.random.default_rng([seed, n])
        user, (last,) = _user(ranker, size - 1, rng), _drawn(ranker, 1, rng)
        candidates = _drawn(ranker, min(LISTED, ranker.engine.n_items), rng)

        def call() -> None:
            user.observe(last)
            user.rerank(candidates, k=K)

        return call

    reads = f"of a model that reads {ranker.engine.max_length} events"
    return [
        _series(
            f"one event, then {LISTED} candidates, {reads}", "events", "ms", _timed(sizes, ranks, timing)
        ),
        _series(f"memory, {reads}", "events", "bytes", _memory(path, {n: (n, LISTED) for n in sizes})),
    ]


def grow_candidates(
    ranker: Reranker, path: str, sizes: Sequence[int], timing: Timing, seed: int
) -> list[dict[str, Any]]:
    """With the list that is ranked."""
    sizes = [size for size in sizes if size <= ranker.engine.n_items]

    def ranks(size: int, n: int) -> Call:
        rng = np.random.default_rng([seed, n])
        user, candidates = _user(ranker, 20, rng), _drawn(ranker, size, rng)
        return lambda: user.rerank(candidates, k=K)

    return [
        _series("one list ranked", "candidates", "ms", _timed(sizes, ranks, timing)),
        _series("memory to rank it", "candidates", "bytes", _memory(path, {n: (20, n) for n in sizes})),
    ]


def grow_users(ranker: Reranker, sizes: Sequence[int], timing: Timing, seed: int) -> list[dict[str, Any]]:
    """With the states of one store."""
    found: dict[int, dict[str, Any]] = {}
    for size in (sizes[0], *sizes):  # the first one twice: the disk is still busy with what came before
        with tempfile.TemporaryDirectory() as folder:
            found[size] = measure_store(ranker, Path(folder), size, n_calls=timing.n_rounds, seed=seed)
    # how far these medians may be off is not known: no two are told apart, and no knee is claimed
    unsure: dict[str, float | None] = {"low": None, "high": None}
    return [
        _series("one state read", "users", "ms", {n: {"value": of["get_ms"]["p50"], **unsure} for n, of in found.items()}),
        _series("one visit: read, rank, learn, save", "users", "ms", {n: {"value": of["session_ms"]["p50"], **unsure} for n, of in found.items()}),
        _series("the store", "users", "bytes", {n: of["store_bytes"] for n, of in found.items()}),
    ]  # fmt: skip


def _timed(
    sizes: Sequence[int], prepare: Callable[[int, int], Call], timing: Timing
) -> dict[int, dict[str, Any]]:
    """Milliseconds that the thread worked for one call, the median with its interval, and those that passed."""
    worked: dict[int, list[float]] = {size: [] for size in sizes}

    def clocked(size: int, n: int) -> Call:
        call = prepare(size, n)

        def run() -> None:
            before = time.thread_time_ns()
            call()
            worked[size].append((time.thread_time_ns() - before) / 1e6)

        return run

    passed = time_interleaved({str(size): size for size in sizes}, clocked, timing)
    found: dict[int, dict[str, Any]] = {}
    for size in sizes:
        timed = np.sort(
            worked[size][timing.n_warmup + 1 :: 2]
        )  # each timed call has one that is not before it
        found[size] = {
            **quantile_interval(timed, 0.5).to_json(),
            "elapsed": float(np.median(passed[str(size)])),
        }
    return found


def _series(name: str, unit: str, quantity: str, costs: Mapping[int, Any]) -> dict[str, Any]:
    """Points by size, a cost being a number or an interval, with their line and knees."""
    points = {
        size: cost
        if isinstance(cost, dict)
        else {"value": float(cost), "low": float(cost), "high": float(cost)}
        for size, cost in costs.items()
    }
    values: list[float] = [point["value"] for point in points.values()]
    spans: list[Span] = [(point["low"] or 0.0, point["high"] or np.inf) for point in points.values()]
    growth = describe_growth(list(points), values, spans)
    listed = [{"size": size, **point} for size, point in points.items()]
    return {"name": name, "unit": unit, "quantity": quantity, "points": listed, **growth}


def _user(ranker: Reranker, n_events: int, rng: np.random.Generator) -> User:
    user = ranker.user()
    n_items = ranker.engine.n_items
    user.observe(*ranker.engine.item_ids.ids(rng.integers(0, n_items, n_events).tolist()))
    return user


def _drawn(ranker: Reranker, count: int, rng: np.random.Generator) -> list[Any]:
    return ranker.engine.item_ids.ids(rng.choice(ranker.engine.n_items, count, replace=False).tolist())


def _memory(path: str, tasks: Mapping[int, tuple[int, int]]) -> dict[int, int]:
    """Bytes that a process takes over importing numpy and onnxruntime, by size; a task is (events, candidates)."""
    baseline = baseline_memory(n_repeats=1)
    found: dict[int, int] = {}
    for size, (events, count) in tasks.items():
        # -P: the folder we stand in must not shadow an installed package.
        command = [sys.executable, "-P", "-c", _RANKS, str(Path(path).absolute()), str(events), str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[size] = max(int(json.loads(done.stdout)) - baseline, 1)
    return found


if __name__ == "__main__":
    raise SystemExit(main())
