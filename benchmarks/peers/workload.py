"""What is timed of every contestant, with the same histories and candidates.

score candidates   100 candidates of a user: rows in, scores out; the model alone
best of catalogue  the catalogue's ten best: rows in, rows out
rerank             an app's call: a new event, 100 ids in, the ten best ids out
recommend          an app's call: a new event, the catalogue's ten best ids out
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..operations import Workload
from .contestants import Call, Contestant


@dataclass(frozen=True, slots=True)
class PeerOperation:
    """One thing to time."""

    name: Literal["score candidates", "best of catalogue", "rerank", "recommend"]
    needs: Literal["candidates", "catalogue"]


OPERATIONS = (
    PeerOperation("score candidates", "candidates"),
    PeerOperation("best of catalogue", "catalogue"),
    PeerOperation("rerank", "candidates"),
    PeerOperation("recommend", "catalogue"),
)


def prepare(operation: PeerOperation, work: Workload) -> Callable[[Contestant, int], Call]:
    """What makes the call of a round, for `latency.time_interleaved`."""
    count = work.candidates[0]
    row_of = {
        item_id: row for row, item_id in enumerate(work.catalogue)
    }  # the catalogue is all rows, in order

    def make(contestant: Contestant, n: int) -> Call:
        ids = work.history(n)
        match operation.name:
            case "rerank":
                return contestant.rerank(ids[:-1], ids[-1], work.draw(n, count), work.k)
            case "recommend":
                return contestant.recommend(ids[:-1], ids[-1], work.k)
            case "score candidates":
                rows = np.array([[row_of[i] for i in ids[-contestant.max_length :]]], np.int64)
                candidates = np.array([[row_of[i] for i in work.draw(n, count)]], np.int64)
                return lambda: contestant.score_candidates(rows, candidates)
            case "best of catalogue":
                rows = np.array([[row_of[i] for i in ids[-contestant.max_length :]]], np.int64)
                return lambda: contestant.best_rows(rows, work.k)

    return make
