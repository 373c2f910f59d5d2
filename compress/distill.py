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
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..benchmarks.progress import Track, untracked
from .catalogue_lessons import CatalogueLessons, Lessons
from .distill_config import DistillConfig
from .fake_quantize import TableQuantizer, table_quantizer
from .fake_quantize_encoder import EncoderRounding
from .history_batches import epoch_histories
from .history_windows import states_of, window_count
from .models.protocol import SequenceModel, innermost
from .position_lessons import PositionLessons
from .sampled_lessons import SampledLessons
from .table_form import TableForm

LEARNING_RATE = 1e-3
"""Of an encoder that starts as the teacher's."""
FRESH_LEARNING_RATE = 5e-3
"""Of one that starts from nothing: pooled students of ICSRec's SASRec learn faster with it, and no worse in the end."""


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


def cosine_share(done: float) -> float:
    """Share of the learning rate after a share `done` of the work: from 1 to a twentieth along a cosine."""
    return 0.05 + 0.475 * (1 + math.cos(math.pi * min(1.0, done)))
