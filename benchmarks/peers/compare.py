"""Every peer's best int8 of one model beside our bundles of it, measured in one run, as one JSON object.

    the teacher's graphs -> each peer in its environment -> accuracy of all on the same users -> all timed in turns
    -> the memory of each in its own processes

The reference is the teacher as a float32 graph in onnxruntime: what every peer started from. A peer that could not be
asked, or failed, is an entry with `error`, one line. What a peer made runs in *our* onnxruntime, so that a difference is
the graph's; torch modules run in their own process, which times them by itself (not in turns, and said so).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.bundle import Bundle
from ...runtime.errors import InputError
from ...runtime.item_ids import ItemIds
from ..accuracy import compare_rankings, describe_ranking
from ..evaluate import Ranking, evaluate_ranks
from ..interactions import describe_data, map_items, read_interactions
from ..latency import Timing, compare, summarize, time_interleaved
from ..machine import describe_machine
from ..memory import baseline_memory, measure_memory
from ..operations import Workload, sample_histories
from ..progress import Track, untracked
from ..protocols import Split, leave_one_out
from .contestants import BundleContestant, Contestant, ContestantScorer, GraphContestant, size_of
from .graph_memory import measure_graph_memory
from .peer_list import PEERS, Peer
from .quantized import quantized
from .ranked import ranked
from .torch_peer import ask_torch_peer
from .workload import OPERATIONS, prepare

SCHEMA_VERSION = 1
REFERENCE = "teacher, float32 graph"
CALIBRATION = 64
"""Histories that peers calibrate on: real ones of the validation stage, so that no test item is among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The teacher in the forms that others take, written by whoever read the checkpoint."""

    name: str
    item_ids: ItemIds
    """Of the rows of its table, hence of the graphs."""
    width: int
    max_length: int
    graphs: Mapping[str, Path]
    """`catalogue` and `candidates` (`export/whole_graph.py`)."""
    torch_modules: Mapping[str, Path]
    """The same as torch modules, saved whole (`export/whole_model.py`)."""
    weights_bytes: int
    """Of the checkpoint."""
    sha256: str
    """Of the checkpoint's file, as bundles made of it have it in their provenance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeersConfig:
    """What to measure, and how."""

    bundles: tuple[Path, ...]
    """Ours, made of the same checkpoint."""
    data: Path
    environments: Path
    """The folder that `environments` made; what is not there is a row that says so."""
    output: Path
    """A folder for what the peers make; what is there already, of the same graphs, is not made again."""
    teacher: Path | None = None
    """The uncompressed model as a bundle, measured beside."""
    peers: tuple[Peer, ...] = PEERS
    keep_repeats: bool = False
    allow_unknown_items: bool = False
    users: int | None = None
    """Users who are ranked, drawn with the seed; None: all."""
    latency_users: int = 400
    threads: int = 1
    timing: Timing = field(default_factory=Timing)
    timeout_s: float = 600.0
    """Of one peer's work."""
    seed: int = 0
    command: str = ""


def run_peers(config: PeersConfig, model: Model, track: Track = untracked) -> dict[str, Any]:
    """Measure; see docs/peers.md for what is returned.

    Raises:
        InputError: a bundle was not made of this checkpoint, or the data do not belong to it.
        BundleError: a bundle is damaged.
    """
    began = time.perf_counter()
    data = read_interactions(config.data)
    sequences = map_items(data, model.item_ids, max_unknown=float(config.allow_unknown_items)).sequences
    split = drawn_users(leave_one_out(sequences, stage="test"), config.users, config.seed)
    work = _workload(config, model, split)
    contestants, entries = _open_ours(config, model)
    calibration = calibration_inputs(leave_one_out(sequences, stage="validation"), model, config.seed)

    rankings: dict[str, Ranking] = {}
    latency: dict[str, dict[str, Any]] = {}
    with track("peers", len(config.peers)) as advance:
        for peer in config.peers:
            entry = _entry(peer.name, "peer", command=peer.command)
            if peer.runs_torch:
                asked = ask_torch_peer(peer, model.torch_modules, split, work, config)
                entry |= asked.entry
                if asked.ranking is not None:
                    rankings[peer.name], latency[peer.name] = asked.ranking, asked.latency
            else:
                reply = quantized(
                    peer, model.graphs, calibration, environments=config.environments, output=config.output,
                    timeout_s=config.timeout_s,
                )  # fmt: skip
                entry |= {
                    "error": reply.error,
                    "versions": reply.versions,
                    "quantize_seconds": reply.seconds,
                    "errors": dict(reply.content.get("errors", {})),
                }
                if reply.error is None:
                    contestants[peer.name] = _open_graph(reply.content["files"], model, config)
                    entry["size_bytes"] = size_of(Path(reply.content["files"]["catalogue"]))
                    entry["files"] = dict(reply.content["files"])
            entries.append(entry)
            advance(1)

    n_items = len(model.item_ids)
    files = {entry["name"]: entry["files"] for entry in entries if "files" in entry}
    for name, contestant in contestants.items():
        scorer = ContestantScorer(contestant, n_items)
        with track(f"ranking, {name}", len(split)) as advance:
            if name in files:
                graph = Path(files[name]["catalogue"])
                rankings[name] = ranked(
                    graph, scorer, split, keep_repeats=config.keep_repeats, progress=advance
                )
            else:
                rankings[name] = evaluate_ranks(
                    scorer, split, keep_repeats=config.keep_repeats, progress=advance
                )
    latency |= _measure_latency(contestants, work, config, track)
    baseline = baseline_memory()
    for entry in entries:
        name = entry["name"]
        if name in rankings:
            kept = compare_rankings(rankings[name], rankings[REFERENCE], seed=config.seed)
            entry["accuracy"] = describe_ranking(rankings[name], seed=config.seed)
            entry["kept"], entry["overlap"] = kept["metrics"], kept["overlap"]
            entry["latency"] = latency[name]
        if entry["error"] is None and entry["memory"] is None:
            entry["memory"] = _memory(entry, config, baseline, model)
        # A peer that measured its own process knows no baseline.
        for figures in (entry["memory"] or {}).values():
            figures.setdefault("added_bytes", figures["peak_bytes"] - baseline)
        entry.pop("files", None)
        entry.pop("path", None)
    return {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": config.command,
        "settings": {
            "protocol": split.protocol,
            "keep_repeats": config.keep_repeats,
            "threads": config.threads,
            "users": len(split),
            "latency_users": len(work.histories),
            "timing": asdict(config.timing),
            "k": work.k,
            "candidates": max(work.candidates),
            "calibration": CALIBRATION,
            "seed": config.seed,
            "confidence": 0.95,
        },
        "model": {
            "checkpoint": model.name,
            "items": n_items,
            "width": model.width,
            "max_length": model.max_length,
            "weights_bytes": model.weights_bytes,
        },
        "data": describe_data(data),
        "reference": REFERENCE,
        "contestants": entries,
        "memory_baseline_bytes": baseline,
        "machine": describe_machine(),
        "seconds": time.perf_counter() - began,
    }


def drawn_users(split: Split, n_users: int | None, seed: int) -> Split:
    """Some of the users of a split, in their order; all where that is not fewer."""
    if n_users is None or n_users >= len(split):
        return split
    chosen = np.sort(np.random.default_rng(seed).permutation(len(split))[:n_users])
    return Split(
        histories=[split.histories[user] for user in chosen],
        targets=split.targets[chosen],
        users=split.users[chosen],
        left_out=split.left_out,
        protocol=f"{split.protocol}, {len(chosen):,} users drawn",
    )


def calibration_inputs(split: Split, model: Model, seed: int) -> dict[str, list[dict[str, Any]]]:
    """For each graph the inputs of `CALIBRATION` calls, as nested lists of rows."""
    rng = np.random.default_rng(seed)
    calls = [
        {
            "history": history[None, -model.max_length :].tolist(),
            "candidates": _drawn_rows(rng, len(model.item_ids))[None].tolist(),
        }
        for history in sample_histories(split.histories, CALIBRATION, seed)
    ]
    return {"catalogue": [{"history": call["history"]} for call in calls], "candidates": calls}


def _drawn_rows(rng: np.random.Generator, n_items: int) -> Any:
    return rng.choice(n_items, min(100, n_items), replace=False)


def _workload(config: PeersConfig, model: Model, split: Split) -> Workload:
    ids = model.item_ids
    drawn = sample_histories(split.histories, config.latency_users, config.seed)
    catalogue = ids.ids(range(len(ids)))
    return Workload(
        histories=[ids.ids(rows) for rows in drawn],
        catalogue=catalogue,
        candidates=(min(100, len(catalogue)),),
        seed=config.seed,
    )


def _entry(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name, "kind": kind, "command": None, "versions": {}, "error": None, "errors": {}, "size_bytes": None,
        "quantize_seconds": None, "accuracy": None, "kept": None, "overlap": None, "latency": None, "memory": None, **more,
    }  # fmt: skip


def _open_ours(config: PeersConfig, model: Model) -> tuple[dict[str, Contestant], list[dict[str, Any]]]:
    """The reference, the teacher's bundle, and ours, with their entries so far."""
    contestants: dict[str, Contestant] = {REFERENCE: _open_graph(model.graphs, model, config)}
    entries = [
        _entry(
            REFERENCE,
            "float32",
            size_bytes=size_of(model.graphs["catalogue"]),
            files={name: str(path) for name, path in model.graphs.items()},
        )
    ]
    for path in (*([config.teacher] if config.teacher else []), *config.bundles):
        bundle = Bundle.open(path)
        contestant = BundleContestant(path, config.threads)
        ids, theirs = contestant.engine.item_ids, model.item_ids
        same = len(ids) == len(theirs) and ids.ids(range(len(ids))) == theirs.ids(range(len(theirs)))
        if not same:
            raise InputError(
                f"{path}: {len(ids)} items, not those of {model.name} ({len(theirs)}); give bundles made of this checkpoint"
            )
        made_of = checkpoint_of(bundle)
        if made_of is not None and made_of != model.sha256:
            raise InputError(
                f"{path}: has the items of {model.name}, but was made of another checkpoint (sha256 {made_of[:12]}, not "
                f"{model.sha256[:12]}); give bundles made of this one"
            )
        name = path.stem
        if name in contestants:
            raise InputError(f"{path}: a second bundle called {name}; give files of different names")
        contestants[name] = contestant
        kind = "teacher" if path == config.teacher else "bundle"
        recipe = bundle.manifest.get("recipe")
        entries.append(
            _entry(
                name,
                kind,
                size_bytes=bundle.size_bytes,
                path=path,
                recipe=recipe.get("name") if isinstance(recipe, dict) else None,
            )
        )
    return contestants, entries


def checkpoint_of(bundle: Bundle) -> str | None:
    """sha256 of the checkpoint that a bundle says it was made of; None where it does not say."""
    found: Any = bundle.manifest
    for key in ("provenance", "checkpoint", "sha256"):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, str) else None


def _open_graph(files: Mapping[str, Path | str], model: Model, config: PeersConfig) -> GraphContestant:
    candidates = files.get("candidates")
    return GraphContestant(
        Path(files["catalogue"]),
        None if candidates is None else Path(candidates),
        model.item_ids,
        model.max_length,
        config.threads,
    )


def _measure_latency(
    contestants: Mapping[str, Contestant], work: Workload, config: PeersConfig, track: Track
) -> dict[str, dict[str, Any]]:
    """For each contestant and operation: `latency.summarize`, and `speedup` over the reference; None where its graph
    does not allow the operation."""
    found: dict[str, dict[str, Any]] = {name: {} for name in contestants}
    for operation in OPERATIONS:
        able = {
            name: contestant
            for name, contestant in contestants.items()
            if operation.needs != "candidates" or contestant.takes_candidates
        }
        with track(operation.name, config.timing.n_rounds) as advance:
            samples = time_interleaved(able, prepare(operation, work), config.timing, progress=advance)
        for name in contestants:
            if name not in samples:
                found[name][operation.name] = None
                continue
            speedup = None
            if name != REFERENCE:
                speedup = compare(samples[name], samples[REFERENCE], seed=config.seed).to_json()
            found[name][operation.name] = {**summarize(samples[name]), "in_turns": True, "speedup": speedup}
    return found


def _memory(entry: Mapping[str, Any], config: PeersConfig, baseline: int, model: Model) -> dict[str, Any]:
    """For `rerank` and `recommend`, as `memory.measure_memory` names them."""
    if "path" in entry:
        return dict(measure_memory(entry["path"], baseline, threads=config.threads))
    tasks = {"recommend": "catalogue", "rerank": "candidates"}
    return {
        task: measure_graph_memory(
            Path(entry["files"][graph]),
            baseline,
            length=min(10, model.max_length),
            n_candidates=min(100, len(model.item_ids)),
            threads=config.threads,
        )
        for task, graph in tasks.items()
        if graph in entry["files"]
    }


def working(entries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The entries that were measured."""
    return [entry for entry in entries if entry["error"] is None]
