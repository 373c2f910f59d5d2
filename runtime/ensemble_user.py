"""One person, for an ensemble: a user of each bundle, and what they say together.

A list is scored by every member; feedback goes to all of them, each learning against the list as it ranked it. What was
dismissed, history and log are kept here too, since a scorer has no state.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .candidates import listed_ids, plain_id
from .choice_step import choice_step, softmax
from .errors import InputError
from .feedback_event import VISIT, Event, Habits, Kind, Lesson, read_event
from .impressions import ImpressionLog, Outcome
from .item_ids import ItemId
from .list_scores import ListScores
from .ranking import Ranking
from .reranker import Reranker
from .state_file import StateFile
from .user import User, check_k
from .user_events import event_keys
from .user_model import numbers
from .user_state import DISMISSED_KEPT, HISTORY_KEPT, UserState

if TYPE_CHECKING:
    from .ensemble import Ensemble

STACK_PRIOR = 30.0
"""The start of a stack is not fitted, as that of a bundle's mixture is: it counts as few events."""
LISTS_KEPT = 16
OWN_STATE = "ensemble"
_POOL = 100


class _Shown(NamedTuple):
    """A list as the members ranked it."""

    number: int
    ids: list[ItemId]
    columns: NDArray[np.float64]
    """float64 (C, M)."""
    member_rankings: dict[str, int]


class EnsembleUser:
    """Made by `Ensemble.user`. Calls from several threads take turns."""

    def __init__(self, ensemble: Ensemble, folder: Path | None) -> None:
        self._ensemble = ensemble
        self._lock = threading.RLock()
        self._places = _places(ensemble, folder)
        own = self._places.get(OWN_STATE)
        state = (None if own is None else own.load()) or UserState()
        self._users: dict[str, User] = {
            name: member.user(self._places.get(name))
            for name, member in ensemble.members.items()
            if isinstance(member, Reranker)
        }
        self._history: deque[ItemId] = deque(state.history, HISTORY_KEPT)
        self._dismissed: dict[ItemId, None] = dict.fromkeys(state.dismissed)
        self._habits = Habits(numbers(state.extra.get("dwells")), numbers(state.extra.get("ratings")))
        self._log = ImpressionLog.from_extra(state.extra)
        self._event_keys = event_keys(state.extra.get("event_ids"))
        self._n_rankings = max(state.counters.get("rankings", 0), 0)
        self._shown: deque[_Shown] = deque(maxlen=LISTS_KEPT)
        n = len(ensemble.members)
        self._delta, self._information = np.zeros(n), np.eye(n) * STACK_PRIOR
        if state.bundle == self._fingerprint() and state.learned.get("delta", np.empty(0)).shape == (n,):
            self._delta = state.learned["delta"].astype(np.float64)
            self._information = state.learned["information"].astype(np.float64)

    @property
    def history(self) -> list[ItemId]:
        """What the user chose, oldest first."""
        with self._lock:
            return list(self._history)

    @property
    def log(self) -> ImpressionLog:
        """As `User.log`, of the ensemble's lists."""
        with self._lock:
            return self._log.copy()

    @property
    def weights(self) -> dict[str, float]:
        """What the members count at this moment; of a stack, what this user's choices made of them."""
        with self._lock:
            return dict(zip(self._ensemble.members, self._weights().tolist(), strict=True))

    def observe(self, *item_ids: ItemId) -> None:
        """As `User.observe`, for all members."""
        ids = [plain_id(item_id) for item_id in item_ids]
        with self._lock:
            self._history.extend(ids)
            for user in self._users.values():
                user.observe(*ids)

    def rerank(self, candidate_ids: Iterable[ItemId], k: int = 10) -> Ranking:
        """The k best of the candidates, best first; what no member knows comes last, with the score -inf.

        Raises:
            InputError: k below 1, no list of ids, or a scorer that does not give a number for each candidate.
        """
        check_k(k)
        try:
            ids: list[ItemId] = list(dict.fromkeys(listed_ids(candidate_ids)))
        except TypeError:
            raise InputError(
                "candidates: not all of them are item ids; expected integers or strings"
            ) from None
        with self._lock:
            return self._ranked(ids, k)

    def recommend(self, k: int = 10, exclude_seen: bool = True) -> Ranking:
        """The k best of what the bundles recommend each, without what was dismissed; scorers rank, but propose nothing.

        Raises:
            InputError: k below 1, or no member is a bundle.
        """
        check_k(k)
        with self._lock:
            if not self._users:
                raise InputError("recommend: the ensemble has scorers only; use rerank(candidate_ids)")
            proposed: dict[ItemId, None] = {}
            for user in self._users.values():
                proposed |= dict.fromkeys(user.recommend(max(5 * k, _POOL), exclude_seen).item_ids())
            seen = {*self._history} if exclude_seen else set[ItemId]()
            return self._ranked([i for i in proposed if i not in seen and i not in self._dismissed], k)

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
        """As `User.feedback`, for all members, and for the weights of a stack; there is no undo.

        Raises:
            InputError: as there; nothing is learned.
        """
        number = ranking.id if isinstance(ranking, Ranking) else ranking
        item_id = plain_id(item_id)
        event = read_event(
            item_id,
            clicked=clicked,
            kind=kind,
            value=value,
            position=position,
            time=time,
            event_id=event_id,
            ranking=number,
        )
        with self._lock:
            if event.key is not None and event.key in self._event_keys:
                return False
            if event.key is not None:
                self._event_keys.append(event.key)
            shown = next(
                (s for s in reversed(self._shown) if number in (None, s.number) and item_id in s.ids), None
            )
            for name, user in self._users.items():
                user.feedback(
                    item_id,
                    kind=event.kind,  # type: ignore[arg-type]
                    value=value,
                    time=time,
                    ranking=None if shown is None else shown.member_rankings[name],
                )
            self._take(event, shown)
        return True

    def save(self) -> int:
        """Write all files, each atomically; returns their size in bytes.

        Raises:
            InputError: `Ensemble.user` was given no folder.
            OSError: it cannot be written.
        """
        own = self._places.get(OWN_STATE)
        if own is None:
            raise InputError("save: no folder; give one to Ensemble.user(folder)")
        with self._lock:
            size_bytes = sum(user.save() for user in self._users.values())
            extra: dict[str, Any] = self._log.extra() | {
                "event_ids": list(self._event_keys),
                "dwells": list(self._habits.dwells),
                "ratings": list(self._habits.ratings),
            }
            state = UserState(
                history=list(self._history),
                dismissed=list(self._dismissed),
                bundle=self._fingerprint(),
                learned={"delta": self._delta, "information": self._information},
                counters={"rankings": self._n_rankings},
                extra=extra,
            )
            return size_bytes + own.save(state)

    def _ranked(self, ids: list[ItemId], k: int) -> Ranking:
        self._n_rankings += 1
        number = self._n_rankings
        if not ids:
            return Ranking(id=number)
        member_rankings: dict[str, int] = {}
        scores = np.empty((len(ids), len(self._ensemble.members)))
        for m, (name, member) in enumerate(self._ensemble.members.items()):
            if isinstance(member, Reranker):
                member_rankings[name], scores[:, m] = self._users[name].score(ids)
            else:
                scores[:, m] = _of_scorer(name, member(ids, list(self._history)), len(ids))
        known: NDArray[np.bool_] = np.logical_or.reduce(np.isfinite(scores), axis=1)
        columns = np.stack([self._ensemble.column(column) for column in scores.T], axis=1)
        total = ListScores(np.where(known, columns @ self._weights(), -np.inf).astype(np.float32))
        if self._dismissed:
            total.send_back_(np.array([item_id in self._dismissed for item_id in ids]))
        order = np.argsort(-total.scores, kind="stable")[:k]
        ranking = Ranking.of(ids, known, total.scores, order, number)
        self._shown.append(_Shown(number, ids, columns, member_rankings))
        self._log.show(number, ranking.item_ids())
        return ranking

    def _take(self, event: Event, shown: _Shown | None) -> None:
        lesson: Lesson | None = self._habits.lesson(event)
        logged = None if shown is None else self._log.of_ranking(shown.number)
        if logged is not None and (event.position or event.item_id in logged.item_ids):
            position = event.position or logged.item_ids.index(event.item_id) + 1
            self._log.outcomes.append(Outcome(logged.ranking, position, event.kind))
        if lesson is None:
            return
        self._dismissed.pop(event.item_id, None)
        if lesson.joins and not (event.belongs_to_a_visit and event.item_id in [*self._history][-VISIT:]):
            self._history.append(event.item_id)
        if not lesson.chosen:
            self._dismissed[event.item_id] = None
            while len(self._dismissed) > DISMISSED_KEPT:
                del self._dismissed[next(iter(self._dismissed))]
        elif lesson.weight > 0 and self._ensemble.how == "stack" and shown is not None:
            q = softmax(shown.columns @ self._weights())
            chosen = shown.ids.index(event.item_id)
            self._delta, self._information = choice_step(
                self._delta, self._information, shown.columns, q, chosen, lesson.weight
            )

    def _weights(self) -> NDArray[np.float64]:
        return self._ensemble.weights + self._delta

    def _fingerprint(self) -> str:
        """Of how the members are put together: what the weights of a stack belong to."""
        described = [
            (name, member.engine.bundle.fingerprint if isinstance(member, Reranker) else "scorer")
            for name, member in self._ensemble.members.items()
        ]
        return hashlib.sha256(repr((self._ensemble.how, described)).encode()).hexdigest()


def _places(ensemble: Ensemble, folder: Path | None) -> dict[str, StateFile]:
    if folder is None:
        return {}
    for name in ensemble.members:
        if not re.fullmatch(r"[\w-]+", name) or name == OWN_STATE:
            raise InputError(
                f"ensemble: member {name!r} names a file; use letters, digits, - and _, and not {OWN_STATE!r}"
            )
    folder.mkdir(parents=True, exist_ok=True)
    return {name: StateFile(folder / f"{name}.bin") for name in (*ensemble.members, OWN_STATE)}


def _of_scorer(name: str, scores: Any, count: int) -> NDArray[np.float64]:
    try:
        values = np.asarray(scores if isinstance(scores, np.ndarray) else list(scores), np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != (count,):
        raise InputError(
            f"ensemble: scorer {name!r} returned shape {values.shape} for {count} candidates; expected one number a candidate"
        )
    return values
