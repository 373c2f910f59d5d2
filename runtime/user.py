"""One person on this device: ranks with what is known of them, and learns from what they do.

Beside the model (`user_model`) a user has a lock, the lists shown of late (a choice is learned against the one it was made
on), a log of what was shown and what came of it (`impressions`), and a journal from which feedback can be undone.
"""

from __future__ import annotations

import operator
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .candidates import plain_id
from .errors import InputError
from .feedback_event import Kind, event_key, read_event
from .impressions import ImpressionLog
from .item_ids import ItemId
from .placing import placed, recommended
from .rank_options import RankOptions
from .ranking import Ranking
from .shown_list import LIST_SIZE, ShownList
from .state_export import exported
from .state_file import Cipher, SavedState, StateFile
from .user_events import UserEvents
from .user_state import UserState

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
        self._saving = threading.RLock()
        self._begin(state)

    def _begin(self, state: UserState) -> None:
        """Forget everything but `state`."""
        self._events = UserEvents(self._ranker, state)
        self._model, self._lately = self._events.model, self._events.lately
        self._n_rankings = max(state.counters.get("rankings", 0), 0)

    @property
    def history(self) -> list[ItemId]:
        """What the user chose, oldest first: the last 512 events."""
        with self._lock:
            return list(self._model.history.ids)

    @property
    def log(self) -> ImpressionLog:
        """What was shown of late and what came of it, with positions and propensities: a copy."""
        with self._lock:
            return self._lately.log.copy()

    def observe(self, *item_ids: ItemId, time: float | None = None) -> None:
        """Append events to the history, oldest first, without learning: what the person did elsewhere or before.

        Ids that the bundle does not know are remembered, for a later bundle, and do not count in this one.

        Args:
            time: when, as in `feedback`; of several ids all at once.

        Raises:
            InputError: not an integer or a string; nothing is appended.
        """
        ids = tuple(plain_id(item_id) for item_id in item_ids)
        when = None if time is None else read_event(0, time=time).time
        with self._lock:
            self._events.observe(ids, when)

    def rerank(
        self,
        candidate_ids: Iterable[ItemId],
        k: int = 10,
        scores: Iterable[float] | None = None,
        options: RankOptions | None = None,
    ) -> Ranking:
        """The k best of the candidates, best first; fewer where there are fewer.

        Args:
            candidate_ids: any number; one that comes twice counts once.
            k: at least 1.
            scores: one a candidate, from whoever made the list (a server); NaN, infinite ones and None say nothing.
            options: what else is asked of the list; its order is then not that of the scores alone.

        Raises:
            InputError: k below 1, scores that do not fit the candidates, or options that need categories without any.
        """
        check_k(k)
        candidates = self._ranker.read_candidates(candidate_ids, scores)
        if options is not None and options.never:
            candidates = candidates.without(frozenset(options.never))
        source = self._ranker.candidates
        with self._lock:
            self._n_rankings += 1
            number = self._n_rankings
            if not candidates.ids:
                return Ranking(id=number)
            model = self._model
            by_prior = options is not None and options.unknown == "prior"
            scored = model.score(candidates, source, unknown_by_prior=by_prior)
            if options is None:
                best = (-scored.scores).argsort(kind="stable")[:k]
                ranking = Ranking.of(candidates.ids, candidates.known, scored.scores, best, number)
            else:
                ranking = placed(
                    self._ranker, model, candidates, scored, k, options, source=source, number=number
                )
            shown = model.shown(candidates, scored, source, number)
            self._lately.remember(ranking, shown)
        return ranking

    def score(self, candidate_ids: Sequence[ItemId]) -> tuple[int, NDArray[np.float32]]:
        """The model's opinion of a list that somebody else ranks: the number of it, for `feedback(ranking=)`, and scores.

        Args:
            candidate_ids: C different ids.

        Returns:
            `Ranking.id`, and float32 (C,), NaN where unknown; dismissed ones are scored as any other. Nothing is logged as
            shown.

        Raises:
            InputError: an id comes twice.
        """
        candidates = self._ranker.read_candidates(candidate_ids)
        if len(candidates) != len(candidate_ids):
            raise InputError(
                f"score: {len(candidate_ids)} ids, {len(candidates)} of them different; expected each once, "
                "so that scores stand beside ids"
            )
        with self._lock:
            self._n_rankings += 1
            number = self._n_rankings
            scored = self._model.score(candidates, self._ranker.candidates)
            shown = self._model.shown(candidates, scored, self._ranker.candidates, number)
            self._lately.keep(shown)
        scores = scored.scores.copy()
        if scored.dismissed is not None:
            scores[scored.dismissed] += np.float32(scored.sent_back)
        scores[~np.isfinite(scores)] = np.nan
        return number, scores

    def recommend(
        self, k: int = 10, exclude_seen: bool = True, options: RankOptions | None = None
    ) -> Ranking:
        """The k best of the catalogue, best first, without what was dismissed; fewer where fewer are left.

        Args:
            k: at least 1.
            exclude_seen: leave out the items of the history.
            options: what else is asked of the list.

        Raises:
            InputError: k below 1, or options that need categories without any.
        """
        check_k(k)
        with self._lock:
            self._n_rankings += 1
            number = self._n_rankings
            left_out = self._ranker.rows(list(self._model.dismissed)).tolist()
            if exclude_seen:
                left_out += self._model.history.rows
            exclude = np.array([row for row in left_out if row >= 0], np.int64)
            user = self._model.user_vector("catalogue")
            rows, scores = self._ranker.top_k(user, max(k, LIST_SIZE // 2), exclude)
            shown = ShownList(
                self._model.experts(), "catalogue", rows[: LIST_SIZE // 2], is_catalogue=True, ranking=number
            )
            if options is None:
                ids = self._ranker.ids(rows[:k].tolist())
                ranking = Ranking.of(ids, None, scores, np.arange(len(ids)), number)
            else:
                ranking = recommended(self._ranker, self._model, k, options, exclude, number)
            self._lately.remember(ranking, shown)
        return ranking

    def feedback(
        self,
        item_id: ItemId,
        clicked: bool = True,
        *,
        kind: Kind | None = None,
        value: float | None = None,
        position: int | None = None,
        time: float | None = None,
        event_id: int | str | None = None,
        ranking: Ranking | int | None = None,
    ) -> bool:
        """Learn from what the user did with an item; False where the event is known already, and nothing happened.

        A click joins the history. The item need not come from a list of ours: then it is learned against the catalogue.

        Args:
            clicked: True is a click, False a dismissal; where neither says it, give the kind.
            kind: what was done; `feedback_event` has what each teaches.
            value: seconds of a dwell, stars of a rating.
            position: where the item stood, from 1; without it, where our list had it.
            time: when, in any unit that grows: a late event takes its place in the history. Without it, now.
            event_id: the app's own id of the event: the same one again is ignored, and `undo` finds it.
            ranking: the list that it was made on, or its id; without it, the newest that has the item.

        Raises:
            InputError: no id, or something that does not go with the kind; nothing is learned.
        """
        event = read_event(
            plain_id(item_id),
            clicked=clicked,
            kind=kind,
            value=value,
            position=position,
            time=time,
            event_id=event_id,
            ranking=ranking.id if isinstance(ranking, Ranking) else ranking,
        )
        with self._lock:
            return self._events.take(event)

    def undo(self, event_id: int | str | None = None) -> bool:
        """Take back the feedback of that id, or the last: everything is exactly as if it had never been given.

        What came after it is applied again, against the lists that it was made on. At least the last 16 events of this
        session can be undone; False, and nothing happens, where the event is none of them.

        Raises:
            InputError: an id that is neither an integer nor a string.
        """
        key = None if event_id is None else event_key(event_id)
        with self._lock:
            return self._events.undo(key)

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
            return self._state()

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
        arrays, counters = self._model.learned()
        return UserState(
            history=list(self._model.history.ids),
            dismissed=list(self._model.dismissed),
            bundle=self._engine.bundle.fingerprint,
            learned=arrays,
            counters=counters | {"rankings": self._n_rankings},
            extra=self._events.extra(),
        )


def check_k(k: Any) -> None:
    """Raises `InputError` for anything but a number of items."""
    try:
        valid = operator.index(k) >= 1
    except TypeError:
        valid = False
    if not valid:
        raise InputError(f"k: got {k!r}, expected a number of items, at least 1")
