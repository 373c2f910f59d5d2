"""Distillation: a student learns to rank the whole catalogue as its teacher does.

For a history that ends at some event of a training sequence,

    loss = soft_weight * soft + (1 - soft_weight) * hard + order_weight * order + hidden_weight * hidden

whose terms are those of `distill_loss`: the teacher's distribution over the catalogue, the true next item, the order of the
teacher's best, and its user vector. The last prefix of a sequence has no next item that training may see, so it has no
hard term. Where the catalogue is too large to score for every history, some of it stands for all (`sampled_lessons`).

Some of the histories are longer than the data's: the teacher went on with them (`continued_histories`).

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
from typing import Any, Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..benchmarks.progress import Track, untracked
from .continued_histories import continued
from .distill_loss import (
    MASKED,
    best_of_others,
    consuming_distillation_loss,
    hidden_loss,
    order_loss,
)
from .fake_quantize import TableQuantizer, table_quantizer
from .fake_quantize_encoder import EncoderRounding
from .history_windows import states_of, window_count
from .models.protocol import SequenceModel, innermost
from .table_form import TableForm
from .train import FULL_SOFTMAX_ITEMS, SAMPLED_NEGATIVES

LEARNING_RATE = 1e-3
"""Of an encoder that starts as the teacher's."""
FRESH_LEARNING_RATE = 5e-3
"""Of one that starts from nothing: pooled students of ICSRec's SASRec learn faster with it, and no worse in the end."""


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
    learning_rate: float | None = None
    """Adam's for the encoder, at the start; falls to a twentieth along a cosine. None: `LEARNING_RATE`, or
    `FRESH_LEARNING_RATE` for an encoder of another architecture than the teacher's, which starts from nothing."""
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
    hidden_weight: float = 0.0
    """Of the distance to the teacher's user vector. It helps a student that starts far from its teacher; one that starts
    as a copy is nearer than this can bring it."""
    order_weight: float = 0.0
    """Of the list-wise loss over the teacher's best `order_length` items against as many that the student overrates."""
    order_length: int = 20
    """Places whose order counts: what is shown, and as many again."""
    sampled_items: int | None = None
    """Items drawn for a batch, which stand for the catalogue beside the teacher's `teacher_top`; 0: the whole catalogue;
    None: the whole one up to 50,000 items, else 1,024."""
    teacher_top: int = 64
    """Best items of the teacher that are remembered of each history, where the catalogue is sampled."""
    continued_share: float = 0.0
    """Share of the batches whose histories the teacher first goes on with, 0 to 1; they have no hard term. A student that
    starts far from its teacher, or has little room, learns more of it from histories that are new each epoch."""
    continued_events: int = 3
    """At most so many items that it adds."""
    positions: int = 0
    """Positions of each history that are asked in one pass, in place of shorter histories, each of which counts as one of
    `batch_size`; for causal encoders and long histories (`position_lessons`). 0: histories by themselves."""

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
        if (
            min(
                self.temperature,
                1.0 if self.learning_rate is None else self.learning_rate,
                self.table_learning_rate,
            )
            <= 0
        ):
            raise ValueError("distill: temperature and learning rates must be positive")
        if min(self.hidden_weight, self.order_weight) < 0 or min(self.order_length, self.teacher_top) < 1:
            raise ValueError(
                "distill: hidden_weight and order_weight must be at least 0, order_length and teacher_top at least 1"
            )
        if self.positions < 0 or (self.positions and self.continued_share):
            raise ValueError(
                f"distill: positions {self.positions}, expected at least 0, and 0 with a continued_share"
            )
        if not 0 <= self.continued_share <= 1 or self.continued_events < 1:
            raise ValueError(
                "distill: continued_share must be 0 to 1 and continued_events at least 1, "
                f"got {self.continued_share} and {self.continued_events}"
            )
        if self.sampled_items is not None and self.sampled_items < 0:
            raise ValueError(
                f"distill: sampled_items {self.sampled_items}, expected 0 (the whole catalogue) or more"
            )

    def sampled_of(self, n_items: int) -> int:
        """Items drawn for a batch from a catalogue of `n_items`; 0: all of it is scored."""
        wanted = self.sampled_items
        if wanted is None:
            wanted = 0 if n_items <= FULL_SOFTMAX_ITEMS else SAMPLED_NEGATIVES
        return wanted if wanted < n_items else 0


class Lessons(Protocol):
    """What the teacher says of histories, and how far the student is from it."""

    def epoch(
        self, generator: np.random.Generator
    ) -> Iterator[tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]]:
        """Batches in random order: rows int64 (B, n), and the loss of the student's user vectors (B, D) and table; with
        `positions`, rows padded with -1, and the loss of the states after each of them (B, n, D)."""
        ...


LessonsMaker = Callable[[DistillConfig, nn.Linear | None], Lessons]
"""From how the student learns, and what takes its user vectors to the teacher's space."""


def distill(
    student: SequenceModel,
    teacher: SequenceModel,
    sequences: Sequence[NDArray[np.int64]],
    config: DistillConfig,
    *,
    bits: TableForm | None,
    validate: Callable[[SequenceModel], float],
    seed: int,
    encoder_bits: int | None = None,
    asked: LessonsMaker | None = None,
    track: Track = untracked,
) -> tuple[SequenceModel, dict[str, Any]]:
    """Train a copy of `student` on training sequences of item rows, with its table rounded in the loop.

    Args:
        bits: bits a value that the table is rounded to, or its tiers; None is no rounding.
        validate: NDCG@10 on the validation item of a model as it would be deployed; higher is better.
        encoder_bits: 4 rounds the encoder's matrices in the loop, too (`fake_quantize_encoder`).
        asked: what the teacher was asked before, by somebody who distils several students of it; None asks it.

    Returns:
        The best student (the untrained one, if no epoch was better) and what happened, epoch by epoch.
    """
    student = copy.deepcopy(student)
    generator = np.random.default_rng(seed)
    torch.manual_seed(seed)  # dropout, where the student has it, draws from torch's global generator
    quantizer = table_quantizer(student.item_table.shape[0], bits)
    rounding = EncoderRounding(student, encoder_bits)
    to_teacher = _to_teacher(student, teacher) if config.hidden_weight else None
    make = asked or (
        lambda config, to_teacher: _lessons(student, teacher, sequences, config, to_teacher, generator)
    )
    lessons = make(config, to_teacher)
    encoder = [p for name, p in student.named_parameters() if name != "item_table"]  # type: ignore[attr-defined]
    encoder += [] if to_teacher is None else to_teacher.parameters()
    fresh = type(innermost(student)) is not type(innermost(teacher))
    rates = (
        config.learning_rate or (FRESH_LEARNING_RATE if fresh else LEARNING_RATE),
        config.table_learning_rate,
    )
    optimizer = torch.optim.Adam(
        [
            {"params": encoder, "lr": rates[0]},
            {"params": [student.item_table], "lr": rates[1]},
        ]
    )
    encode = states_of if config.positions else _encoded
    n_histories, n_seen = _epoch_size(sequences, config, student.max_length), 0
    for module in student.modules():  # type: ignore[attr-defined]
        if isinstance(module, nn.Dropout):
            module.p = config.dropout
    average = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(config.average_decay))  # type: ignore[arg-type]
    best = _settled(student, quantizer, rounding)
    best_value, since = validate(best), 0
    history: list[dict[str, float]] = [{"epoch": 0, "validation_ndcg10": best_value}]
    for epoch in range(1, config.epochs + 1):
        began, total, n_steps = time.perf_counter(), 0.0, 0
        student.train()  # type: ignore[attr-defined]
        with track(f"distill, epoch {epoch}/{config.epochs}", n_histories) as advance:
            for rows, loss_of in lessons.epoch(generator):
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * cosine_share(n_seen / (config.epochs * n_histories))
                optimizer.zero_grad(set_to_none=True)
                with rounding.applied():
                    table = quantizer(student.item_table)
                    loss = loss_of(encode(student, rows, table), table)
                    loss.backward()
                optimizer.step()
                average.update_parameters(student)  # type: ignore[arg-type]
                total, n_steps, n_seen = total + loss.item(), n_steps + 1, n_seen + len(rows)
                advance(len(rows))
        candidate = _settled(cast(SequenceModel, average.module), quantizer, rounding)
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
            best, best_value, since = candidate, value, 0
        else:
            since += 1
            if since >= config.patience:
                break
    return best, {
        "epochs": history,
        "best_epoch": max(history, key=lambda e: e["validation_ndcg10"])["epoch"],
    }


def _settled(student: SequenceModel, quantizer: TableQuantizer, rounding: EncoderRounding) -> SequenceModel:
    """A copy in eval mode whose table, and rounded encoder, the writer stores as they were learned."""
    copied = copy.deepcopy(student)
    rounding.settle_(copied)
    with torch.no_grad():
        copied.item_table.copy_(quantizer.settled(copied.item_table))
    return cast(SequenceModel, cast(nn.Module, copied).eval())


def _encoded(student: SequenceModel, rows: Tensor, table: Tensor) -> Tensor:
    return student.encode(F.embedding(rows, table))


def _epoch_size(sequences: Sequence[NDArray[np.int64]], config: DistillConfig, max_length: int) -> int:
    """Rows that the lessons of an epoch yield in all."""
    return window_count(sequences, max_length) if config.positions else epoch_histories(sequences, config)


def _lessons(
    student: SequenceModel,
    teacher: SequenceModel,
    sequences: Sequence[NDArray[np.int64]],
    config: DistillConfig,
    to_teacher: nn.Linear | None,
    generator: np.random.Generator,
) -> Lessons:
    from .position_lessons import PositionLessons  # which read `catalogue_loss` and `prefix_batches` here
    from .sampled_lessons import SampledLessons

    if config.positions:
        return PositionLessons(student, teacher, sequences, config, to_teacher)
    if config.sampled_of(len(teacher.item_table)):
        return SampledLessons(teacher, sequences, config, student.max_length, to_teacher, generator)
    return CatalogueLessons(teacher, sequences, config, student.max_length, to_teacher)


def _to_teacher(student: SequenceModel, teacher: SequenceModel) -> nn.Linear | None:
    """Takes user vectors to the teacher's space, where theirs is another: learned, from the map between the tables."""
    if student.width == teacher.width:
        return None
    between = torch.linalg.lstsq(student.item_table.detach(), teacher.item_table.detach()).solution  # (r, D)
    linear = nn.Linear(student.width, teacher.width, bias=False)
    linear.weight = nn.Parameter(between.T.contiguous())
    return linear


@dataclasses.dataclass(frozen=True, slots=True)
class CatalogueLessons:
    """Every item of the catalogue is scored for every history, by both."""

    teacher: SequenceModel
    sequences: Sequence[NDArray[np.int64]]
    config: DistillConfig
    max_length: int
    to_teacher: nn.Linear | None

    def epoch(
        self, generator: np.random.Generator
    ) -> Iterator[tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]]:
        """See `Lessons`; random prefixes and continuations, other ones each epoch."""
        batches = prefix_batches(self.sequences, self.config, self.max_length, generator)
        for rows, targets in some_continued(self.teacher, batches, self.config, self.max_length, generator):

            def loss_of(
                users: Tensor, table: Tensor, rows: Tensor = rows, targets: Tensor = targets
            ) -> Tensor:
                return self._loss(users, table, rows, targets)

            yield rows, loss_of

    def _loss(self, users: Tensor, table: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
        teacher_table = self.teacher.item_table.detach()
        with torch.no_grad():
            theirs = self.teacher.encode(teacher_table[rows])
        return catalogue_loss(
            users, theirs, table, teacher_table, rows, targets, self.config, self.to_teacher
        )


def catalogue_loss(
    users: Tensor,
    theirs: Tensor,
    table: Tensor,
    teacher_table: Tensor,
    rows: Tensor,
    targets: Tensor,
    config: DistillConfig,
    to_teacher: nn.Linear | None,
) -> Tensor:
    """The loss of user vectors (B, D) beside the teacher's, of histories int64 (B, n) and next items int64 (B,)."""
    with torch.no_grad():
        expected = theirs @ teacher_table.T
    history = rows if config.mask_history else None
    scores, more = users @ table.T, 0.0
    if config.order_weight:
        known = expected if history is None else expected.scatter(1, history, MASKED)
        ours = scores if history is None else scores.scatter(1, history, MASKED)
        top = known.topk(min(config.order_length, known.shape[1] // 2), 1).indices
        others = best_of_others(ours, top, top.shape[1])
        more = config.order_weight * order_loss(picked(users, table, top), picked(users, table, others))
    if config.hidden_weight:
        mapped = users if to_teacher is None else to_teacher(users)
        more = more + config.hidden_weight * hidden_loss(mapped, theirs)
    return consuming_distillation_loss(scores, expected, targets, history, config) + more


def picked(users: Tensor, table: Tensor, rows: Tensor) -> Tensor:
    """Scores of some items for each user: (B, D), (N, D), int64 (B, C) -> (B, C)."""
    return torch.bmm(F.embedding(rows, table), users[:, :, None])[:, :, 0]


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


def cosine_share(done: float) -> float:
    """Share of the learning rate after a share `done` of the work: from 1 to a twentieth along a cosine."""
    return 0.05 + 0.475 * (1 + math.cos(math.pi * min(1.0, done)))


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
