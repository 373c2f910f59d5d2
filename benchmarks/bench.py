"""The whole measurement of one or several bundles on one set of interactions, as one JSON object.

    read the data -> ask every system the same questions -> compare each with the reference -> time all of
    them in turns -> measure the memory of each in its own processes

The reference is the teacher where there is one (exported uncompressed, so it is a bundle like the others),
else the first of several bundles; everything that is claimed about a bundle is claimed against it.
Popularity is asked the same questions. The object's schema is docs/results-schema.md; the table, the page
and the tests read nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..runtime.bundle import Bundle
from ..runtime.devices import device_problem
from ..runtime.engine import Engine
from ..runtime.errors import InputError
from .accuracy import compare_rankings, describe_ranking
from .bench_labels import run_label_bench
from .beyond_accuracy import describe_lists, set_metrics
from .evaluate import EngineScorer, Ranking, evaluate_ranks
from .interactions import Interactions, map_items, read_interactions
from .latency import Timing
from .machine import available_cores, describe_machine
from .memory import baseline_memory, measure_memory
from .operations import Workload, measure_latency, sample_histories
from .popularity import PopularityScorer, item_counts
from .progress import Track, untracked
from .protocols import Split, leave_one_out, training_sequences
from .segments import Segment, describe_segments, segments_of

if TYPE_CHECKING:
    from ..runtime.devices import Device

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchConfig:
    """What to measure, and how."""

    bundles: tuple[Path, ...]
    data: Path
    teacher: Path | None = None
    """The uncompressed model as a bundle: the reference."""
    protocol: Literal["leave-one-out"] = "leave-one-out"
    keep_repeats: bool = False
    """Items of the history stay candidates: for data where people come back to items."""
    allow_unknown_items: bool = False
    """Leave interactions with items that a bundle does not have out, instead of refusing the data."""
    device: Device = "cpu"
    threads: tuple[int, ...] = (1,)
    latency_users: int = 400
    """Users whose histories are timed; accuracy is always that of all users."""
    timing: Timing = field(default_factory=Timing)
    seed: int = 0
    command: str = ""
    """As typed; shown in the report."""


@dataclass(frozen=True, slots=True)
class System:
    """One bundle under test."""

    name: str
    role: Literal["teacher", "bundle"]
    path: Path
    bundle: Bundle


def run_bench(config: BenchConfig, track: Track = untracked) -> dict[str, Any]:
    """Measure; see docs/results-schema.md for what is returned.

    Raises:
        InputError: the device is not there, or the data do not belong to a bundle.
        BundleError: a bundle is damaged.
    """
    began = time.perf_counter()
    if problem := device_problem(config.device):
        raise InputError(problem)
    systems = open_systems(config)
    reference = reference_of(systems)
    if any(system.bundle.manifest.get("family") == "pointwise" for system in systems):
        return run_label_bench(config, systems, reference, describe_system, track)
    data = read_interactions(config.data)
    threads = min(available_cores(), max(config.threads))

    rankings: dict[str, Ranking] = {}
    splits: dict[str, Split] = {}
    lists: dict[str, dict[str, float | None]] = {}
    popularity: Ranking | None = None
    popular_lists: dict[str, float | None] = {}
    segments: list[Segment] = []
    work: Workload | None = None
    for system in systems:
        engine = Engine.load(system.path, threads=threads, device=config.device, verify=False)
        mapped = map_items(data, engine.item_ids, max_unknown=float(config.allow_unknown_items))
        split = leave_one_out(mapped.sequences, stage="test")
        splits[system.name] = split
        with track(f"ranking, {system.name}", len(split.targets)) as advance:
            rankings[system.name] = evaluate_ranks(
                EngineScorer(engine), split, keep_repeats=config.keep_repeats, progress=advance
            )
        counts = item_counts(training_sequences(mapped.sequences), engine.n_items)
        lists[system.name] = describe_lists(rankings[system.name], counts)
        if popularity is None or work is None:
            popularity = evaluate_ranks(PopularityScorer(counts), split, keep_repeats=config.keep_repeats)
            popular_lists, segments = describe_lists(popularity, counts), segments_of(split, counts)
            work = _workload(config, engine, split, mapped.sequences)
    assert popularity is not None  # there is at least one system
    assert work is not None
    _check_same_users(splits)

    latency = measure_latency(
        {system.name: system.path for system in systems},
        work,
        config.timing,
        threads=config.threads,
        device=config.device,
        reference=reference,
        track=track,
    )
    first = splits[systems[0].name]
    with track("memory", len(systems) + 1) as advance:
        baseline = baseline_memory()
        advance(1)
        described = []
        for system in systems:
            memory = measure_memory(system.path, baseline, device=config.device)
            described.append({**describe_system(system), "memory": memory})
            advance(1)
    for entry in described:
        entry["accuracy"] = _accuracy(rankings[entry["name"]], lists[entry["name"]], config.seed)
    return {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": config.command,
        "settings": {
            "protocol": config.protocol,
            "keep_repeats": config.keep_repeats,
            "device": config.device,
            "threads": list(config.threads),
            "latency_users": len(work.histories),
            "timing": asdict(config.timing),
            "k": work.k,
            "seed": config.seed,
            "confidence": 0.95,
        },
        "data": {
            **describe_data(data),
            "users_evaluated": len(first.targets),
            "users_left_out": first.left_out,
            "repeated_targets": rankings[systems[0].name].repeated_targets,
        },
        "reference": reference,
        "systems": described,
        "popularity": _accuracy(popularity, popular_lists, config.seed),
        "segments": describe_segments(
            segments, {**rankings, "popularity": popularity}, reference, seed=config.seed
        ),
        "comparisons": {
            system.name: {
                "reference": reference,
                "size_ratio": _size_of(systems, reference) / system.bundle.size_bytes,
                "accuracy": compare_rankings(rankings[system.name], rankings[reference], seed=config.seed),
            }
            for system in systems
            if reference is not None and system.name != reference
        },
        "latency": latency,
        "memory_baseline_bytes": baseline,
        "machine": describe_machine(),
        "seconds": time.perf_counter() - began,
    }


def _accuracy(ranking: Ranking, lists: dict[str, float | None], seed: int) -> dict[str, Any]:
    return {**describe_ranking(ranking, seed=seed), "sets": set_metrics(ranking.ranks), "lists": lists}


def open_systems(config: BenchConfig) -> list[System]:
    """The teacher first, then the bundles; named by their files, by their paths where those are the same."""
    paths = [*([config.teacher] if config.teacher else []), *config.bundles]
    if len({path.resolve() for path in paths}) < len(paths):
        twice = ", ".join(str(path) for path in paths)
        raise InputError(f"bundles: {twice}: one file is named twice; name each bundle once")
    stems = [path.stem for path in paths]
    systems = []
    for path in paths:
        name = path.stem if stems.count(path.stem) == 1 else str(path)
        systems.append(
            System(name, "teacher" if path == config.teacher else "bundle", path, Bundle.open(path))
        )
    return systems


def reference_of(systems: Sequence[System]) -> str | None:
    """The teacher, else the first of several bundles, else nobody."""
    if systems[0].role == "teacher" or len(systems) > 1:
        return systems[0].name
    return None


def describe_system(system: System) -> dict[str, Any]:
    """What the file and its manifest say, without the item ids; what is not of the expected form is left out."""
    manifest, size = system.bundle.manifest, system.bundle.size_bytes
    parts = [{"name": part["name"], "bytes": part["size"]} for part in manifest["parts"]]
    parts.append({"name": "manifest", "bytes": size - sum(part["bytes"] for part in parts)})
    steps = [step for step in _listed(manifest.get("steps")) if _is_step(step)]
    before = steps[0]["before"]["bytes"] if steps else None
    of_model = ("model", "items", "item_table", "encoder", "network", "recipe", "provenance")
    return {
        "name": system.name,
        "role": system.role,
        "file": system.path.name,
        "fingerprint": system.bundle.fingerprint,
        "size_bytes": size,
        "parts": parts,
        "checkpoint_bytes": before,
        "checkpoint_ratio": before / size if before else None,
        **{name: value if isinstance(value := manifest.get(name), dict) else None for name in of_model},
        "max_length": manifest.get("max_length"),
        "steps": steps,
        "recorded": value if isinstance(value := manifest.get("metrics"), dict) else {},
    }


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_step(step: Any) -> bool:
    """Whether a manifest's step has a name and, before and after it, bytes and perhaps an NDCG@10 or AUC."""
    if not isinstance(step, dict) or not isinstance(step.get("name"), str):
        return False
    sides = [step.get("before"), step.get("after")]
    return all(
        isinstance(side, dict)
        and isinstance(side.get("bytes"), int | float)
        and isinstance(side.get("ndcg10"), int | float | None)
        and isinstance(side.get("auc"), int | float | None)
        for side in sides
    ) and isinstance(step.get("seconds"), int | float | None)


def describe_data(data: Interactions) -> dict[str, Any]:
    """Where the interactions come from, and what was cleaned."""
    return {
        "source": data.source,
        "sha256": data.sha256,
        "users": data.n_users,
        "items": data.n_items,
        "interactions": data.n_interactions,
        "cleaned": data.counts,
    }


def _workload(
    config: BenchConfig, engine: Engine, split: Split, sequences: Sequence[NDArray[np.int64]]
) -> Workload:
    ids = engine.item_ids
    drawn = sample_histories(split.histories, config.latency_users, config.seed)
    seen = np.unique(np.concatenate(sequences))  # every system knows these
    return Workload(histories=[ids.ids(rows) for rows in drawn], catalogue=ids.ids(seen), seed=config.seed)


def _check_same_users(splits: dict[str, Split]) -> None:
    (first, expected), *others = splits.items()
    for name, split in others:
        same = np.array_equal(split.users, expected.users) and all(
            len(a) == len(b) for a, b in zip(split.histories, expected.histories, strict=True)
        )
        if not same:
            raise InputError(
                f"{name} and {first}: they know different items of the data, so they would be asked different"
                " questions; measure them one at a time"
            )


def _size_of(systems: Sequence[System], name: str) -> int:
    return next(system.bundle.size_bytes for system in systems if system.name == name)
