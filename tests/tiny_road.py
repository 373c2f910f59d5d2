"""A world small enough for the tests to walk the whole road: 50 items in a circle, and people who mostly go on to the
next one. A SASRec is really trained on it, so that what compression loses can be seen.

Loaded by fixtures, at their first use: it imports torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from pocketrec.benchmarks.evaluate import evaluate_ranks
from pocketrec.benchmarks.protocols import leave_one_out, training_sequences
from pocketrec.benchmarks.ranking_metrics import per_user
from pocketrec.compress.distill_config import DistillConfig
from pocketrec.compress.layouts import Teacher, load_teacher
from pocketrec.compress.meter import TorchScorer
from pocketrec.compress.models.sasrec import SASRec, SASRecConfig
from pocketrec.compress.native_checkpoint import save_checkpoint
from pocketrec.compress.pipeline import Compressed, compress_model
from pocketrec.compress.prune import PruneConfig
from pocketrec.compress.recipe import EncoderConfig, Recipe, TableConfig
from pocketrec.compress.report import StepReport
from pocketrec.compress.train import TrainConfig, train_sasrec
from pocketrec.export import encoder_graph
from pocketrec.runtime.item_ids import ItemIds

N_ITEMS, WIDTH, MAX_LENGTH, N_USERS = 50, 16, 8, 150
ALL_STEPS = Recipe(
    name="all steps",
    prune=PruneConfig(inner_multiple=8, calibration_batches=8, max_drop=1.0),
    distill=DistillConfig(epochs=2, batch_size=64, least_histories=1),
    table=TableConfig(bits=4, width=12),
    encoder=EncoderConfig(products="int8"),  # not "measured", which may differ from run to run
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyRoad:
    """Its files, with ids 1 to 50, and what they hold."""

    checkpoint: Path
    data: Path
    sequences: list[NDArray[np.int64]]
    teacher: Teacher


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """What `compress_model` left of `ALL_STEPS`."""

    done: Compressed
    teacher_path: Path
    said: list[StepReport] = field(default_factory=list)


def make_tiny_road(folder: Path) -> TinyRoad:
    """Train the teacher and write its files; two seconds."""
    torch.set_num_threads(1)
    sequences = walks(N_USERS)
    validation = leave_one_out(sequences, stage="validation")

    def validate(model: SASRec) -> float:
        ranking = evaluate_ranks(TorchScorer(model), validation, n_top=0)
        return float(per_user(ranking.ranks, "ndcg@10").mean())

    config = SASRecConfig(
        n_items=N_ITEMS, width=WIDTH, n_layers=1, n_heads=2, max_length=MAX_LENGTH, inner_widths=32
    )
    train = TrainConfig(epochs=5, learning_rate=0.01, batch_size=32)
    model, _ = train_sasrec(training_sequences(sequences), train, config, validate=validate, seed=0)
    checkpoint, data = folder / "tiny.safetensors", folder / "tiny.txt"
    save_checkpoint(checkpoint, model, ItemIds.from_sequence(range(1, N_ITEMS + 1)))
    write_sequences(data, sequences)
    return TinyRoad(checkpoint=checkpoint, data=data, sequences=sequences, teacher=load_teacher(checkpoint))


def walks(n_users: int, *, n_items: int = N_ITEMS, seed: int = 0) -> list[NDArray[np.int64]]:
    """Item rows of each user, 4 to 13 of them, no item twice: 70% of the steps go to the next item of the circle."""
    rng = np.random.default_rng(seed)
    sequences = []
    for _ in range(n_users):
        length, sequence = rng.integers(4, 14), [int(rng.integers(n_items))]
        while len(sequence) < length:
            item = (sequence[-1] + 1) % n_items if rng.random() < 0.7 else int(rng.integers(n_items))
            if item not in sequence:
                sequence.append(item)
        sequences.append(np.array(sequence))
    return sequences


def write_sequences(
    path: Path, sequences: Sequence[NDArray[np.int64]], item_id: Callable[[int], object] = lambda row: row + 1
) -> None:
    """As sequence lines, `user item item ...`."""
    lines = (
        f"{user} {' '.join(str(item_id(int(row))) for row in sequence)}\n"
        for user, sequence in enumerate(sequences, 1)
    )
    path.write_text("".join(lines))


def walk_all_steps(road: TinyRoad, folder: Path) -> Walked:
    """Every step there is, and the teacher's bundle beside."""
    said: list[StepReport] = []
    done = compress_model(
        road.teacher,
        road.sequences,
        ALL_STEPS,
        folder / "tiny.pocket",
        teacher_output=folder / "teacher.pocket",
        data={"file": road.data.name},
        say=said.append,
    )
    return Walked(done=done, teacher_path=folder / "teacher.pocket", said=said)


_traced: dict[str, onnx.ModelProto] = {}


def export_encoder_once(module: torch.nn.Module, **options: Any) -> onnx.ModelProto:
    """`export_encoder`, which takes seconds, but once for the same weights: most tests are about what follows."""
    weights = hashlib.sha256(repr(sorted(options.items())).encode())
    for name, tensor in sorted(module.state_dict().items()):
        if not name.endswith("item_table"):  # is no part of the encoder
            weights.update(name.encode() + tensor.numpy().tobytes())
    key = weights.hexdigest()
    if key not in _traced:
        _traced[key] = encoder_graph.export_encoder(module, **options)
    return _traced[key]
