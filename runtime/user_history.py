"""What a user chose, in the order in which it happened, and its vectors as the encoder wants them.

An event with a time takes its place among those with times, also when it comes late: behind the last event that is no
later. An event without a time happened when it came, and nothing that comes after it goes before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .feedback_event import VISIT
from .history_vectors import HistoryVectors
from .item_ids import ItemId
from .recency import RECENT
from .user_state import HISTORY_KEPT

if TYPE_CHECKING:
    from .reranker import Reranker

TIMES_KEPT = 64
"""Times that a state file keeps, of the newest events: what comes later than these is placed behind what is older."""


class UserHistory:
    """At most `HISTORY_KEPT` events, oldest first."""

    def __init__(
        self, ranker: Reranker, ids: Sequence[ItemId] = (), timed: Sequence[tuple[ItemId, float]] = ()
    ) -> None:
        self._ranker = ranker
        self._length = max(ranker.engine.max_length, RECENT)  # of the known events, whose vectors are kept
        self.restore((tuple(ids), _times(ids, timed)))

    def __len__(self) -> int:
        return len(self.ids)

    def snapshot(self) -> tuple[tuple[ItemId, ...], tuple[float | None, ...]]:
        """Ids and times, for `restore`."""
        return tuple(self.ids), tuple(self.times)

    def restore(self, snapshot: tuple[Sequence[ItemId], Sequence[float | None]]) -> None:
        """Be what the snapshot was."""
        ids, times = snapshot
        self.ids: deque[ItemId] = deque(ids, HISTORY_KEPT)
        """What was chosen."""
        self.times: deque[float | None] = deque(times, HISTORY_KEPT)
        """Beside `ids`; None where nobody said."""
        self._look_up_all()

    def append(
        self,
        ids: Sequence[ItemId],
        time: float | None = None,
        rows: Sequence[int] | None = None,
        vectors: NDArray[np.float32] | None = None,
    ) -> bool:
        """Events that happened one after the other; whether any of them is known to the bundle.

        Args:
            rows: of the ids, where the caller has them.
            vectors: float32 (n, D) of the rows, where the caller has them, too.
        """
        place = len(self.ids) if time is None else self._place(time)
        known = [row for row in (self._ranker.rows(ids).tolist() if rows is None else rows) if row >= 0]
        if place == len(self.ids):
            self.ids.extend(ids)
            self.times.extend([time] * len(ids))
            self.rows.extend(known)
            self._look_up(known, vectors)
        elif place > 0 or len(self.ids) < HISTORY_KEPT:  # what is older than all that is kept is forgotten
            merged = [*zip(self.ids, self.times, strict=True)]
            merged[place:place] = [(item_id, time) for item_id in ids]
            self.restore(([i for i, _ in merged], [t for _, t in merged]))
        return bool(known)

    @property
    def recent(self) -> NDArray[np.float32]:
        """`Recency.scaled` of the last `RECENT` known events, oldest first: float32 (n, D), never written to again."""
        return self._recent.block

    @property
    def encoded(self) -> NDArray[np.float32]:
        """What the encoder reads: vectors of as many events as it looks at, in the model's space, float32 (n, width)."""
        return self._encoded.block

    def has_lately(self, item_id: ItemId) -> bool:
        """Whether it is among the last `VISIT` events."""
        return any(self.ids[-1 - back] == item_id for back in range(min(VISIT, len(self.ids))))

    def timed(self) -> list[list[ItemId | float]]:
        """For a state file: [item id, time] of the newest events that have one."""
        pairs = zip(self.ids, self.times, strict=True)
        return [[item_id, time] for item_id, time in pairs if time is not None][-TIMES_KEPT:]

    def _place(self, time: float) -> int:
        place = len(self.ids)
        for earlier in reversed(self.times):
            if earlier is None or earlier <= time:
                break
            place -= 1
        return place

    def _look_up_all(self) -> None:
        spaces, width = self._ranker.spaces, self._ranker.engine.width
        self._recent = HistoryVectors(RECENT, spaces.width)
        self._encoded = HistoryVectors(self._ranker.engine.max_length, width)
        known = [row for row in self._ranker.rows(list(self.ids)).tolist() if row >= 0]
        self.rows: deque[int] = deque(known, max(self._ranker.engine.max_length, HISTORY_KEPT))
        """Of the known events: what the encoder and `exclude_seen` look at."""
        self._look_up(known[-self._length :])

    def _look_up(self, rows: list[int], vectors: NDArray[np.float32] | None = None) -> None:
        if rows and self._ranker.tables:
            if vectors is None:
                vectors = self._ranker.gather_known(np.array(rows, np.int64)).vectors
            self._recent.extend(self._ranker.spaces.recency.scaled(vectors))
            self._encoded.extend(vectors[:, : self._ranker.engine.width])


def _times(ids: Sequence[ItemId], timed: Sequence[tuple[ItemId, float]]) -> list[float | None]:
    """Beside the ids; by id and from the newest on, since a merged or shortened state has lost the places."""
    times: list[float | None] = [None] * len(ids)
    left = list(timed)
    for n in range(len(ids) - 1, -1, -1):
        if not left:
            break
        found = next((m for m in range(len(left) - 1, -1, -1) if left[m][0] == ids[n]), None)
        if found is not None:
            times[n] = left[found][1]
            del left[found:]  # what follows it belongs to events that are gone
    return times
