"""Two writers of one user's state: what both did is kept.

Each began with what it read, `base`. The first wrote `theirs`; the second, before it overwrites that, brings its own
changes over:

    history, dismissed   theirs, without what ours removed since base, then what ours added
    learned              theirs + (ours - base), array by array: lessons are sums, so both sides' count; where the three
                         are not of one bundle, or base has none, the side that learned from more events
    counters             theirs + (ours - base)
    extra                lists as histories; objects by name; anything else as ours has it where ours changed it

A sum of lessons is not quite what one process would have learned from all of them, since each step looks at the ones
before it; the events themselves are exact.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .item_ids import ItemId
from .user_state import Json, UserState

LEARNED_EVENTS = "learned_events"
"""The counter that says how much `learned` knows."""


def merge(base: UserState, ours: UserState, theirs: UserState) -> UserState:
    """What both wrote.

    >>> base = UserState(history=[1, 2])
    >>> merge(base, UserState(history=[1, 2, 3]), UserState(history=[1, 2, 4, 5])).history
    [1, 2, 4, 5, 3]
    """
    learned, source = _learned(base, ours, theirs)
    counters = {
        name: theirs.counters.get(name, 0) + ours.counters.get(name, 0) - base.counters.get(name, 0)
        for name in {**theirs.counters, **ours.counters}
    }
    if source is not None:
        counters[LEARNED_EVENTS] = source.counters.get(LEARNED_EVENTS, 0)
    extra = _merged_json(base.extra, ours.extra, theirs.extra)
    return UserState(
        history=_history(base.history, ours.history, theirs.history),
        dismissed=_dismissed(base.dismissed, ours.dismissed, theirs.dismissed),
        bundle=ours.bundle,
        learned=learned,
        counters=counters,
        extra=extra if isinstance(extra, Mapping) else {},
    )


def _history(base: Sequence[ItemId], ours: Sequence[ItemId], theirs: Sequence[ItemId]) -> list[ItemId]:
    base, ours, merged = list(base), list(ours), list(theirs)
    added: list[ItemId] = []
    for what, begin, end, first, last in SequenceMatcher(None, base, ours, autojunk=False).get_opcodes():
        if (
            what in ("delete", "replace") and begin > 0
        ):  # what is missing at the front has fallen out of the window
            for item_id in base[begin:end]:
                _remove_last(merged, item_id)
        if what in ("insert", "replace"):
            added += ours[first:last]
    return merged + added


def _remove_last(ids: list[ItemId], item_id: ItemId) -> None:
    for n in range(len(ids) - 1, -1, -1):
        if ids[n] == item_id:
            del ids[n]
            return


def _dismissed(base: Sequence[ItemId], ours: Sequence[ItemId], theirs: Sequence[ItemId]) -> list[ItemId]:
    before, now = set(base), set(ours)
    added = [item_id for item_id in ours if item_id not in before]
    gone = (before - now) | set(added)  # a new dismissal moves to the end
    return [item_id for item_id in theirs if item_id not in gone] + added


def _learned(
    base: UserState, ours: UserState, theirs: UserState
) -> tuple[Mapping[str, NDArray[Any]], UserState | None]:
    """The arrays, and the side they are of; None where they are of both."""
    if ours.bundle != theirs.bundle:
        return ours.learned, ours
    shapes = [{name: values.shape for name, values in side.learned.items()} for side in (base, ours, theirs)]
    if base.bundle == ours.bundle and shapes[0] == shapes[1] == shapes[2]:
        sums = {
            name: _sum(base.learned[name], ours.learned[name], values)
            for name, values in theirs.learned.items()
        }
        if all(np.isfinite(values).all() for values in sums.values()):
            return sums, None
    more = max(ours, theirs, key=lambda side: side.counters.get(LEARNED_EVENTS, 0))
    return more.learned, more


def _sum(base: NDArray[Any], ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[Any]:
    """theirs + (ours - base); what is positive, or positive definite, on all sides stays so."""
    total = theirs + (ours - base)
    if (base > 0).all() and (ours > 0).all() and (theirs > 0).all():
        return np.maximum(total, np.minimum(ours, theirs))
    is_square = total.ndim == 2 and total.shape[0] == total.shape[1]
    if is_square and _is_definite(theirs) and not _is_definite(total):
        return theirs
    return total


def _is_definite(matrix: NDArray[Any]) -> bool:
    try:
        np.linalg.cholesky(matrix.astype(np.float64))
    except np.linalg.LinAlgError:
        return False
    return True


def _merged_json(base: Json, ours: Json, theirs: Json) -> Json:
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        before = base if isinstance(base, Mapping) else {}
        kept = [
            name
            for name in {**theirs, **ours}
            if not (name in before and (name not in ours or name not in theirs))
        ]
        return {
            name: _merged_json(before.get(name), ours[name], theirs[name])
            if name in ours and name in theirs
            else (ours[name] if name in ours else theirs[name])
            for name in kept
        }
    if isinstance(ours, list) and isinstance(theirs, list):
        texts = (
            [json.dumps(entry) for entry in side or ()]
            for side in (base if isinstance(base, list) else [], ours, theirs)
        )
        return [json.loads(str(text)) for text in _history(*texts)]
    return theirs if ours == base else ours
