"""What is known of one user, and what follows from it: the history, what was dismissed, the mixture that learns.

`User` is the public face of it, with a lock, logs and files. Here the experts' vectors are made, lists are scored and
choices are learned; what is made from the history is kept until the next event.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .candidates import Candidates
from .examination import among_examined
from .experts import Ahead, Experts
from .feedback_event import Habits, Lesson
from .item_ids import ItemId
from .list_items import ListItems
from .list_scores import ListScores
from .mixture import Mixture
from .recency import RECENT
from .server_weight import NAME, ServerWeight
from .shown_lately import Feedback
from .shown_list import LIST_SIZE, Contrast, ShownList, beside, contrast
from .unmixed import Unmixed
from .user_history import UserHistory
from .user_state import DISMISSED_KEPT, UserState

if TYPE_CHECKING:
    from .reranker import Reranker

Floats = NDArray[np.float32]


class UserModel:
    """One user's history, dismissals, habits and mixture. No lock: `User` has it."""

    def __init__(self, ranker: Reranker, state: UserState) -> None:
        self._ranker = ranker
        self._engine = ranker.engine
        self.history = UserHistory(ranker, state.history, _timed(state.extra.get("times")))
        self.dismissed: dict[ItemId, None] = dict.fromkeys(state.dismissed)
        """Oldest first."""
        self.habits = Habits(numbers(state.extra.get("dwells")), numbers(state.extra.get("ratings")))
        if ranker.tables:
            self.mixture = Mixture(ranker.spaces, self._engine.prior(), ranker.prior)
        else:
            self.mixture = Unmixed(lambda user: self._engine.score_all(user[None])[0])
        if state.bundle == self._engine.bundle.fingerprint:  # vectors mean something to their own model only
            self.mixture.restore_(state.learned, state.counters)
        self.server = ServerWeight(state.learned.get(NAME))
        self._encoded: Floats | None = None  # at its first use after an event
        self._now: Experts | None = None  # at its first use after an event or a lesson
        self._ahead: Ahead | None = None  # what a lesson made for the next experts
        self._users: dict[str, Floats] = {}

    def experts(self) -> Experts:
        """The experts' vectors at this moment."""
        if self._now is None:
            base, ahead, self._ahead = self._base_user(), self._ahead, None
            self._now = self.mixture.experts(base, self.history.recent, self._n_recent, ahead)
        return self._now

    def user_vector(self, source: str) -> Floats:
        """What ranks at this moment, float32 (D,) of all spaces; while the model ranks alone, of its own only."""
        user = self._users.get(source)
        if user is None:
            user = self._users[source] = self.mixture.user_vector(self.experts(), source)
        return user

    def logit_scale(self, source: str) -> float:
        """What a score must be multiplied by to be a logit."""
        return self.mixture.logits_per_score(self.experts(), source)

    def score(self, candidates: Candidates, source: str, *, unknown_by_prior: bool = False) -> ListScores:
        """Scores of a list. What is unknown has -inf, or with `unknown_by_prior` the score of an average item."""
        user = self.user_vector(source)
        rows, known = candidates.rows, candidates.known
        by_server = None if known is None or candidates.has_server is None else ~known & candidates.has_server
        items = None
        if known is None:
            scores, items = self._scored(user, rows)
        else:
            scores = np.full(len(rows), -np.inf, np.float32)
            if known.any():
                scores[known], items = self._scored(user, rows[known])
            if unknown_by_prior:
                scores[~known] = self._average_score(user)
            if by_server is not None:
                scores[by_server] = scores[known].mean() if known.any() else 0.0
        added = None
        if candidates.server is not None:
            judged = scores if known is None else scores[known]
            unit = float(judged.std() if len(judged) else 0.0) or 1.0
            if self.server.delta:
                unit += self.server.delta / (self.logit_scale(source) or 1.0)
            added = candidates.server * np.float32(unit)
            scores += added
        scored = ListScores(scores, added, by_server, items)
        if self.dismissed:
            scored.send_back_(np.array([item_id in self.dismissed for item_id in candidates.ids]))
        return scored

    def _scored(self, user: Floats, rows: NDArray[np.int64]) -> tuple[Floats, ListItems | None]:
        """Scores of known items, float32 (C,), and the items where the mixture looked them up."""
        if user is self._encoded:
            return self._ranker.score_by_model(user, rows), None
        items = self._ranker.gather_known(rows)
        return items.scores(user), items

    def score_known(self, rows: NDArray[np.int64], source: str) -> Floats:
        """Scores of known items, int64 (C,) -> float32 (C,)."""
        return self._scored(self.user_vector(source), rows)[0]

    def shown(self, candidates: Candidates, scored: ListScores, source: str, number: int) -> ShownList | None:
        """A list as it was ranked, for what will be chosen from it; None where nothing in it is known."""
        rows, known, scores, offset = candidates.rows, candidates.known, scored.scores, scored.added
        ids: list[ItemId] | None = candidates.ids
        server = candidates.server
        if offset is not None:
            offset = offset * np.float32(self.logit_scale(source))
        if known is not None:
            rows, scores, offset = rows[known], scores[known], None if offset is None else offset[known]
            ids = None
            server = None if server is None else server[known]
        if len(rows) == 0:
            return None
        items = scored.items if len(rows) <= LIST_SIZE else None
        return ShownList(
            self.experts(), source, rows, scores, offset, ranking=number, server=server, ids=ids, items=items
        )

    def learn(self, feedback: Feedback, lesson: Lesson) -> Floats:
        """A choice or a dismissal of an item that is known; returns its vector, float32 (1, D)."""
        row, shown, displayed = feedback.row, feedback.shown, feedback.displayed
        if shown is None:
            shown = ShownList(self.experts(), "catalogue", np.empty(0, np.int64), is_catalogue=True)
        against = contrast(shown, row, feedback.place, self._engine.n_items, self.mixture.n_events)
        examination = self._ranker.examination
        if examination is not None and displayed is not None and row in displayed:
            against = among_examined(against, np.asarray(displayed, np.int64), examination)
        vectors = self._vectors(shown, against)
        q = self.mixture.learn_(
            shown.experts,
            shown.source,
            vectors,
            against.added,
            against.item,
            chosen=lesson.chosen,
            weight=lesson.weight,
        )
        if shown.server is not None and q is not None and lesson.chosen:
            column = beside(shown.rows, shown.server, against.rows)
            self.server.learn_(column, q, against.item, lesson.weight)
        self._forget_now()
        return vectors[against.item : against.item + 1]

    def _vectors(self, shown: ShownList, against: Contrast) -> Floats:
        """Of what is learned from, float32 (C, D): those that the list was ranked by, where it is whole and they are kept."""
        if not self._ranker.tables:
            return np.empty((len(against.rows), 0), np.float32)
        if shown.items is None or against.rows is not shown.rows:
            return self._ranker.gather_known(against.rows).vectors
        return shown.items.vectors

    def observe(
        self,
        ids: Sequence[ItemId],
        time: float | None = None,
        rows: Sequence[int] | None = None,
        vectors: Floats | None = None,
    ) -> None:
        """Events that are not learned; `rows` and `vectors` of the ids as `UserHistory.append` takes them."""
        if self.history.append(ids, time, rows, vectors):
            self._encoded = None
            self._forget_now()

    def take(self, feedback: Feedback) -> None:
        """Learn what feedback teaches, and keep history and dismissals."""
        event = feedback.event
        lesson = self.habits.lesson(event)
        if lesson is None:
            return
        vector = None
        if feedback.row >= 0 and lesson.weight > 0:
            vector = self.learn(feedback, lesson)
        self.dismissed.pop(event.item_id, None)
        if lesson.joins and not (event.belongs_to_a_visit and self.history.has_lately(event.item_id)):
            self.observe([event.item_id], event.time, [feedback.row], vector)
        if not lesson.chosen:  # the newest dismissal is remembered longest
            self.dismissed[event.item_id] = None
            while len(self.dismissed) > DISMISSED_KEPT:
                del self.dismissed[next(iter(self.dismissed))]
        if vector is not None:  # an app ranks next, and somebody waits for it
            self._ahead = self.mixture.ahead(self.history.recent, self._n_recent, self._ranker.candidates)

    def snapshot(self) -> tuple[Any, ...]:
        """All of it, for `restore`."""
        arrays, counters = self.mixture.learned()
        return (
            self.history.snapshot(),
            tuple(self.dismissed),
            (tuple(self.habits.dwells), tuple(self.habits.ratings)),
            {name: values.copy() for name, values in arrays.items()},
            dict(counters),
            self.server.learned(),
        )

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        """Be what the snapshot was, to the last bit."""
        history, dismissed, habits, arrays, counters, server = snapshot
        self.history.restore(history)
        self.dismissed = dict.fromkeys(dismissed)
        self.habits = Habits(*habits)
        self.mixture.restore_(arrays, counters)
        self.server = ServerWeight(server)
        self._encoded = None
        self._forget_now()

    def learned(self) -> tuple[dict[str, NDArray[Any]], dict[str, int]]:
        """Arrays and counters for a state file: copies."""
        arrays, counters = self.mixture.learned()
        copied = {name: values.copy() for name, values in arrays.items()}
        if self.server.delta:
            copied[NAME] = self.server.learned()
        return copied, dict(counters)

    def extra(self) -> dict[str, Any]:
        """For a state file, beside history, dismissals and what the mixture learned."""
        kept = {
            "times": self.history.timed(),
            "dwells": list(self.habits.dwells),
            "ratings": list(self.habits.ratings),
        }
        return {name: values for name, values in kept.items() if values}

    def _average_score(self, user: Floats) -> float:
        """Of the centers of the spaces: the mean over the catalogue."""
        if not self._ranker.tables:
            return float(self._engine.score_all(user[None]).mean())
        return float(self._ranker.spaces.center[: len(user)] @ user)

    @property
    def _n_recent(self) -> int:
        return min(len(self.history.rows), RECENT)

    def _base_user(self) -> Floats:
        """The model's user vector of the history, float32 (D,)."""
        if self._encoded is None:
            self._encoded = self._encode()
        return self._encoded

    def _encode(self) -> Floats:
        if not self.history.rows:
            return self._engine.prior()
        if not self._ranker.tables:
            return self._engine.encode(np.array([self.history.rows], np.int64))[0]
        return self._engine.encode_vectors(self.history.encoded[None])[0]

    def _forget_now(self) -> None:
        self._now = self._ahead = None
        self._users.clear()


def numbers(values: Any) -> list[float]:
    """Those of a list of a state file that are numbers."""
    listed: list[Any] = list(values) if isinstance(values, list | tuple) else []
    return [float(v) for v in listed if isinstance(v, int | float) and not isinstance(v, bool)]


def _timed(values: Any) -> list[tuple[ItemId, float]]:
    found: list[tuple[ItemId, float]] = []
    for entry in values if isinstance(values, list | tuple) else []:
        match entry:
            case [int() | str() as item_id, int() | float() as time]:
                found.append((item_id, float(time)))
            case _:
                pass
    return found
