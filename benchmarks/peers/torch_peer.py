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
    peer: Peer,
    environments: Path,
    modules: Mapping[str, Path],
    split: Split,
    work: Workload,
    config: PeersConfig,
) -> TorchMeasured:
    """Two processes: one that ranks and times, one for the peak memory of scoring the catalogue once."""
    with tempfile.TemporaryDirectory(prefix="pocketrec-torch-") as name:
        folder = Path(name)
        _link_packages(folder / "pocketrec")
        questions, answers = folder / "questions.npz", folder / "answers.npz"
        np.savez(
            questions,
            rows=np.concatenate(split.histories),
            lengths=np.array([len(history) for history in split.histories]),
            targets=split.targets,
        )
        count = work.candidates[0]
        row_of = {item_id: row for row, item_id in enumerate(work.catalogue)}
        rounds = [
            {
                "history": [row_of[item_id] for item_id in work.history(n)],
                "candidates": [row_of[item_id] for item_id in work.draw(n, count)],
            }
            for n in range(min(config.timing.n_rounds, len(work.histories)))
        ]
        job = {
            "peer": peer.name,
            "modules": {graph: str(path.absolute()) for graph, path in modules.items()},
            "questions": str(questions),
            "answers": str(answers),
            "keep_repeats": config.keep_repeats,
            "rounds": rounds,
            "k": work.k,
            "threads": config.threads,
            "max_seconds": config.timing.max_seconds,
        }

        def run(task: str) -> Reply:
            environment = environments.absolute() / peer.environment
            variables = {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": str(config.threads)}
            return ask(
                environment, peer.worker, {**job, "task": task}, timeout_s=config.timeout_s, env=variables
            )

        measured = run("measure")
        entry: dict[str, Any] = {
            "error": measured.error,
            "versions": measured.versions,
            "quantize_seconds": measured.content.get("quantize_seconds"),
        }
        if measured.error is not None:
            return TorchMeasured(entry=entry)
        memory = run("memory")
        entry["size_bytes"] = measured.content["size_bytes"]
        entry["memory"] = {} if memory.error else {"recommend": {"peak_bytes": memory.content["peak_bytes"]}}
        with np.load(answers) as found:
            ranking = Ranking(
                ranks=found["ranks"],
                top_rows=found["top_rows"],
                n_items=len(work.catalogue),
                repeated_targets=int(found["repeated_targets"]),
                seconds=float(measured.content["ranking_seconds"]),
            )
        samples = measured.content["samples_ms"]
    latency = {
        operation.name: {**summarize(np.array(samples[operation.name])), "in_turns": False, "speedup": None}
        if operation.name in samples
        else None
        for operation in OPERATIONS
    }
    return TorchMeasured(entry=entry, ranking=ranking, latency=latency)


def _link_packages(folder: Path) -> None:
    """`pocketrec` as its packages are installed here, by links: a namespace package without our environment."""
    folder.mkdir()
    root = (__package__ or "").split(".")[0]
    for name in SHARED_PACKAGES:
        (found,) = import_module(f"{root}.{name}").__path__
        os.symlink(found, folder / name, target_is_directory=True)
