"""What folding users in costs: the checkpoint's own user vectors, measured beside those made from histories.

Own vectors rank as the checkpoint would if its table of users shipped: each user by the row that training gave it,
whatever happened since. They are asked the same questions of the same users, so the difference is paired.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..benchmarks.accuracy import compare_rankings, describe_ranking
from ..benchmarks.evaluate import Ranking
from ..benchmarks.protocols import Split
from ..benchmarks.ranking_metrics import per_user
from .fold_in import fit_fold_in, rank_vectors
from .layouts import Teacher
from .report import Measure, StepReport


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OwnUsers:
    """The users of a checkpoint, in the order of the data's."""

    vectors: NDArray[np.float32]
    """float32 (U, D)."""
    item_table: NDArray[np.float32]
    """float32 (N, D)."""
    keep_repeats: bool
    detail: dict[str, Any]
    """What was chosen when they were folded in."""
    seconds: float

    def step(self, validation: Split, folded: Measure) -> StepReport:
        """From own vectors, their table included, to folded ones."""
        ranking = self.rank(validation)
        n_numbers = self.vectors.size + self.item_table.size
        own = Measure(
            size_bytes=4 * n_numbers,
            parameters=n_numbers,
            ndcg10=float(per_user(ranking.ranks, "ndcg@10").mean()),
        )
        return StepReport(name="fold in", before=own, after=folded, detail=self.detail, seconds=self.seconds)

    def rank(self, split: Split, *, n_top: int = 0) -> Ranking:
        """Rank a split, each user by its own vector."""
        return rank_vectors(
            self.vectors[split.users], self.item_table, split, keep_repeats=self.keep_repeats, n_top=n_top
        )

    def metrics(self, test: Split, *, folded: Ranking, ours: Ranking, seed: int) -> dict[str, Any]:
        """`own_users`: their accuracy, and what the folded-in teacher and the bundle keep of it, paired."""
        own = self.rank(test, n_top=ours.top_rows.shape[1])
        return {
            "own_users": {
                **describe_ranking(own, cutoffs=(10,), seed=seed),
                "folded_kept": compare_rankings(folded, own, cutoffs=(10,), seed=seed),
                "kept": compare_rankings(ours, own, cutoffs=(10,), seed=seed),
            }
        }


def fold_users_in(
    teacher: Teacher, sequences: Sequence[NDArray[np.int64]], validation: Split, *, keep_repeats: bool
) -> tuple[Teacher, OwnUsers | None]:
    """The teacher with a fold-in that is fitted to its users' own vectors, and these.

    A teacher without user vectors, and one whose users are not the data's, stays as it is: then (with a note) there is
    nobody to compare with, and its fold-in is the one that the item table gives by itself.
    """
    users = teacher.user_vectors
    if users is None:
        return teacher, None
    if len(users) != len(sequences):
        note = (
            f"users: {len(users):,} in the checkpoint, {len(sequences):,} in the data: none is compared with its own vector, "
            "and histories are folded in by the item table alone"
        )
        return dataclasses.replace(teacher, notes=(*teacher.notes, note)), None
    began = time.perf_counter()
    model, detail = fit_fold_in(users, teacher.model.item_table, validation, keep_repeats=keep_repeats)
    own = OwnUsers(
        vectors=users.numpy(),
        item_table=model.item_table.detach().numpy(),
        keep_repeats=keep_repeats,
        detail=detail,
        seconds=time.perf_counter() - began,
    )
    return dataclasses.replace(teacher, model=model), own
