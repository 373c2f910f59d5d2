"""What happened to a user, one event after the other: taken once, in order, and taken back where that is asked.

Every event passes the journal (`journal`) before it reaches the model, so that undoing one is applying all others again,
from a snapshot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .feedback_event import Event
from .impressions import ImpressionLog
from .item_ids import ItemId
from .journal import Journal
from .shown_lately import Feedback, ShownLately
from .user_model import UserModel
from .user_state import HISTORY_KEPT, UserState

if TYPE_CHECKING:
    from .reranker import Reranker

EVENT_IDS_KEPT = 256
"""Events that are known when they come again."""


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """Events that are not learned."""

    ids: tuple[ItemId, ...]
    time: float | None


class UserEvents:
    """The model, the lists shown, and the journal of one user. No lock: `User` has it."""

    def __init__(self, ranker: Reranker, state: UserState) -> None:
        self.model = UserModel(ranker, state)
        self.lately = ShownLately(ranker, ImpressionLog.from_extra(state.extra))
        self._keys = event_keys(state.extra.get("event_ids"))
        self._journal: Journal[Observed | Feedback, tuple[Any, ...]] = Journal()

    def observe(self, ids: Sequence[ItemId], time: float | None) -> None:
        """Events that happened one after the other."""
        self._apply(Observed(tuple(ids[-HISTORY_KEPT:]), time))

    def take(self, event: Event) -> bool:
        """Feedback; False where the event is known already."""
        if event.key is not None and event.key in self._keys:
            return False
        self._apply(self.lately.feedback(event, self.model))
        return True

    def undo(self, key: str | None) -> bool:
        """Take back the event of that key, or the last feedback; False where it is not in the journal."""
        found = self._journal.undo(
            lambda entry: isinstance(entry, Feedback) and (key is None or entry.event.key == key)
        )
        if found is None:
            return False
        (model, keys, outcomes), entries = found
        self.model.restore(model)
        self._keys = deque(keys, EVENT_IDS_KEPT)
        self.lately.log.outcomes.clear()
        self.lately.log.outcomes.extend(outcomes)
        for entry in entries:
            self._apply(entry)
        return True

    def extra(self) -> dict[str, Any]:
        """For a state file."""
        logs = self.lately.log.extra() | self.model.extra() | {"event_ids": list(self._keys)}
        return {name: values for name, values in logs.items() if values}

    def _apply(self, entry: Observed | Feedback) -> None:
        self._journal.record(entry, self._snapshot)
        if isinstance(entry, Observed):
            self.model.observe(entry.ids, entry.time)
            return
        self.model.take(entry)
        if entry.event.key is not None:
            self._keys.append(entry.event.key)
        if entry.outcome is not None:
            self.lately.log.outcomes.append(entry.outcome)

    def _snapshot(self) -> tuple[Any, ...]:
        return self.model.snapshot(), tuple(self._keys), tuple(self.lately.log.outcomes)


def event_keys(listed: Any) -> deque[str]:
    """Keys of events that are known, of a state file's list."""
    keys: list[Any] = list(listed) if isinstance(listed, list | tuple) else []
    return deque((key for key in keys if isinstance(key, str)), EVENT_IDS_KEPT)
