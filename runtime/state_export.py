"""A user's state as plain JSON, for the user to read and to take away: everything that is kept, and nothing else."""

from __future__ import annotations

from typing import Any

from .user_state import UserState


def exported(state: UserState) -> dict[str, Any]:
    """The state as JSON values; vectors as (nested) lists of numbers.

    >>> exported(UserState(history=[3, "a"]))["history"]
    [3, 'a']
    """
    return {
        "history": list(state.history),
        "dismissed": list(state.dismissed),
        "bundle": state.bundle,
        "counters": dict(state.counters),
        "learned": {name: values.tolist() for name, values in state.learned.items()},
        "extra": dict(state.extra),
    }
