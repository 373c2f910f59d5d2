"""The whole measurement of pointwise bundles on labelled rows: as `bench`, in the same schema.

    read the rows, cut as they were for training -> score the test rows with every system -> compare each with the
    reference on the same rows -> time re-ranking of candidate lists in turns -> memory of each in its own processes

Beside the systems stands what `popularity` is to rankings: the share of positive training rows of each item (of all rows
where the model names no item field), smoothed by ten rows of the overall share.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import InputError
from ..runtime.pointwise import PointwiseRanker
from ..runtime.pointwise_engine import PointwiseEngine
from .blas_threads import blas_threads
from .file_cache import copies, drop_from_cache, problem
from .label_metrics import compare_logits, label_metrics, mae, rmse
from .labelled_rows import LabelledRows, LabelledSplits, read_labelled
from .labelled_workload import labelled_workload
from .latency import Call
from .latency_rows import LatencyRows, Operation
from .machine import available_cores, describe_machine
from .memory import baseline_memory, measure_memory
from .progress import Track

if TYPE_CHECKING:
    from .bench import BenchConfig, System

CANDIDATES = (10, 50, 100, 500, 1000)
HEADLINE = "auc"
PRIOR_ROWS = 10.0


def run_label_bench(
    config: BenchConfig,
    systems: Sequence[System],
    reference: str | None,
    describe: Callable[[System], dict[str, Any]],
    track: Track,
) -> dict[str, Any]:
    """Measure; see docs/results-schema.md for what is returned.

    Raises:
        InputError: not all bundles are pointwise, or the data do not belong to one of them.
    """
    began = time.perf_counter()
    others = [s.name for s in systems if s.bundle.manifest.get("family") != "pointwise"]
    if others:
        raise InputError(
            f"{others[0]}: ranks by a history, the others score rows of features; measure them apart"
        )
    threads = min(available_cores(), max(config.threads))
    found = dict[str, NDArray[np.float32]]()
    data: LabelledSplits | None = None
    engine: PointwiseEngine | None = None
    for system in systems:
        engine = PointwiseEngine(system.bundle, threads=threads, device=config.device)
        split = system.bundle.manifest.get("split")
        seed = split.get("seed") if isinstance(split, dict) else None
        data = read_labelled(config.data, engine, seed=seed if type(seed) is int else 2020)
        with track(f"scoring, {system.name}", len(data.test)) as advance:
            found[system.name] = engine.logits(data.test.columns, len(data.test))
            advance(len(data.test))
    assert data is not None  # there is at least one system
    assert engine is not None
    labels, kept = data.test.labels, ("auc", "log_loss")
    latency, notes = _latency(config, systems, reference, engine, data.test, track)
    with track("memory", len(systems) + 1) as advance:
        baseline = baseline_memory()
        advance(1)
        described = []
        for system in systems:
            memory = measure_memory(system.path, baseline, device=config.device)
            described.append({**describe(system), "memory": memory})
            advance(1)
    for entry in described:
        entry["accuracy"] = _accuracy(labels, found[entry["name"]], config.seed)
    return {
        "schema_version": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": config.command,
        "settings": {
            "protocol": "labelled", "headline_metric": HEADLINE, "keep_repeats": False, "device": config.device,
            "threads": list(config.threads), "latency_users": min(config.latency_users, len(data.test)),
            "timing": asdict(config.timing), "k": 10, "seed": config.seed, "confidence": 0.95,
            "split": data.described["split"],
        },
        "data": {
            "source": data.described["file"], "sha256": data.described["sha256"],
            "users": _distinct(engine, data, engine.user), "items": _distinct(engine, data, engine.item),
            "interactions": sum(data.described["rows"].values()), "rows": data.described["rows"], "cleaned": {},
            "users_evaluated": len(labels), "users_left_out": 0, "repeated_targets": 0,
        },
        "reference": reference,
        "systems": described,
        "popularity": _accuracy(labels, base_rates(engine, data), config.seed),
        "segments": [],
        "comparisons": {
            system.name: {
                "reference": reference,
                "size_ratio": _size(systems, reference) / system.bundle.size_bytes,
                "accuracy": {
                    "metrics": {
                        name: {
                            "ratio": one.ratio.to_json(),
                            "difference": one.difference.to_json(),
                            "users_needed": None,
                        }
                        for name, one in compare_logits(
                            labels, found[system.name], found[reference], seed=config.seed
                        ).items()
                        if name in kept
                    },
                    "overlap": {},
                },
            }
            for system in systems
            if reference is not None and system.name != reference
        },
        "latency": latency,
        "first_calls": [],
        "energy": None,
        "memory_baseline_bytes": baseline,
        "notes": notes,
        "machine": describe_machine(),
        "seconds": time.perf_counter() - began,
    }  # fmt: skip


def base_rates(engine: PointwiseEngine, data: LabelledSplits) -> NDArray[np.float32]:
    """The logit of each test row's item's share of positive training rows: float32 (n,)."""
    overall = float(data.train.labels.mean())
    if engine.item is None:
        rates = np.full(len(data.test), overall)
    else:
        size, items = engine.schema.field(engine.item).size, data.train.columns[engine.item]
        seen = np.bincount(items, minlength=size)
        positive = np.bincount(items, weights=data.train.labels, minlength=size)
        rates = ((positive + PRIOR_ROWS * overall) / (seen + PRIOR_ROWS))[data.test.columns[engine.item]]
    return np.log(rates / (1 - rates)).astype(np.float32)


def _latency(
    config: BenchConfig,
    systems: Sequence[System],
    reference: str | None,
    engine: PointwiseEngine,
    rows: LabelledRows,
    track: Track,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows as `operations.measure_latency` has them: re-ranking lists of several sizes, and loading; and notes."""
    work = labelled_workload(engine, rows, config.latency_users, config.seed)
    timed = LatencyRows(
        timing=config.timing, reference=reference, device=config.device, seed=config.seed, track=track
    )

    notes: list[str] = []
    for n_threads in config.threads:
        rankers = {
            s.name: PointwiseRanker(PointwiseEngine(s.bundle, threads=n_threads, device=config.device))
            for s in systems
        }
        with blas_threads(n_threads) as unheld:
            for size in (size for size in CANDIDATES if size <= len(work.catalogue)):
                timed.measure(Operation("rerank", size, work.rerank(size)), rankers, n_threads)
        notes += [] if unheld is None else [unheld]

    def load(path: Path, n: int) -> Call:
        return lambda: PointwiseRanker.load(path, threads=config.threads[0], device=config.device)

    def load_cold(path: Path, n: int) -> Call:
        drop_from_cache(path)
        return load(path, n)

    paths = {system.name: system.path for system in systems}
    timed.measure(Operation("load", None, load, slow=True), paths, config.threads[0])
    with copies(paths) as fresh:
        problems = sorted({why for path in fresh.values() if (why := problem(path))})
        if not problems:
            timed.measure(Operation("load_cold", None, load_cold, slow=True), fresh, config.threads[0])
    return timed.rows, [*notes, *problems]


def _accuracy(labels: NDArray[np.float32], logits: NDArray[np.float32], seed: int) -> dict[str, Any]:
    metrics = {
        name: interval.to_json() for name, interval in label_metrics(labels, logits, seed=seed).items()
    }
    predicted = 1 / (1 + np.exp(-np.clip(np.asarray(logits, np.float64), -50, 50)))
    errors = {"mae": mae(labels, predicted), "rmse": rmse(labels, predicted)}
    return {"metrics": metrics, "errors": errors, "coverage": {}, "sets": {}, "lists": {}, "seconds": None}


def _distinct(engine: PointwiseEngine, data: LabelledSplits, name: str | None) -> int | None:
    if name is None:
        return None
    parts = (data.train, data.valid, data.test)
    return len(np.unique(np.concatenate([part.columns[name] for part in parts])))


def _size(systems: Sequence[System], name: str | None) -> int:
    return next(system.bundle.size_bytes for system in systems if system.name == name)
