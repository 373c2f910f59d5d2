"""Distillation: a student learns to rank the whole catalogue as its teacher does.

For a history h that ends at some event of a training sequence, with z the scores of the catalogue,

    loss = soft_weight * T^2 * KL( softmax(z_teacher / T) || softmax(z_student / T) )
         + (1 - soft_weight) * CE( softmax(z_student), true next item )

(Hinton et al. 2015, arXiv:1503.02531, eq. 1 and section 2; whole-catalogue soft targets.) Items of the history are left
out of both distributions, since they are masked when it ranks: no capacity is spent on them. The last prefix of a
sequence has no next item that training may see, so it has the soft term alone.

Each epoch takes every user's whole training sequence and some random shorter ones, each ending at the
position at which it will be asked: histories come without padding, grouped by length. After each epoch the running
average of the student's weights is measured on the validation item; the best epoch is kept, and `patience` epochs without a better one end it.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..benchmarks.progress import Track, untracked
from .fake_quantize import RowQuantizer
from .models.protocol import SequenceModel


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DistillConfig:
    """How the student learns."""

    epochs: int = 8
    """At most so many passes."""
    patience: int = 3
    """Epochs without a better validation NDCG@10 before it stops."""
    temperature: float = 1.0
    """T: above 1, the teacher's order among unlikely items counts for more."""
    soft_weight: float = 0.8
    """Share of the soft targets, 0 to 1; 0.8 is what the literature settles on for catalogues that fit."""
    learning_rate: float = 1e-3
    """Adam's for the encoder, at the start; falls to a twentieth along a cosine."""
    table_learning_rate: float = 5e-5
    """Adam's for the item table. Adam moves every number by about its rate a step however small the gradient, and
    with whole-catalogue targets every row has one: at the encoder's rate rare items drift and lose what they knew."""
    batch_size: int = 256
    """Histories a step."""
    prefixes_per_user: int = 2
    """Random shorter histories of each user in an epoch, beside the whole one; more where users are few."""
    least_histories: int = 40_000
    """Histories of an epoch, at least: of a thousand users two prefixes each are too few steps to recover from pruning
    (LastFM, 1,090 users: 87% of the teacher's test NDCG@10 kept without it)."""
    dropout: float = 0.0
    """Of the student while it learns. Soft targets regularize already: on Beauty 0.2 costs 1.5% of NDCG@10."""
    average_decay: float = 0.99
    """Each step keeps this share of a running average of the weights, which is what is measured and kept (Polyak and
    Juditsky 1992): it averages the noise of small batches and of rounding. 0 keeps the last weights."""
    mask_history: bool = True
    """Leave items of the history out of both distributions; false where people come back to items."""

    def __post_init__(self) -> None:
        if not 0 <= self.soft_weight <= 1:
            raise ValueError(f"distill: soft_weight {self.soft_weight}, expected 0 to 1")
        if min(self.epochs, self.patience, self.batch_size) < 1 or self.prefixes_per_user < 0:
            raise ValueError(
                "distill: epochs, patience and batch_size must be at least 1, prefixes_per_user at least 0"
            )
        if self.least_histories < 1:
            raise ValueError(f"distill: least_histories {self.least_histories}, expected at least 1")
        if not (0 <= self.dropout < 1 and 0 <= self.average_decay < 1):
            raise ValueError("distill: dropout and average_decay must be at least 0 and below 1")
        if min(self.temperature, self.learning_rate, self.table_learning_rate) <= 0:
            raise ValueError("distill: temperature and learning rates must be positive")


def distill(
    student: SequenceModel,
    teacher: SequenceModel,
    sequences: Sequence[NDArray[np.int64]],
    config: DistillConfig,
    *,
    bits: int | None,
    validate: Callable[[SequenceModel], float],
    seed: int,
    track: Track = untracked,
) -> tuple[SequenceModel, dict[str, Any]]:
    """Train a copy of `student` on training sequences of item rows, with its table rounded to `bits` bits in the loop.

    Args:
        validate: NDCG@10 on the validation item of a model as it would be deployed; higher is better.

    Returns:
        The best student (the untrained one, if no epoch was better) and what happened, epoch by epoch.
    """
    student = copy.deepcopy(student)
    generator = np.random.default_rng(seed)
    torch.manual_seed(seed)  # dropout, where the student has it, draws from torch's global generator
    quantizer = RowQuantizer(student.item_table.shape[0], bits)
    encoder = [p for name, p in student.named_parameters() if name != "item_table"]  # type: ignore[attr-defined]
    optimizer = torch.optim.Adam(
        [
            {"params": encoder, "lr": config.learning_rate},
            {"params": [student.item_table], "lr": config.table_learning_rate},
        ]
    )
    n_histories, n_seen = epoch_histories(sequences, config), 0
    rates = (config.learning_rate, config.table_learning_rate)
    teacher_table = teacher.item_table.detach()
    for module in student.modules():  # type: ignore[attr-defined]
        if isinstance(module, nn.Dropout):
            module.p = config.dropout
    average = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(config.average_decay))  # type: ignore[arg-type]
    best, best_value, since = copy.deepcopy(student), validate(student), 0
    history: list[dict[str, float]] = [{"epoch": 0, "validation_ndcg10": best_value}]
    for epoch in range(1, config.epochs + 1):
        began, total, n_steps = time.perf_counter(), 0.0, 0
        student.train()  # type: ignore[attr-defined]
        with track(f"distill, epoch {epoch}/{config.epochs}", n_histories) as advance:
            for rows, targets in prefix_batches(sequences, config, student.max_length, generator):
                with torch.no_grad():
                    expected = teacher.encode(teacher_table[rows]) @ teacher_table.T
                table = quantizer(student.item_table)
                scores = student.encode(F.embedding(rows, table)) @ table.T
                loss = distillation_loss(
                    scores, expected, targets, rows if config.mask_history else None, config
                )
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * cosine_share(n_seen / (config.epochs * n_histories))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                average.update_parameters(student)  # type: ignore[arg-type]
                total, n_steps, n_seen = total + loss.item(), n_steps + 1, n_seen + len(rows)
                advance(len(rows))
        candidate = cast(SequenceModel, average.module.eval())
        value = validate(candidate)
        history.append(
            {
                "epoch": epoch,
                "loss": total / max(n_steps, 1),
                "validation_ndcg10": value,
                "seconds": time.perf_counter() - began,
            }
        )
        if value > best_value:
            best, best_value, since = copy.deepcopy(candidate), value, 0
        else:
            since += 1
            if since >= config.patience:
                break
    return best, {
        "epochs": history,
        "best_epoch": max(history, key=lambda e: e["validation_ndcg10"])["epoch"],
    }


def prefixes_each(sequences: Sequence[NDArray[np.int64]], config: DistillConfig) -> int:
    """Random shorter histories of each user in an epoch: what the config says, or what fills the epoch."""
    n_users = sum(len(s) > 0 for s in sequences)
    return max(config.prefixes_per_user, math.ceil(config.least_histories / max(n_users, 1)) - 1)


def epoch_histories(sequences: Sequence[NDArray[np.int64]], config: DistillConfig) -> int:
    """How many histories `prefix_batches` yields: each sequence, and its prefixes where it has shorter ones."""
    each = prefixes_each(sequences, config)
    return sum(1 + (each if len(s) > 1 else 0) for s in sequences if len(s))


def cosine_share(done: float) -> float:
    """Share of the learning rate after a share `done` of the work: from 1 to a twentieth along a cosine."""
    return 0.05 + 0.475 * (1 + math.cos(math.pi * min(1.0, done)))


_MASKED = -1e9
"""Score of an item that is left out: its share of any softmax is exactly 0 in float32."""


def distillation_loss(
    scores: Tensor, expected: Tensor, targets: Tensor, history: Tensor | None, config: DistillConfig
) -> Tensor:
    """The loss above; scores and expected (B, N), targets (B,) with -1 for none, history (B, n) rows or None."""
    if history is not None:
        scores = scores.scatter(1, history, _MASKED)
        expected = expected.scatter(1, history, _MASKED)
    student_log = scores.log_softmax(1)
    soft_log = student_log if config.temperature == 1 else (scores / config.temperature).log_softmax(1)
    soft = (expected / config.temperature).softmax(1)
    # the teacher's own entropy does not depend on the student: the cross-entropy has the same gradient as KL
    cross_entropy = -torch.einsum("bn,bn->b", soft, soft_log).mean()
    loss = config.soft_weight * config.temperature**2 * cross_entropy
    known = targets >= 0
    if history is not None:  # who comes back to an item asks for what is masked: no hard target then
        known = known & (history != targets[:, None]).all(1)
    if config.soft_weight < 1 and bool(known.any()):
        hard = -student_log[known, targets[known]].sum() / len(targets)
        loss = loss + (1 - config.soft_weight) * hard
    return loss


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
