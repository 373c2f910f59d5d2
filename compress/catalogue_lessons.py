"""What a teacher says of histories, where it and the student score the whole catalogue for each (`distill_loss`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from .distill_config import DistillConfig
from .distill_loss import MASKED, best_of_others, consuming_distillation_loss, hidden_loss, order_loss
from .history_batches import prefix_batches, some_continued
from .models.protocol import SequenceModel


class Lessons(Protocol):
    """What the teacher says of histories, and how far the student is from it."""

    def epoch(
        self, generator: np.random.Generator
    ) -> Iterator[tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]]:
        """Batches in random order: rows int64 (B, n), and the loss of the student's user vectors (B, D) and table; with
        `positions`, rows padded with -1, and the loss of the states after each of them (B, n, D)."""
        ...


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
