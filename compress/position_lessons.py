"""Distillation at many positions of a history in one pass: for causal encoders, whose states are user vectors of every prefix.

A prefix of its own costs a forward pass of both models however much of it the pass before has seen. Where the state after
an item is what `encode` says of the history up to there, one pass over a history of n items asks both for n user vectors:

    hidden   of all n positions
    soft, hard, order   of `positions` of them, which score the catalogue: the last one, as the device will be asked, and others drawn

(the terms are those of `distill_loss`). Histories longer than the student's are cut into windows: the last items, and as
many other windows as the rest would fill, at random places, other ones each epoch.

It needs a teacher and a student that count positions from a history's first item, or do not count them; those that pad
on the left count from its end, and their states are not what they say of prefixes (`history_windows.check_prefixes`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..runtime.errors import InputError
from .catalogue_lessons import catalogue_loss
from .distill_config import DistillConfig
from .distill_loss import hidden_loss
from .history_windows import check_prefixes, states_of, windows_of
from .models.protocol import SequenceModel
from .models.sasrec import with_merged_heads
from .train import BUCKET_BATCHES


class PositionLessons:
    """See `catalogue_lessons.Lessons`: rows are right-padded with -1, and losses are of all states, (B, L, D)."""

    def __init__(
        self,
        student: SequenceModel,
        teacher: SequenceModel,
        sequences: Sequence[NDArray[np.int64]],
        config: DistillConfig,
        to_teacher: nn.Linear | None,
    ) -> None:
        """Raises `InputError` where positions are not prefixes, or the catalogue is too large to score."""
        if config.sampled_of(len(teacher.item_table)):
            raise InputError(
                "distill: positions are for catalogues that are scored whole; set sampled_items to 0, or leave positions out"
            )
        for name, model in (("teacher", teacher), ("student", student)):
            check_prefixes(model, name)
        self.teacher = cast(SequenceModel, with_merged_heads(cast(nn.Module, teacher)))  # in half the time
        self.sequences, self.config, self.to_teacher = sequences, config, to_teacher
        self.max_length = student.max_length

    def epoch(
        self, generator: np.random.Generator
    ) -> Iterator[tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]]:
        """See `catalogue_lessons.Lessons`."""
        for batch in self._batches(generator):
            rows, places, targets = self._asked(batch, generator)

            def loss_of(
                states: Tensor,
                table: Tensor,
                rows: Tensor = rows,
                places: Tensor = places,
                targets: Tensor = targets,
            ) -> Tensor:
                return self._loss(states, table, rows, places, targets)

            yield rows, loss_of

    def _batches(self, generator: np.random.Generator) -> Iterator[list[tuple[int, int, int]]]:
        """Windows of similar length together, in random order."""
        windows = list(windows_of(self.sequences, self.max_length, generator))
        size = max(1, self.config.batch_size // self.config.positions)
        order = generator.permutation(len(windows))
        lengths = np.array([end - start for _, start, end in windows])
        batches: list[NDArray[np.int64]] = []
        for begin in range(0, len(order), size * BUCKET_BATCHES):
            bucket = order[begin : begin + size * BUCKET_BATCHES]
            bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
            batches += [bucket[i : i + size] for i in range(0, len(bucket), size)]
        for index in generator.permutation(len(batches)):
            yield [windows[i] for i in batches[index]]

    def _asked(
        self, windows: list[tuple[int, int, int]], generator: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rows int64 (B, L), places int64 (P, 2) of a window and a position each, and what came next, int64 (P,)."""
        rows = np.full((len(windows), max(end - start for _, start, end in windows)), -1, np.int64)
        places: list[tuple[int, int]] = []
        targets: list[int] = []
        for number, (user, start, end) in enumerate(windows):
            sequence, length = self.sequences[user], end - start
            rows[number, :length] = sequence[start:end]
            others = min(self.config.positions, length) - 1
            for position in (length - 1, *generator.choice(length - 1, others, replace=False, shuffle=False)):
                following = start + int(position) + 1
                places.append((number, int(position)))
                targets.append(int(sequence[following]) if following < len(sequence) else -1)
        return torch.from_numpy(rows), torch.tensor(places), torch.tensor(targets)

    def _loss(self, states: Tensor, table: Tensor, rows: Tensor, places: Tensor, targets: Tensor) -> Tensor:
        teacher_table = self.teacher.item_table.detach()
        with torch.no_grad():
            theirs = states_of(self.teacher, rows, teacher_table)
        window, position = places.unbind(1)
        seen = rows[window]  # (P, L), of which what comes after a position is no history of it
        seen = torch.where(torch.arange(rows.shape[1]) <= position[:, None], seen, seen[:, :1])
        alone = dataclasses.replace(self.config, hidden_weight=0.0)
        loss = catalogue_loss(
            states[window, position],
            theirs[window, position],
            table,
            teacher_table,
            seen,
            targets,
            alone,
            None,
        )
        if self.config.hidden_weight:
            ours, valid = states[rows >= 0], theirs[rows >= 0]
            mapped = ours if self.to_teacher is None else self.to_teacher(ours)
            loss = loss + self.config.hidden_weight * hidden_loss(mapped, valid)
        return loss
