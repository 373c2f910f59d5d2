"""The histories of an epoch of distillation: whole training sequences, shorter ones, and some that the teacher goes on with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .continued_histories import continued
from .distill_config import DistillConfig
from .models.protocol import SequenceModel


def prefix_batches(
    sequences: Sequence[NDArray[np.int64]],
    config: DistillConfig,
    max_length: int,
    generator: np.random.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of one epoch in random order: rows int64 (B, n), all of one length, and targets int64 (B,), -1 for none."""
    users, ends = [], []
    each = prefixes_each(sequences, config)
    for user, sequence in enumerate(sequences):
        if len(sequence) == 0:
            continue
        shorter = generator.integers(1, len(sequence), size=each) if len(sequence) > 1 else []
        for end in (len(sequence), *shorter):
            users.append(user)
            ends.append(int(end))
    order = generator.permutation(len(users))
    lengths = np.minimum(np.asarray(ends), max_length)[order]
    batches = []
    for length in np.unique(lengths):
        group = order[lengths == length]
        batches += [group[i : i + config.batch_size] for i in range(0, len(group), config.batch_size)]
    for batch in generator.permutation(len(batches)):
        chosen = batches[batch]
        rows = [sequences[users[i]][max(0, ends[i] - max_length) : ends[i]] for i in chosen]
        targets = [sequences[users[i]][ends[i]] if ends[i] < len(sequences[users[i]]) else -1 for i in chosen]
        yield torch.from_numpy(np.stack(rows)), torch.as_tensor(targets, dtype=torch.int64)


def some_continued(
    teacher: SequenceModel,
    batches: Iterator[tuple[Tensor, Tensor]],
    config: DistillConfig,
    max_length: int,
    generator: np.random.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of `prefix_batches`, of which the teacher has gone on with some: nobody knows what comes after those."""
    for rows, targets in batches:
        if config.continued_share and generator.random() < config.continued_share:
            n_events = int(generator.integers(1, config.continued_events + 1))
            rows = continued(teacher, rows, n_events, max_length, generator, repeats=not config.mask_history)
            targets = torch.full_like(targets, -1)
        yield rows, targets


def prefixes_each(sequences: Sequence[NDArray[np.int64]], config: DistillConfig) -> int:
    """Random shorter histories of each user in an epoch: what the config says, or what fills the epoch."""
    n_users = sum(len(s) > 0 for s in sequences)
    return max(config.prefixes_per_user, math.ceil(config.least_histories / max(n_users, 1)) - 1)


def epoch_histories(sequences: Sequence[NDArray[np.int64]], config: DistillConfig) -> int:
    """How many histories `prefix_batches` yields: each sequence, and its prefixes where it has shorter ones."""
    each = prefixes_each(sequences, config)
    return sum(1 + (each if len(s) > 1 else 0) for s in sequences if len(s))
