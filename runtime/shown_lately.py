"""The lists that a user was shown of late, and which of them an event was made on.

An event that says its ranking is learned against that list: the newest `LISTS_BY_ID` are in memory as they were ranked, and
of older ones, or from before a restart, the log still has what was displayed. One that does not say is learned against
the newest of the last `LISTS_KEPT` that has the item. What is in none of them was found elsewhere, and is learned beside
any items of the catalogue.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .feedback_event import Event
from .impressions import Impression, ImpressionLog, Outcome
from .ranking import Ranking
from .shown_list import LISTS_KEPT, ShownList

if TYPE_CHECKING:
    from .reranker import Reranker
    from .user_model import UserModel

LISTS_BY_ID = 16


@dataclass(slots=True, eq=False)
class Feedback:
    """An event and what it was made on."""

    event: Event
    row: int
    """Of its item; -1 where unknown."""
    shown: ShownList | None
    """None where it is not known, or teaches nothing."""
    place: int
    """Of the item among the list's rows; -1 where it is none of them."""
    displayed: tuple[int, ...] | None
    """Rows of the list in the order of its places, where a model of examination wants to know."""
    outcome: Outcome | None
    """For the log; None where nobody knows the list and the place."""


class ShownLately:
    """Lists of one user, beside the log of what was displayed."""

    def __init__(self, ranker: Reranker, log: ImpressionLog) -> None:
        self._ranker = ranker
        self.log = log
        self._lists: deque[ShownList] = deque(maxlen=LISTS_BY_ID)

    def remember(self, ranking: Ranking, shown: ShownList | None) -> None:
        """A ranking was returned; `shown` is None where the bundle knows none of its candidates."""
        self.keep(shown)
        self.log.show(ranking.id, ranking.item_ids(), ranking.propensities)

    def keep(self, shown: ShownList | None) -> None:
        """A list was ranked, and somebody else will say how it was shown."""
        if shown is not None:
            if self._lists:
                self._lists[-1].items = None  # kept of the newest only: 0.1 MB
            self._lists.append(shown)

    def feedback(self, event: Event, model: UserModel) -> Feedback:
        """An event with what it was made on."""
        row = self._ranker.row(event.item_id)
        shown, place = (None, -1) if row < 0 else self._list_with(event, row)
        if shown is not None:
            logged = self.log.of_ranking(shown.ranking)
        else:
            logged = self.log.with_item(event.item_id, event.ranking)
            if logged is not None and event.ranking is not None and row >= 0:
                rows = [row for row in self._ranker.rows(logged.item_ids).tolist() if row >= 0]
                shown = ShownList(
                    model.experts(),
                    self._ranker.candidates,
                    np.array(rows, np.int64),
                    np.zeros(len(rows), np.float32),
                )
                place = shown.place(event.item_id, row)
        displayed = None
        if self._ranker.examination is not None and logged is not None:
            displayed = tuple(self._ranker.rows(logged.item_ids).tolist())
        return Feedback(event, row, shown, place, displayed, _outcome(event, logged))

    def _list_with(self, event: Event, row: int) -> tuple[ShownList | None, int]:
        ranking = event.ranking
        for back, shown in enumerate(reversed(self._lists)):
            if ranking is None and back >= LISTS_KEPT:
                break
            if ranking is None or shown.ranking == ranking:
                place = shown.place(event.item_id, row)
                if place >= 0 or shown.is_catalogue:
                    return shown, place
        return None, -1


def _outcome(event: Event, logged: Impression | None) -> Outcome | None:
    position = event.position
    if position is None and logged is not None and event.item_id in logged.item_ids:
        position = logged.item_ids.index(event.item_id) + 1
    ranking = event.ranking if logged is None else logged.ranking
    return None if ranking is None or position is None else Outcome(ranking, position, event.kind)
