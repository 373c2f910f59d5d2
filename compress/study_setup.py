"""What the studies of one checkpoint share: their command line, the checkpoint beside its data, and the head of their JSON."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..benchmarks.interactions import Interactions, describe_data, map_items, read_interactions
from ..benchmarks.machine import describe_machine
from ..benchmarks.protocols import Split, leave_one_out, training_sequences
from ..runtime.atomic_file import write_atomically
from ..runtime.errors import InputError
from .item_bias import fold_item_bias
from .layouts import Teacher, load_teacher
from .models.protocol import SequenceModel


def study_parser(module: str, description: str) -> argparse.ArgumentParser:
    """Of `python -m pocketrec.compress.MODULE CHECKPOINT --data FILE --json OUT`, with the options that all studies have."""
    parser = argparse.ArgumentParser(prog=f"python -m pocketrec.compress.{module}", description=description)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    return parser


@dataclasses.dataclass(frozen=True, slots=True)
class StudyData:
    """A checkpoint and the sequences that it is studied on."""

    args: argparse.Namespace
    command: str
    interactions: Interactions
    loaded: Teacher
    teacher: SequenceModel
    """Its model, item biases folded into the table."""
    sequences: Sequence[NDArray[np.int64]]
    training: list[NDArray[np.int64]]

    def validation_users(self, n_users: int) -> Split:
        """Validation items of at most so many users."""
        return some_users(leave_one_out(self.sequences, stage="validation"), n_users, self.args.seed)

    def write(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """The study's JSON, replaced at once: what was studied and where, and `found`."""
        result = {
            "schema_version": 1,
            "command": self.command,
            "data": describe_data(self.interactions),
            "checkpoint_sha256": self.loaded.source.sha256,
            "seed": self.args.seed,
            **found,
            "machine": describe_machine() | {"torch": torch.__version__},
        }
        write_atomically(self.args.json, [json.dumps(result, indent=1).encode() + b"\n"], overwrite=True)
        return result


def load_study(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> StudyData:
    """The command line read, and what it names.

    Raises:
        InputError: a negative `--epochs`, or checkpoint or data that nobody can read.
    """
    args = parser.parse_args(argv)
    if getattr(args, "epochs", 0) < 0:
        raise InputError(f"--epochs: {args.epochs}, expected at least 0")
    if args.threads:
        torch.set_num_threads(args.threads)
    interactions = read_interactions(args.data)
    loaded = load_teacher(args.checkpoint, interactions=interactions)
    sequences = map_items(interactions, loaded.item_ids).sequences
    return StudyData(
        args=args,
        command=shlex.join([*parser.prog.split(), *(sys.argv[1:] if argv is None else argv)]),
        interactions=interactions,
        loaded=loaded,
        teacher=fold_item_bias(loaded.model),
        sequences=sequences,
        training=training_sequences(sequences),
    )


def some_users(split: Split, n_users: int, seed: int) -> Split:
    """At most so many users of a split."""
    chosen = np.random.default_rng(seed).permutation(len(split.targets))[:n_users]
    return dataclasses.replace(
        split, users=np.asarray(split.users)[chosen], targets=np.asarray(split.targets)[chosen],
        histories=[split.histories[index] for index in chosen],
    )  # fmt: skip
