"""What people do with an item, and what it teaches.

    kind       joins the history      teaches
    click      always                 a choice, weight 1
    purchase   as a visit             a choice, weight 2
    share      as a visit             a choice, weight 1.5
    dwell      as a visit, if long    from the user's median on: a choice, weight 1/2, from twice the median on 1; below: nothing
    rating     as a visit             from the user's mean on: a choice, weight 1; from 1.5 deviations below it: a dismissal
    dismiss    no                     a dismissal, weight 1: behind all others until it is chosen
    skip       no                     nothing: that it was shown does not say that it was seen

As a visit: not once more where the item is among the last `VISIT` events, whose click it belongs to. Until a user has
given `HABIT` values there is no median or mean to compare with: a dwell teaches nothing, a rating is a choice.

The weights are small on purpose: twice a click cannot do more harm than a click made twice. Replayed on MovieLens-100K
(`benchmarks/told_feedback.py`), NDCG@10 against telling all as clicks: five stars of weight 2 +.1% [-.7, .7]; ratings as
above -.8% [-1.8, .1], and +.8% [-.5, 2.1] on items of four and five stars; ratings below the mean as dismissals that do not join
the history -5.0% [-6.9, -3.1]: what people watch next follows what they watched, liked or not.
"""

from __future__ import annotations

import base64
import hashlib
import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from .errors import InputError
from .item_ids import ItemId

Kind = Literal["click", "skip", "dismiss", "dwell", "rating", "purchase", "share"]
KINDS: tuple[str, ...] = get_args(Kind)
WEIGHTS = {"click": 1.0, "purchase": 2.0, "share": 1.5, "dismiss": 1.0}
WITH_VALUE = ("dwell", "rating")
VISIT = 8
HABIT = 5
BAD_RATING = 1.5
"""Deviations below the user's mean."""
VALUES_KEPT = 32
"""Of dwell times and of ratings, the newest: what is usual changes."""


@dataclass(slots=True)
class Event:
    """Something that a user did."""

    item_id: ItemId
    kind: str = "click"
    value: float | None = None
    """Seconds of a dwell, stars of a rating."""
    position: int | None = None
    """Where it stood, from 1."""
    time: float | None = None
    """When, in any unit that grows; None: now."""
    key: str | None = None
    """What `event_key` makes of the app's id of it."""
    ranking: int | None = None
    """`Ranking.id` of the list that it was made on; None: the newest that has the item."""

    @property
    def belongs_to_a_visit(self) -> bool:
        """Whether it says more of a choice that the history may have already."""
        return self.kind != "click"


class Lesson(NamedTuple):
    """What an event teaches."""

    chosen: bool
    """False for a dismissal."""
    weight: float
    """0: nothing is learned."""
    joins: bool = True
    """Whether the item joins the history."""


LESSONS = {
    kind: Lesson(kind != "dismiss", weight, joins=kind != "dismiss") for kind, weight in WEIGHTS.items()
}
"""Of the kinds without a value."""


class Habits:
    """How long a user usually stays and how well they usually rate.

    >>> habits = Habits(dwells=[10, 20, 30, 40, 50])
    >>> habits.lesson(Event(1, "dwell", 70.0)), habits.lesson(Event(1, "dwell", 5.0))
    (Lesson(chosen=True, weight=1.0, joins=True), None)
    """

    def __init__(self, dwells: Sequence[float] = (), ratings: Sequence[float] = ()) -> None:
        self.dwells = deque(dwells, VALUES_KEPT)
        self.ratings = deque(ratings, VALUES_KEPT)

    def lesson(self, event: Event) -> Lesson | None:
        """What an event teaches beside the values before it; None for nothing. Its own value is remembered."""
        match event.kind, event.value:
            case "skip", _:
                return None
            case "dwell", float(seconds):
                lesson = self._of_dwell(seconds)
                self.dwells.append(seconds)
                return lesson
            case "rating", float(stars):
                lesson = self._of_rating(stars)
                self.ratings.append(stars)
                return lesson
            case kind, _:
                return LESSONS[kind]

    def _of_dwell(self, seconds: float) -> Lesson | None:
        if len(self.dwells) < HABIT:
            return None
        usual = statistics.median(self.dwells)
        if seconds < usual:
            return None
        return Lesson(True, 1.0 if seconds >= 2 * usual else 0.5)

    def _of_rating(self, stars: float) -> Lesson:
        if len(self.ratings) < HABIT:
            return Lesson(True, 1.0)
        below = statistics.fmean(self.ratings) - stars
        if below <= 0:
            return Lesson(True, 1.0)
        is_bad = below >= BAD_RATING * statistics.pstdev(self.ratings)
        return Lesson(False, 1.0) if is_bad else Lesson(True, 0.0)


def read_event(
    item_id: ItemId,
    *,
    clicked: bool = True,
    kind: str | None = None,
    value: Any = None,
    position: Any = None,
    time: Any = None,
    event_id: Any = None,
    ranking: Any = None,
) -> Event:
    """An event of what an app says.

    Raises:
        InputError: anything is not what it should be, or does not go with the rest.
    """
    if kind is None:
        kind = "click" if clicked else "dismiss"
        if value is position is time is event_id is ranking is None:  # as most are
            return Event(item_id, kind)
    elif kind not in KINDS:
        raise InputError(f"feedback: kind {kind!r}, expected one of {', '.join(KINDS)}")
    elif not clicked and kind not in ("dismiss", "skip"):
        raise InputError(f"feedback: clicked=False with kind {kind!r}; give the kind alone")
    if (value is not None) != (kind in WITH_VALUE):
        expected = "expected a value, seconds or stars" if kind in WITH_VALUE else "expected none"
        raise InputError(f"feedback: value {value!r} for {kind}, {expected}")
    if value is not None:
        value = _number("value", value)
        if kind == "dwell" and value < 0:
            raise InputError(f"feedback: value {value!r} for dwell, expected seconds of at least 0")
    if position is not None and (isinstance(position, bool) or not _is_whole(position) or position < 1):
        raise InputError(f"feedback: position {position!r}, expected an integer from 1 on")
    if ranking is not None and (isinstance(ranking, bool) or not _is_whole(ranking)):
        raise InputError(f"feedback: ranking {ranking!r}, expected a ranking of this user, or its id")
    return Event(
        item_id,
        kind,
        value,
        None if position is None else int(position),
        None if time is None else _number("time", time),
        None if event_id is None else event_key(event_id),
        None if ranking is None else int(ranking),
    )


def event_key(event_id: Any) -> str:
    """Eight characters that stand for an id: 48 bits of its hash.

    >>> event_key("order-17")
    'hur4F_9H'

    Raises:
        InputError: neither an integer nor a string.
    """
    if isinstance(event_id, bool) or not (isinstance(event_id, str) or _is_whole(event_id)):
        raise InputError(f"feedback: event_id {event_id!r}, expected an integer or a string")
    text = event_id if isinstance(event_id, str) else f"\0{int(event_id)}"  # 7 and "7" are different ids
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).digest()
    return base64.urlsafe_b64encode(digest).decode()


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or isinstance(value, str | bool):
        raise InputError(f"feedback: {name} {value!r}, expected a finite number")
    return number


def _is_whole(value: Any) -> bool:
    try:
        return value == int(value) and not isinstance(value, str | float)
    except (TypeError, ValueError, OverflowError):
        return False
