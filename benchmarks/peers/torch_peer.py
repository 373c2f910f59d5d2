"""A peer that makes a torch module: it ranks, times and reports its memory in its own environment's process.

Its worker needs our evaluator and the model's classes, which it finds through a folder of links to the packages of this
installation: `evaluate` needs numpy, the models torch, and both are there.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..evaluate import Ranking
from ..latency import summarize
from ..operations import Workload
from ..protocols import Split
from .peer_list import Peer
from .protocol import Reply, ask
from .quantized import kept_reply
from .workload import OPERATIONS

if TYPE_CHECKING:
    from .compare import PeersConfig

SHARED_PACKAGES = ("runtime", "benchmarks", "export", "compress")


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchMeasured:
    """What became of it."""

    entry: dict[str, Any]
    """Fields of its entry in the results."""
    ranking: Ranking | None = None
    latency: dict[str, Any] = field(default_factory=dict)


def ask_torch_peer(
    peer: Peer, modules: Mapping[str, Path], split: Split, work: Workload, config: PeersConfig
) -> TorchMeasured:
    """Two processes: one that ranks and times, one for the peak memory of scoring the catalogue once."""
    environment = config.environments.absolute() / peer.environment
    folder = config.output.absolute() / peer.name
    row_of = {item_id: row for row, item_id in enumerate(work.catalogue)}
    rounds = [
        {
            "history": [row_of[item_id] for item_id in work.history(n)],
            "candidates": [row_of[item_id] for item_id in work.draw(n, work.candidates[0])],
        }
        for n in range(min(config.timing.n_rounds, len(work.histories)))
    ]
    job: dict[str, Any] = {
        "peer": peer.name,
        "modules": {graph: str(path.absolute()) for graph, path in modules.items()},
        "questions": str(folder / "questions.npz"),
        "answers": str(folder / "answers.npz"),
        "keep_repeats": config.keep_repeats,
        "rounds": rounds,
        "k": work.k,
        "threads": config.threads,
        "max_seconds": config.timing.max_seconds,
    }

    def make() -> Reply:
        np.savez(
            job["questions"],
            rows=np.concatenate(split.histories),
            lengths=np.array([len(history) for history in split.histories]),
            targets=split.targets,
        )
        with tempfile.TemporaryDirectory(prefix="pocketrec-torch-") as packages:
            link_packages(Path(packages) / "pocketrec")
            variables = {"PYTHONPATH": packages, "OMP_NUM_THREADS": str(config.threads)}
            measured, memory = (
                ask(
                    environment, peer.worker, {**job, "task": task}, timeout_s=config.timeout_s, env=variables
                )
                for task in ("measure", "memory")
            )
        content = {**measured.content, "peak_bytes": memory.content.get("peak_bytes")}
        return Reply(content=content, error=measured.error, seconds=measured.seconds)

    asked = [rounds, config.keep_repeats, config.threads, split.targets.tolist()]
    reply = kept_reply(peer, environment, folder, modules.values(), asked, make)
    entry: dict[str, Any] = {
        "error": reply.error,
        "versions": reply.versions,
        "quantize_seconds": reply.content.get("quantize_seconds"),
    }
    if reply.error is not None:
        return TorchMeasured(entry=entry)
    peak_bytes = reply.content["peak_bytes"]
    entry["size_bytes"] = reply.content["size_bytes"]
    entry["memory"] = {} if peak_bytes is None else {"recommend": {"peak_bytes": peak_bytes}}
    with np.load(job["answers"]) as found:
        ranking = Ranking(
            ranks=found["ranks"],
            top_rows=found["top_rows"],
            n_items=len(work.catalogue),
            repeated_targets=int(found["repeated_targets"]),
            seconds=float(reply.content["ranking_seconds"]),
        )
    samples = reply.content["samples_ms"]
    latency = {
        operation.name: {**summarize(np.array(samples[operation.name])), "in_turns": False, "speedup": None}
        if operation.name in samples
        else None
        for operation in OPERATIONS
    }
    return TorchMeasured(entry=entry, ranking=ranking, latency=latency)


def link_packages(folder: Path) -> None:
    """`pocketrec` as its packages are installed here, by links: a namespace package without our environment."""
    folder.mkdir(parents=True)
    root = (__package__ or "").split(".")[0]
    for name in SHARED_PACKAGES:
        (found,) = import_module(f"{root}.{name}").__path__
        os.symlink(found, folder / name, target_is_directory=True)
