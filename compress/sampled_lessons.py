"""Distillation where the catalogue is too large to score for every history: some items stand for all of it.

Of each history are scored the teacher's K best items, which hold most of its probability, the true next item, and S items
drawn evenly for the whole batch, each of which stands for N / S of the catalogue's N,

    sum over the catalogue of exp z  ~  sum_top exp z + exp z_next + N / S * sum_drawn exp z

for the student and for the teacher alike (Jean et al. 2015, arXiv:1412.2007, section 3). What was drawn and is in the
history, in the top or next is left out of the last sum. The teacher's best are found once, before the first epoch, for
histories that stay the same from then on: one pass over the catalogue in all, held as 8 K bytes a history.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from .catalogue_lessons import picked
from .distill_config import DistillConfig
from .distill_loss import MASKED, best_of_others, distillation_loss, hidden_loss, order_loss
from .history_batches import prefix_batches, some_continued
from .models.protocol import SequenceModel
from .train import CHUNK_LOGITS


@dataclasses.dataclass(frozen=True, slots=True)
class _Lesson:
    """A batch of histories of one length and what the teacher says of them."""

    rows: Tensor  # int64 (B, n)
    targets: Tensor  # int64 (B,), -1 for none
    theirs: Tensor  # (B, D): the teacher's user vectors
    top: Tensor  # int32 (B, K): its best items, best first
    expected: Tensor  # (B, K): their scores


class SampledLessons:
    """See `catalogue_lessons.Lessons`."""

    def __init__(
        self,
        teacher: SequenceModel,
        sequences: Sequence[NDArray[np.int64]],
        config: DistillConfig,
        max_length: int,
        to_teacher: nn.Linear | None,
        generator: np.random.Generator,
    ) -> None:
        self.config = config
        self.table = teacher.item_table.detach()
        self.to_teacher = to_teacher
        self.n_sampled = config.sampled_of(len(self.table))
        batches = prefix_batches(sequences, config, max_length, generator)
        self._lessons = [
            self._ask(teacher, rows, targets)
            for rows, targets in some_continued(teacher, batches, config, max_length, generator)
        ]

    def retold(self, config: DistillConfig, to_teacher: nn.Linear | None) -> SampledLessons:
        """What the teacher said, for another student or other weights of the loss; its best are not asked for again."""
        other = copy.copy(self)
        other.config, other.to_teacher = config, to_teacher
        return other

    def epoch(
        self, generator: np.random.Generator
    ) -> Iterator[tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]]:
        """See `Lessons`; the same histories each epoch, in another order and against other items."""
        for index in generator.permutation(len(self._lessons)):
            lesson = self._lessons[index]
            sample = torch.from_numpy(generator.choice(len(self.table), self.n_sampled, replace=False))

            def loss_of(
                users: Tensor, table: Tensor, lesson: _Lesson = lesson, sample: Tensor = sample
            ) -> Tensor:
                return self._loss(users, table, lesson, sample)

            yield lesson.rows, loss_of

    def _ask(self, teacher: SequenceModel, rows: Tensor, targets: Tensor) -> _Lesson:
        """The teacher's best of a batch, some users at a time."""
        n_top = min(self.config.teacher_top, len(self.table))
        best: list[tuple[Tensor, Tensor]] = []
        with torch.no_grad():
            theirs = teacher.encode(self.table[rows])
            at_once = max(1, CHUNK_LOGITS // len(self.table))
            for users, history in zip(theirs.split(at_once), rows.split(at_once), strict=True):
                scores = users @ self.table.T
                if self.config.mask_history:
                    scores.scatter_(1, history, MASKED)
                expected, top = scores.topk(n_top, 1)
                best.append((expected, top))
        expected, top = (torch.cat(parts) for parts in zip(*best, strict=True))
        return _Lesson(rows, targets, theirs, top.int(), expected)

    def _loss(self, users: Tensor, table: Tensor, lesson: _Lesson, sample: Tensor) -> Tensor:
        config, top = self.config, lesson.top.long()
        known = lesson.targets >= 0
        if config.mask_history:
            known = known & (lesson.rows != lesson.targets[:, None]).all(1)
        following = torch.where(known, lesson.targets, top[:, 0])[
            :, None
        ]  # (B, 1): the next item, or one that is there
        shares = self._shares(lesson, following, sample)
        columns = torch.cat([top, following], 1)
        scores = torch.cat([picked(users, table, columns), users @ F.embedding(sample, table).T], 1)
        expected = torch.cat(
            [lesson.expected, picked(lesson.theirs, self.table, following), lesson.theirs @ self.table[sample].T], 1
        )  # fmt: skip
        # the next item's own column, or its place among the best, whose share is not masked
        place = (top == following).int().argmax(1)
        column = torch.where((top == following).any(1), place, top.shape[1])
        targets = torch.where(known, column, -1)
        loss = distillation_loss(scores, expected, targets, None, config, shares=shares)
        if config.order_weight:
            length = min(config.order_length, top.shape[1])
            best = torch.arange(length).expand(len(users), -1)
            others = best_of_others(
                scores + shares.clamp(max=0.0), best, min(length, scores.shape[1] - length)
            )
            loss = loss + config.order_weight * order_loss(scores[:, :length], scores.gather(1, others))
        if config.hidden_weight:
            mapped = users if self.to_teacher is None else self.to_teacher(users)
            loss = loss + config.hidden_weight * hidden_loss(mapped, lesson.theirs)
        return loss

    def _shares(self, lesson: _Lesson, following: Tensor, sample: Tensor) -> Tensor:
        """Log of how many items each column stands for, `MASKED` for those that are counted elsewhere: (B, K + 1 + S)."""
        top = lesson.top.long()
        n_users, n_sampled = len(top), len(sample)
        place = torch.full((len(self.table),), -1)
        place[sample] = torch.arange(n_sampled)
        drawn = torch.full((n_users, n_sampled), math.log(len(self.table) / n_sampled))
        counted = [top, following, *([lesson.rows] if self.config.mask_history else [])]
        for rows in counted:
            columns = place[rows]  # (B, any), -1 where it was not drawn
            users = torch.arange(n_users)[:, None].expand_as(columns)
            drawn[users[columns >= 0], columns[columns >= 0]] = MASKED
        of_top = torch.where(
            lesson.expected <= MASKED / 2, MASKED, 0.0
        )  # of the history: the catalogue is that small
        of_next = torch.where((top == following).any(1, keepdim=True), MASKED, 0.0)
        return torch.cat([of_top, of_next, drawn], 1)
