"""One person on this device: a history, what was dismissed, a mixture of experts that learns, and the lists shown of late."""

from __future__ import annotations

import operator
import os
import threading
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .candidates import Candidates, item_rows, read_candidates
from .errors import InputError
from .history_vectors import HistoryVectors
from .item_ids import ItemId
from .mixture import Experts, Mixture
from .ranking import RankedItem
from .recency import RECENT
from .shown_list import LIST_SIZE, LISTS_KEPT, ShownList, contrast
from .state_export import exported
from .state_file import Cipher, SavedState, StateFile, detached
from .user_state import DISMISSED_KEPT, HISTORY_KEPT, UserState

if TYPE_CHECKING:
    from .reranker import Reranker


class User:
    """One person on this device; made by `Reranker.user`. Calls from several threads take turns."""

    def __init__(
        self,
        ranker: Reranker,
        state: UserState,
        place: SavedState | None = None,
        cipher: Cipher | None = None,
    ):
        self._ranker = ranker
        self._engine = ranker.engine
        self._place = place
        self._cipher = cipher
        self._lock = threading.RLock()
        self._saving = threading.Lock()
        self._begin(state)

    def _begin(self, state: UserState) -> None:
        """Forget everything but `state`."""
        ranker = self._ranker
        self._history: deque[ItemId] = deque(state.history, maxlen=HISTORY_KEPT)
        self._rows: deque[int] = deque(
            (int(row) for row in item_rows(self._engine.item_ids, state.history) if row >= 0),
            maxlen=max(self._engine.max_length, HISTORY_KEPT),
        )
        self._vectors = [
            HistoryVectors(max(self._engine.max_length, RECENT), table.width) for table in ranker.tables
        ]
        self._look_up(list(self._rows))
        self._dismissed = dict.fromkeys(state.dismissed)
        self._mixture = Mixture(ranker.spaces, self._engine.prior(), ranker.prior)
        if state.bundle == self._engine.bundle.fingerprint:  # vectors mean something to their own model only
            self._mixture.restore_(state.learned, state.counters)
        self._model_user: NDArray[np.float32] | None = None  # encoded at its first use after an event
        self._now: Experts | None = None  # made at its first use after an event or a lesson
        self._users: dict[str, tuple[NDArray[np.float32], ...]] = {}
        self._shown: deque[ShownList] = deque(maxlen=LISTS_KEPT)

    @property
    def history(self) -> list[ItemId]:
        """What the user chose, oldest first: the last 512 events."""
        with self._lock:
            return list(self._history)

    def observe(self, *item_ids: ItemId) -> None:
        """Append events to the history, oldest first, without learning: what the person did elsewhere or before.

        Ids that the bundle does not know are remembered, for a later bundle, and do not count in this one.

        Raises:
            InputError: not an integer or a string; nothing is appended.
        """
        ids = [_item_id(item_id) for item_id in item_ids]
        with self._lock:
            self._append(ids)

    def rerank(
        self, candidate_ids: Iterable[ItemId], k: int = 10, scores: Iterable[float] | None = None
    ) -> list[RankedItem]:
        """The k best of the candidates, best first; fewer where there are fewer.

        Args:
            candidate_ids: any number; one that comes twice counts once.
            k: at least 1.
            scores: one a candidate, from whoever made the list (a server); NaN, infinite ones and None say nothing.

        Raises:
            InputError: k below 1, or scores that do not fit the candidates.
        """
        _check_k(k)
        candidates = read_candidates(self._engine.item_ids, candidate_ids, scores)
        if not candidates.ids:
            return []
        with self._lock:
            ranking, offset = self._score(candidates)
            order = np.argsort(-ranking, kind="stable")
            self._remember(candidates, ranking, offset)
        best, ids = order[:k], candidates.ids
        return [
            RankedItem(ids[n], score) for n, score in zip(best.tolist(), ranking[best].tolist(), strict=True)
        ]

    def recommend(self, k: int = 10, exclude_seen: bool = True) -> list[RankedItem]:
        """The k best of the catalogue, best first, without what was dismissed; fewer where fewer are left.

        Args:
            k: at least 1.
            exclude_seen: leave out the items of the history.

        Raises:
            InputError: k below 1.
        """
        _check_k(k)
        with self._lock:
            users = self._user_vectors("catalogue")
            left_out = item_rows(self._engine.item_ids, list(self._dismissed)).tolist()
            if exclude_seen:
                left_out += self._rows
            exclude = np.array([row for row in left_out if row >= 0], np.int64)
            rows, scores = self._ranker.top_k(users, max(k, LIST_SIZE // 2), exclude)
            self._shown.append(
                ShownList(self._experts(), "catalogue", rows[: LIST_SIZE // 2], is_catalogue=True)
            )
            rows, scores = rows[:k], scores[:k]
        ids = self._engine.item_ids.ids(rows.tolist())
        return [RankedItem(item_id, score) for item_id, score in zip(ids, scores.tolist(), strict=True)]

    def feedback(self, item_id: ItemId, clicked: bool = True) -> None:
        """Learn from one choice: `item_id` was clicked (bought, played, ...), or dismissed.

        A click joins the history. The item need not come from a list of ours: then it is learned against the catalogue.

        Raises:
            InputError: not an integer or a string.
        """
        item_id = _item_id(item_id)
        with self._lock:
            row = int(item_rows(self._engine.item_ids, [item_id])[0])
            if row >= 0:
                self._learn(row, clicked)
            if clicked:
                self._dismissed.pop(item_id, None)
                self._append([item_id])
            else:
                self._dismissed.pop(item_id, None)  # the newest dismissal is remembered longest
                self._dismissed[item_id] = None
                while len(self._dismissed) > DISMISSED_KEPT:
                    del self._dismissed[next(iter(self._dismissed))]

    def save(self, path: str | os.PathLike[str] | None = None) -> int:
        """Write the state, atomically; returns its size in bytes. Without `path`, to the place given to `Reranker.user`.

        There, what another process saved since is kept: both sides' changes are merged (`state_file`), and this user knows
        of the other's with the next `Reranker.user`. With another `path` a copy is written, over whatever it holds.

        Raises:
            InputError: no path here, and none then.
            StateError: the state was erased or damaged since it was read; nothing is written.
            OSError: the folder is missing or cannot be written, or the disk is full; the old file is untouched.
        """
        place = self._place
        if path is not None and not (isinstance(place, StateFile) and place.path == Path(path)):
            return StateFile(path, self._cipher).overwrite(self.state)
        if place is None:
            raise InputError("save: no path; give one here, or to Reranker.user(state_path)")
        with self._saving:  # another thread may rank and learn meanwhile
            return place.save(self.state)

    @property
    def ranker(self) -> Reranker:
        """Whose user this is."""
        return self._ranker

    @property
    def state(self) -> UserState:
        """What `save` would write, at this moment: a copy."""
        with self._lock:
            return detached(self._state())

    def export(self) -> dict[str, Any]:
        """All that is known of the user, as plain JSON: what `save` would write, with vectors as lists of numbers."""
        return exported(self.state)

    def erase(self) -> None:
        """Forget the user: the saved state is removed and the memory cleared; the user goes on as a new one.

        Copies that the app made by `save(path)` or `export` are the app's.

        Raises:
            OSError: the file cannot be removed; then the memory is not cleared either.
        """
        with self._saving, self._lock:
            if self._place is not None:
                self._place.erase()
            self._begin(UserState())

    def _state(self) -> UserState:
        arrays, counters = self._mixture.learned()
        return UserState(
            history=list(self._history),
            dismissed=list(self._dismissed),
            bundle=self._engine.bundle.fingerprint,
            learned=arrays,
            counters=counters,
        )

    def _append(self, ids: list[ItemId]) -> None:
        self._history.extend(ids)
        known = [row for row in item_rows(self._engine.item_ids, ids).tolist() if row >= 0]
        if known:
            self._rows.extend(known)
            self._look_up(known)
            self._model_user = None
            self._forget_now()

    def _look_up(self, rows: list[int]) -> None:
        if rows:
            for table, vectors in zip(self._ranker.tables, self._vectors, strict=True):
                vectors.extend(table.lookup(np.array(rows, np.int64)))

    def _encoded(self) -> NDArray[np.float32]:
        """The model's user vector of the history, float32 (D,)."""
        if self._model_user is None:
            block = self._vectors[0].block[-self._engine.max_length :]
            encoded = self._engine.encode_vectors(block[None])[0] if len(block) else self._engine.prior()
            self._model_user = encoded
            return encoded
        return self._model_user

    def _experts(self) -> Experts:
        """The experts' vectors at this moment."""
        if self._now is None:
            recent = [vectors.block[-RECENT:] for vectors in self._vectors]
            means = self._ranker.recent_means(recent)
            self._now = self._mixture.experts(self._encoded(), means, len(recent[0]))
        return self._now

    def _user_vectors(self, source: str) -> tuple[NDArray[np.float32], ...]:
        """What ranks at this moment, a vector for each space."""
        users = self._users.get(source)
        if users is None:
            users = self._users[source] = self._mixture.user_vectors(self._experts(), source)
        return users

    def _forget_now(self) -> None:
        self._now = None
        self._users.clear()

    def _score(self, candidates: Candidates) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Scores, float32 (C,), -inf for what is unknown; and what a server's scores added to the logits."""
        users = self._user_vectors(self._ranker.candidates)
        rows, known = candidates.rows, candidates.known
        if known is None:
            scores = self._ranker.score(users, rows)
        else:
            scores = np.full(len(rows), -np.inf, np.float32)
            if known.any():
                scores[known] = self._ranker.score(users, rows[known])
            if candidates.has_server is not None:
                scores[~known & candidates.has_server] = scores[known].mean() if known.any() else 0.0
        offset = None
        if candidates.server is not None:
            judged = scores if known is None else scores[known]
            added = candidates.server * np.float32((judged.std() if len(judged) else 0.0) or 1.0)
            scores += added
            scale = self._mixture.logits_per_score(self._experts(), self._ranker.candidates)
            offset = added * np.float32(scale)
        if self._dismissed:
            self._send_back(scores, candidates.ids)
        return scores, offset

    def _send_back(self, scores: NDArray[np.float32], ids: list[Any]) -> None:
        """Lower the dismissed ones of the candidates below all others that are known, in their order; in place."""
        dismissed = np.array([item_id in self._dismissed for item_id in ids])
        dismissed &= np.isfinite(scores)
        others = ~dismissed & np.isfinite(scores)
        if dismissed.any() and others.any():
            gap = scores[dismissed].max() - scores[others].min()
            if gap >= 0:
                scores[dismissed] -= np.float32(gap + max(1.0, abs(gap)))

    def _remember(
        self, candidates: Candidates, scores: NDArray[np.float32], offset: NDArray[np.float32] | None
    ) -> None:
        rows, known = candidates.rows, candidates.known
        if known is not None:
            rows, scores, offset = rows[known], scores[known], None if offset is None else offset[known]
        if len(rows):
            self._shown.append(ShownList(self._experts(), self._ranker.candidates, rows, scores, offset))

    def _learn(self, row: int, clicked: bool) -> None:
        shown = next((shown for shown in reversed(self._shown) if row in shown), None)
        if shown is None:  # found elsewhere: beside any items of the catalogue
            shown = ShownList(self._experts(), "catalogue", np.empty(0, np.int64), is_catalogue=True)
        against = contrast(shown, row, self._engine.n_items, self._mixture.n_events)
        items = [space.table.lookup(against.rows) for space in self._ranker.spaces]
        self._mixture.learn_(shown.experts, shown.source, items, against.added, against.item, chosen=clicked)
        self._forget_now()


def _item_id(item_id: Any) -> ItemId:
    """A plain integer or string; raises `InputError` for anything else."""
    if isinstance(item_id, str):
        return str(item_id)
    if isinstance(item_id, int | np.integer) and not isinstance(item_id, bool):
        return int(item_id)
    raise InputError(
        f"item id {item_id!r} of type {type(item_id).__name__}: expected an integer or a string"
        + ("; give the ids one by one: observe(*item_ids)" if isinstance(item_id, list | tuple) else "")
    )


def _check_k(k: Any) -> None:
    try:
        valid = operator.index(k) >= 1
    except TypeError:
        valid = False
    if not valid:
        raise InputError(f"k: got {k!r}, expected a number of items, at least 1")
