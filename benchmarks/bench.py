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

from ..runtime.bundle import Bundle
from ..runtime.devices import device_memory, device_problem
from ..runtime.errors import InputError
from .bench_accuracy import POPULARITY, measure_accuracy
from .bench_gates import Limits, judge
from .bench_labels import run_label_bench
from .device_times import Half, measure_device
from .latency import Timing, settled_heap
from .latency_rows import LatencyRows
from .machine import describe_machine
from .memory import baseline_memory, measure_memory
from .operations import Workload, measure_latency, sample_histories
from .progress import Track, untracked

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
    protocol: Literal["leave-one-out", "temporal"] = "leave-one-out"
    quantile: float = 0.9
    """Of the temporal protocol: share of all events that lies before the cut."""
    cut: float | None = None
    """The moment of the cut itself, in the data's own unit of time; goes before `quantile`."""
    keep_repeats: bool = False
    """Items of the history stay candidates: for data where people come back to items."""
    allow_unknown_items: bool = False
    """Leave interactions with items that a bundle does not have out, instead of refusing the data."""
    device: Device = "cpu"
    threads: tuple[int, ...] = (1,)
    latency_users: int = 400
    """Users whose histories are timed; accuracy is always that of all users."""
    timing: Timing = field(default_factory=Timing)
    limits: Limits = field(default_factory=Limits)
    """What every bundle but the reference must keep to; judged, not enforced."""
    seed: int = 0
    command: str = ""
    """As typed; shown in the report."""
    half_graph: Half | None = None
    """What makes the float16 copy of an encoder, for devices with memory of their own; None: it is not tried."""


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
    if problem := device_problem(config.device):
        raise InputError(problem)
    systems = open_systems(config)
    reference = reference_of(systems)
    if config.limits.max_drop is not None and reference is None:
        raise InputError("--max-drop: nothing to compare with; name the uncompressed model with --teacher")
    with settled_heap():
        if any(system.bundle.manifest.get("family") == "pointwise" for system in systems):
            results = run_label_bench(config, systems, reference, describe_system, track)
        else:
            results = _run_ranking_bench(config, systems, reference, track)
    return {**results, "gates": judge(results, config.limits)}


def _run_ranking_bench(
    config: BenchConfig, systems: Sequence[System], reference: str | None, track: Track
) -> dict[str, Any]:
    began = time.perf_counter()
    found = measure_accuracy(config, systems, reference, track)
    work = Workload(
        histories=[
            found.ids_of(rows)
            for rows in sample_histories(found.histories, config.latency_users, config.seed)
        ],
        catalogue=found.catalogue,
        seed=config.seed,
    )
    timed = LatencyRows(
        timing=config.timing, reference=reference, device=config.device, seed=config.seed, track=track
    )
    paths = {system.name: system.path for system in systems}
    beside = measure_latency(paths, work, timed, threads=config.threads, device=config.device)
    on_device: list[dict[str, Any]] = []
    if device_memory(config.device) != "cpu":
        on_device, notes = measure_device(
            paths, work, timing=config.timing, device=config.device, threads=config.threads[0],
            half=config.half_graph, track=track,
        )  # fmt: skip
        beside["notes"] += notes
    memory_baseline, memory = measure_memories(systems, config.device, track)
    return {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": config.command,
        "settings": {
            "protocol": config.protocol,
            "split": found.split,
            "keep_repeats": config.keep_repeats,
            "device": config.device,
            "threads": list(config.threads),
            "latency_users": len(work.histories),
            "timing": asdict(config.timing),
            "k": work.k,
            "seed": config.seed,
            "confidence": 0.95,
        },
        "data": found.data,
        "reference": reference,
        "systems": [
            {
                **describe_system(system),
                "memory": memory[system.name],
                "accuracy": found.systems[system.name],
            }
            for system in systems
        ],
        "popularity": found.systems[POPULARITY],
        "segments": found.segments,
        "comparisons": {
            name: {
                "reference": reference,
                "size_ratio": size_of(systems, reference) / size_of(systems, name),
                "accuracy": accuracy,
            }
            for name, accuracy in found.comparisons.items()
        },
        "latency": timed.rows,
        "first_calls": beside["first_calls"],
        "device_times": on_device,
        "energy": beside["energy"],
        "memory_baseline_bytes": memory_baseline,
        "notes": [*found.notes, *beside["notes"]],
        "machine": describe_machine(),
        "seconds": time.perf_counter() - began,
    }


def measure_memories(
    systems: Sequence[System], device: Device, track: Track
) -> tuple[int, dict[str, dict[str, Any]]]:
    """The baseline's peak bytes, and each system's by task, every figure from processes of its own."""
    with track("memory", len(systems) + 1) as advance:
        baseline = baseline_memory()
        advance(1)
        found = {}
        for system in systems:
            found[system.name] = measure_memory(system.path, baseline, device=device)
            advance(1)
    return baseline, found


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


def size_of(systems: Sequence[System], name: str | None) -> int:
    """Bytes of the system of that name."""
    return next(system.bundle.size_bytes for system in systems if system.name == name)
