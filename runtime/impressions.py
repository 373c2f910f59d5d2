"""What was shown to a user, where, with what probability, and what came of it: logged from the first day, since without
positions and propensities nobody can ever know what a correction would gain.

    impression   (ranking, item ids in the order of their places, propensities or None)
    outcome      (ranking, position from 1, kind of feedback)

The newest `IMPRESSIONS_KEPT` rankings, of each the first `PLACES_KEPT` places, and the newest `OUTCOMES_KEPT` outcomes are
kept; a state file keeps of them what fits its bound. The log never leaves the device by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .item_ids import ItemId

IMPRESSIONS_KEPT = 64
PLACES_KEPT = 50
OUTCOMES_KEPT = 128


class Impression(NamedTuple):
    """One list as it was shown."""

    ranking: int
    """`Ranking.id`."""
    item_ids: tuple[ItemId, ...]
    propensities: tuple[float, ...] | None = None
    """Beside `item_ids`; None where nothing was left to chance."""


class Outcome(NamedTuple):
    """What came of one place of one list."""

    ranking: int
    position: int
    """From 1."""
    kind: str
    """One of `feedback_event.KINDS`."""


class ImpressionLog:
    """One user's log.

    >>> log = ImpressionLog()
    >>> log.show(1, (7, 9))
    >>> log.with_item(9)
    Impression(ranking=1, item_ids=(7, 9), propensities=None)
    """

    def __init__(self) -> None:
        self.impressions: deque[Impression] = deque(maxlen=IMPRESSIONS_KEPT)
        self.outcomes: deque[Outcome] = deque(maxlen=OUTCOMES_KEPT)

    def show(
        self, ranking: int, item_ids: Sequence[ItemId], propensities: Sequence[float] | None = None
    ) -> None:
        """A list was returned; an app shows it from the top."""
        logged = None if propensities is None else tuple(propensities[:PLACES_KEPT])
        self.impressions.append(Impression(ranking, tuple(item_ids[:PLACES_KEPT]), logged))

    def of_ranking(self, ranking: int) -> Impression | None:
        """Where it is still kept."""
        return next((shown for shown in reversed(self.impressions) if shown.ranking == ranking), None)

    def with_item(self, item_id: ItemId, ranking: int | None = None) -> Impression | None:
        """The newest list that has the item; that of `ranking`, where it is given."""
        for shown in reversed(self.impressions):
            if (ranking is None or shown.ranking == ranking) and item_id in shown.item_ids:
                return shown
        return None

    def copy(self) -> ImpressionLog:
        """The same entries."""
        log = ImpressionLog()
        log.impressions.extend(self.impressions)
        log.outcomes.extend(self.outcomes)
        return log

    def extra(self) -> dict[str, Any]:
        """For a state file: two logs, oldest first."""
        impressions: list[Any] = []
        for ranking, item_ids, propensities in self.impressions:
            rounded = None if propensities is None else [round(p, 6) for p in propensities]
            impressions.append([ranking, [_plain(item_id) for item_id in item_ids], rounded])
        return {"impressions": impressions, "outcomes": [list(outcome) for outcome in self.outcomes]}

    @classmethod
    def from_extra(cls, extra: Mapping[str, Any]) -> ImpressionLog:
        """The inverse of `extra`; what is not as it writes is left out."""
        log = cls()
        for entry in _entries(extra, "impressions"):
            match entry:
                case [int(ranking), list(item_ids), None]:
                    log.show(ranking, item_ids)
                case [int(ranking), list(item_ids), list(p)] if len(p) == len(item_ids):
                    if all(isinstance(value, int | float) for value in p):
                        log.show(ranking, item_ids, p)
                case _:
                    pass
        for entry in _entries(extra, "outcomes"):
            match entry:
                case [int(ranking), int(position), str(kind)] if position > 0:
                    log.outcomes.append(Outcome(ranking, position, kind))
                case _:
                    pass
        return log


def _entries(extra: Mapping[str, Any], name: str) -> Iterator[Any]:
    entries = extra.get(name, ())
    listed: Iterable[Any] = entries if isinstance(entries, list | tuple) else ()
    yield from listed


def _plain(item_id: Any) -> Any:
    """As JSON has it; None for what is no id (an app may pass anything as an unknown candidate)."""
    if isinstance(item_id, np.integer):
        return int(item_id)
    return item_id if isinstance(item_id, str | int) and not isinstance(item_id, bool) else None
