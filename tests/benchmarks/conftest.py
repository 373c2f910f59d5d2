"""Fixtures of the measurements: a results object made by the real summaries, from invented ranks and times."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from pocketrec.benchmarks.accuracy import compare_rankings, describe_ranking
from pocketrec.benchmarks.bench_gates import Limits, judge
from pocketrec.benchmarks.beyond_accuracy import describe_lists, set_metrics
from pocketrec.benchmarks.evaluate import Ranking
from pocketrec.benchmarks.latency import Timing, compare, summarize
from pocketrec.benchmarks.segments import Segment, describe_segments

N_USERS, N_ITEMS = 2000, 12101
SIZES = {"teacher": 3_571_204, "beauty": 421_332, "beauty-tiny": 236_410}
PARTS = {
    "teacher": {
        "encoder.onnx": 402_118,
        "scorer.onnx": 611,
        "item_table.values": 3_097_856,
        "prior_user": 256,
    },
    "beauty": {"encoder.onnx": 21_540, "scorer.onnx": 902, "item_table.codes": 387_232, "prior_user": 256},
    "beauty-tiny": {
        "encoder.onnx": 12_332,
        "scorer.onnx": 902,
        "item_table.codes": 212_900,
        "prior_user": 256,
    },
}
# Median milliseconds of the teacher, and how many times faster the bundles are.
MEDIANS: dict[tuple[str, int | None], tuple[float, float]] = {
    ("rerank", 10): (0.58, 2.3),
    ("rerank", 50): (0.62, 2.2),
    ("rerank", 100): (0.66, 2.1),
    ("rerank", 500): (0.98, 1.7),
    ("rerank", 1000): (1.31, 1.6),
    ("recommend", 10): (1.31, 2.9),
    ("feedback", None): (0.041, 1.0),
    ("encode", None): (0.49, 2.6),
    ("encode_batch", 16): (4.1, 1.4),
    ("encode_batch", 256): (58.0, 1.3),
    ("load", None): (9.4, 1.9),
    ("load_cold", None): (31.0, 3.0),
}


MakeResults = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def make_results() -> MakeResults:
    """`make_results(bundles, teacher=...)`: a results object like a real one, new at each call."""
    return lambda bundles=("beauty", "beauty-tiny"), *, teacher=True: copy.deepcopy(
        build_results(bundles, teacher=teacher)
    )


@functools.cache
def build_results(bundles: tuple[str, ...], *, teacher: bool) -> dict[str, Any]:
    """Results of `bundles`, beside a teacher or alone."""
    names = [*(["teacher"] if teacher else []), *bundles]
    reference = names[0] if len(names) > 1 else None
    rankings = {name: _ranking(name) for name in ("teacher", *bundles, "popularity")}
    results: dict[str, Any] = {
        "schema_version": 1,
        "created": "2026-05-04T10:11:12+00:00",
        "command": "pocketrec bench beauty.pocket beauty-tiny.pocket --teacher teacher.pocket --data Beauty.txt",
        "settings": {
            "protocol": "leave-one-out",
            "split": {"kind": "leave-one-out"},
            "keep_repeats": False,
            "device": "cpu",
            "threads": [1, 2],
            "latency_users": 400,
            "timing": asdict(Timing()),
            "k": 10,
            "seed": 0,
            "confidence": 0.95,
        },
        "data": {
            "source": "Beauty.txt",
            "sha256": "9f" * 32,
            "users": 22_363,
            "items": 12_101,
            "interactions": 198_502,
            "cleaned": {"missing_dropped": 0, "duplicates_dropped": 3, "unsorted_users": 0},
            "users_evaluated": N_USERS,
            "users_left_out": 12,
            "repeated_targets": 0,
        },
        "reference": reference,
        "systems": [_system(name, rankings[name]) for name in names],
        "popularity": _accuracy(rankings["popularity"]),
        "segments": describe_segments(
            [Segment("history", "3 to 9 events", np.arange(N_USERS) % 3 == 0)],
            {name: rankings[name] for name in (*names, "popularity")},
            reference,
        ),
        "comparisons": {
            name: {
                "reference": reference,
                "size_ratio": SIZES[reference] / SIZES[name],
                "accuracy": compare_rankings(rankings[name], rankings[reference]),
            }
            for name in names[1:]
            if reference is not None
        },
        "latency": _latency(names, reference),
        "memory_baseline_bytes": 47_800_000,
        "machine": {
            "cpu": "AMD EPYC 9R14",
            "flags": ["avx2", "avx512f", "avx512_vnni"],
            "cores": 2,
            "logical_cpus": 2,
            "governor": None,
            "memory_bytes": 16_500_000_000,
            "load_1min": 0.41,
            "os": "Linux-6.8.0-x86_64-with-glibc2.39",
            "machine": "x86_64",
            "python": "3.12.4",
            "versions": {"pocketrec": "0.1.0", "numpy": "2.2.0", "onnxruntime": "1.22.0"},
            "providers": ["CPUExecutionProvider"],
        },
        "seconds": 131.7,
        "first_calls": [
            {"system": name, "threads": 1, "device": "cpu", "load_ms": 11.2, "rerank_ms": 1.9, "recommend_ms": 4.4}
            for name in names
        ],
        "device_times": [
            {
                "system": name, "graph": "encoder", "precision": precision, "device": "cuda", "threads": 1,
                "first_ms": 180.5 + n,
                **{step: summarize(np.linspace(low, 2 * low, 30)) for step, low in (("copy_in", 0.021), ("run", 0.43), ("copy_out", 0.017))},
                "bytes_in": 12_800 + n, "bytes_out": 256 + n, "nodes": {"CUDAExecutionProvider": 58, "CPUExecutionProvider": 3},
                "copies_inside": 6, "agreement": None if precision == "as it is" else 0.9925,
                "speedup": None if precision == "as it is" else {
                    "ratio": {"value": 1.31, "low": 1.27, "high": 1.36}, "told_apart": True,
                },
                "kept": None if precision == "as it is" else True,
            }
            for n, name in enumerate(names) for precision in ("as it is", "float16")
        ],
        "energy": {
            "idle_watts": 21.5,
            "rows": [
                {
                    "operation": "rerank", "size": 100, "threads": 1, "system": name,
                    "millijoules": {"value": 12.5 + n, "low": 11.75 + n, "high": 13.25 + n}, "watts": 29.25,
                }
                for n, name in enumerate(names)
            ],
        },
        "notes": ["a cold load cannot be measured: this system has no posix_fadvise"],
    }  # fmt: skip
    limits = Limits(
        max_drop=0.01 if reference is not None else None, max_size_bytes=400_000, max_latency_ms=0.5
    )
    return {**results, "gates": judge(results, limits)}


@pytest.fixture(scope="session")
def peers() -> dict[str, Any]:
    """What `pocketrec bench --peers` writes, as far as the report reads it: ours, a peer, and one that failed."""
    teacher, bundle = _ranking("teacher"), _ranking("beauty")
    rng = np.random.default_rng(3)
    base = 1.4 * np.exp(rng.normal(0, 0.05, 400))

    def entry(name: str, kind: str, size: int | None, faster: float, **more: Any) -> dict[str, Any]:
        kept = compare_rankings(bundle, teacher)
        times = base / faster * np.exp(rng.normal(0, 0.02, 400))
        speedup = None if kind == "float32" else compare(times, base).to_json()
        return {
            "name": name, "kind": kind, "command": None, "versions": {}, "error": None, "errors": {}, "size_bytes": size,
            "quantize_seconds": None, "accuracy": describe_ranking(bundle), "kept": kept["metrics"],
            "overlap": kept["overlap"],
            "latency": {"recommend": {**summarize(times), "in_turns": True, "speedup": speedup}, "rerank": None},
            "memory": {task: {"peak_bytes": 55_000_000, "added_bytes": 7_200_000} for task in ("rerank", "recommend")},
            **more,
        }  # fmt: skip

    nothing = {"accuracy": None, "kept": None, "overlap": None, "latency": None, "memory": None}
    return {
        "schema_version": 1, "created": "2026-05-04T12:00:00+00:00", "command": "pocketrec bench beauty.pocket --peers model.pt",
        "settings": {"protocol": "leave-one-out, test", "threads": 1, "users": N_USERS},
        "model": {"checkpoint": "icsrec-sasrec-beauty.pt"}, "machine": {"cpu": "AMD EPYC 9R14"},
        "reference": "teacher, float32 graph",
        "contestants": [
            entry("teacher, float32 graph", "float32", 3_571_204, 1.0),
            entry("beauty", "bundle", 421_332, 3.1),
            entry("onnxruntime dynamic, best known flags", "peer", 1_012_400, 1.6),
            entry("torchao int8", "peer", None, 1.0, **nothing, error="exports no ONNX graph: aten::_weight_int8pack_mm is not known"),
        ],
    }  # fmt: skip


@pytest.fixture(scope="session")
def frontier() -> dict[str, Any]:
    """What `pocketrec compress --frontier` writes, as far as the report reads it."""
    found = [
        (210_000, 0.0561, True),
        (260_000, 0.0558, False),
        (300_000, 0.0588, True),
        (520_000, 0.0602, True),
    ]
    return {
        "schema_version": 1, "checkpoint": "icsrec-sasrec-beauty.pt", "metric": "NDCG@10", "settings": {"epochs": 2},
        "teacher": {"bytes": 3_571_204, "value": 0.0603},
        "trials": [
            {
                "number": n, "params": {"table_bits": 2 + n, "encoder": "last layer"}, "bytes": size, "value": value,
                "rerank_ms": None, "seconds": 12.0, "on_front": front, "file": f"trial-{n:04d}.pocket" if front else None,
            }
            for n, (size, value, front) in enumerate(found)
        ],
    }  # fmt: skip


def _ranking(name: str) -> Ranking:
    rng = np.random.default_rng(7)
    ranks = np.minimum(np.exp(rng.normal(6.4, 3.1, size=N_USERS)).astype(np.int64) + 1, N_ITEMS)
    moves = np.random.default_rng(len(name))
    match name:
        case "teacher":
            moved = ranks
        case "popularity":
            moved = np.minimum(np.where(moves.random(N_USERS) < 0.2, ranks, ranks * 40 + 9), N_ITEMS)
        case _:
            spread = {"beauty": 0.02, "beauty-tiny": 0.08}.get(name, 0.05)
            shift = {"beauty": 0.001, "beauty-tiny": 0.03}.get(name, 0.01)
            moved = np.maximum(1, np.rint(ranks * np.exp(moves.normal(shift, spread, N_USERS)))).astype(
                np.int64
            )
    lists = moves.integers(0, N_ITEMS // (1 if name != "popularity" else 500), size=(N_USERS, 10))
    return Ranking(moved, lists.astype(np.int32), N_ITEMS, 0, 3.2)


def _accuracy(ranking: Ranking) -> dict[str, Any]:
    counts = np.arange(N_ITEMS)
    return {
        **describe_ranking(ranking),
        "sets": set_metrics(ranking.ranks),
        "lists": describe_lists(ranking, counts),
    }


def _system(name: str, ranking: Ranking) -> dict[str, Any]:
    parts = [{"name": part, "bytes": size} for part, size in PARTS[name].items()]
    parts.append({"name": "manifest", "bytes": SIZES[name] - sum(PARTS[name].values())})
    compressed = name != "teacher"
    bits = {"beauty": 4, "beauty-tiny": 2}.get(name, 32)
    peak = {"teacher": (55_400_000, 63_100_000), "beauty": (50_900_000, 53_200_000)}.get(
        name, (50_700_000, 52_800_000)
    )
    return {
        "name": name,
        "role": "bundle" if compressed else "teacher",
        "file": f"{name}.pocket",
        "fingerprint": "3c" * 32,
        "size_bytes": SIZES[name],
        "parts": parts,
        "checkpoint_bytes": 3_512_576 if compressed else None,
        "checkpoint_ratio": 3_512_576 / SIZES[name] if compressed else None,
        "model": {
            "architecture": "SASRec",
            "layers": 2,
            "heads": 2 if not compressed else 1,
            "inner_width": 256,
        },
        "items": {"count": N_ITEMS, "ids": {"kind": "range", "first": 1, "count": N_ITEMS}},
        "item_table": {"format": "rows", "bits": bits, "width": 64},
        "encoder": {"weights": "int8" if compressed else "float32"},
        "max_length": 50,
        "recipe": {
            "prune": {"keep_heads": 0.5, "keep_inner": 0.25},
            "distill": {"temperature": 2.0, "epochs": 12},
        }
        if compressed
        else None,
        "provenance": {"source": "icsrec-sasrec-beauty.pt", "seed": 0, "versions": {"torch": "2.8.0"}},
        "steps": _steps(name) if compressed else [],
        "recorded": {},
        "memory": {
            "rerank": {"peak_bytes": peak[0], "added_bytes": peak[0] - 47_800_000},
            "recommend": {"peak_bytes": peak[1], "added_bytes": peak[1] - 47_800_000},
        },
        "accuracy": _accuracy(ranking),
    }


def _steps(name: str) -> list[dict[str, Any]]:
    states = [
        (3_512_576, 878_144, 0.0602, None, 0.0, {}),
        (3_254_108, 813_527, 0.0513, "prune", 8.1, {"heads": "4 -> 2", "inner_width": "512 -> 128"}),
        (
            3_254_108,
            813_527,
            0.0607,
            "distill",
            184.0,
            {"epochs": 12, "temperature": 2.0, "stopped_early": True},
        ),
        (SIZES[name] + 57_000, 813_527, 0.0601, "item table", 2.4, {"bits": 4, "format": "rows"}),
        (SIZES[name], 813_527, 0.0600, "encoder int8", 0.9, {"per_channel": True}),
    ]
    steps = []
    for before, after in pairwise(states):
        steps.append(
            {
                "name": after[3],
                "before": {"bytes": before[0], "parameters": before[1], "ndcg10": before[2]},
                "after": {"bytes": after[0], "parameters": after[1], "ndcg10": after[2]},
                "detail": after[5],
                "seconds": after[4],
            }
        )
    return steps


def _latency(names: list[str], reference: str | None) -> list[dict[str, Any]]:
    rows = []
    for threads in (1, 2):
        for (operation, size), (median, faster) in MEDIANS.items():
            if operation in ("load", "load_cold") and threads > 1:
                continue
            rng = np.random.default_rng(threads)
            samples = {}
            for n, name in enumerate(names):
                base = (
                    median
                    / (1.0 if name == "teacher" else faster * (1 + 0.12 * n))
                    / (1 + 0.1 * (threads - 1))
                )
                slow = rng.random(400) < 0.04
                samples[name] = base * np.exp(rng.normal(0, 0.06, 400)) * np.where(slow, 1.8, 1.0)
            for name in names:
                speedup = None
                if reference is not None and name != reference:
                    speedup = compare(samples[name], samples[reference]).to_json()
                batch = size if operation == "encode_batch" and size else 1
                of = {"operation": operation, "size": size, "batch": batch, "threads": threads}
                summary = summarize(samples[name])
                summary["per_second"] *= batch
                rows.append({**of, "system": name, "device": "cpu", **summary, "speedup": speedup})
    return rows
