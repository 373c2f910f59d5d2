"""What is asked of a model, and what it may have learned from: the evaluation protocols.

- Leave-one-out: the last event of each user is the test, the one before it validation; a model may learn from
  what lies before the validation event. What the papers print.
- Temporal: one cut in time for all users; a model may learn from what lies before it, and is asked about each
  user's first event after it. No user's future leaks through another user's past: this is the honest one.

Both take sequences of item_rows (`interactions.map_items(...).sequences`), one int64 array a user, empty ones
allowed. Users with too few events are left out and counted; no user left is an `InputError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import InputError

Stage = Literal["validation", "test"]


@dataclass(frozen=True)
class Split:
    """One question a user: after this history, which item comes next?"""

    histories: list[NDArray[np.int64]]
    """item_rows before the target, oldest first, at least one."""
    targets: NDArray[np.int64]
    """int64 (U,), the item_row that came next."""
    users: NDArray[np.int64]
    """int64 (U,), index into the sequences (and into `Interactions.user_ids`)."""
    left_out: int = 0
    """Users with too few events to ask about."""
    protocol: str = ""
    """As the report prints it."""

    def __len__(self) -> int:
        return len(self.targets)


def leave_one_out(sequences: Sequence[NDArray[np.int64]], *, stage: Stage, min_length: int = 3) -> Split:
    """The last event of each user ("test"), or the one before it ("validation"), after all before it.

    Args:
        min_length: users with fewer events are left out; 3 asks the same users at both stages.

    Raises:
        InputError: no user has so many events.

    >>> split = leave_one_out([np.array([4, 5, 6]), np.array([7])], stage="validation")
    >>> split.histories, split.targets, split.left_out
    ([array([4])], array([5]), 1)
    """
    after = {"test": 0, "validation": 1}.get(stage)  # events after the target that stay hidden
    if after is None:
        raise InputError(f"stage {stage!r}; expected 'validation' or 'test'")
    if min_length < 2 + after:
        raise InputError(f"min_length={min_length}; {stage} needs at least {2 + after} events of a user")
    users = [u for u, sequence in enumerate(sequences) if len(sequence) >= min_length]
    if not users:
        raise InputError(
            f"none of the {len(sequences):,} users has {min_length} events; leave-one-out needs at least one"
        )
    return Split(
        histories=[sequences[u][: -1 - after] for u in users],
        targets=np.array([sequences[u][-1 - after] for u in users], np.int64),
        users=np.array(users, np.int64),
        left_out=len(sequences) - len(users),
        protocol=f"leave-one-out, {stage}",
    )


def training_sequences(sequences: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """What a model may learn from under leave-one-out: each sequence without its last two items.

    >>> training_sequences([np.array([4, 5, 6]), np.array([7])])
    [array([4]), array([], dtype=int64)]
    """
    return [sequence[:-2] for sequence in sequences]


@dataclass(frozen=True)
class TemporalSplit:
    """All events before one moment, and all from it on."""

    cut: float
    """Events at or after this time are test events."""
    training: list[NDArray[np.int64]]
    """item_rows before the cut, one array for each of the sequences given; may be empty."""
    training_times: list[NDArray[np.float64]]
    """Beside `training`: cut these again for a validation set."""
    test: Split
    """Each user's first event at or after the cut."""
    streams: list[NDArray[np.int64]]
    """For replay: the events from the cut on, one array for each of `test.users`; the first is the target."""


def temporal(
    sequences: Sequence[NDArray[np.int64]],
    times: Sequence[NDArray[np.float64]] | None,
    *,
    quantile: float | None = 0.9,
    cut: float | None = None,
    min_history: int = 1,
) -> TemporalSplit:
    """Cut all users' events at one moment.

    Args:
        times: beside `sequences`, ascending within each user (`MappedSequences.times`).
        quantile: share of all events, between 0 and 1, that lies before the cut (less where events tie).
        cut: the moment itself; goes before `quantile`.
        min_history: users with fewer events before the cut are not asked about (counted in `test.left_out`,
            as are users without an event after it).

    Raises:
        InputError: no times, or nobody to learn from or to ask.
    """
    if times is None:
        raise InputError("the temporal protocol needs times, and the data have none; use leave-one-out")
    if cut is None:
        if quantile is None or not 0 < quantile < 1:
            raise InputError(f"quantile={quantile}; expected a share of the events between 0 and 1, or a cut")
        everything = np.concatenate([*times, np.empty(0)])
        if not everything.size:
            raise InputError("no events; the temporal protocol needs some before and some after the cut")
        cut = float(np.quantile(everything, quantile, method="higher"))
    n_before = [int(np.searchsorted(user_times, cut, side="left")) for user_times in times]
    users = [u for u, n in enumerate(n_before) if max(min_history, 1) <= n < len(sequences[u])]
    if not any(n_before):
        raise InputError(
            f"no event lies before the cut at {cut:g}; nothing to learn from, choose a later cut"
        )
    if not users:
        raise InputError(f"no user has events both before and after the cut at {cut:g}; choose another cut")
    streams = [sequences[u][n_before[u] :] for u in users]
    test = Split(
        histories=[sequences[u][: n_before[u]] for u in users],
        targets=np.array([stream[0] for stream in streams], np.int64),
        users=np.array(users, np.int64),
        left_out=len(sequences) - len(users),
        protocol=f"temporal, cut at {cut:g}",
    )
    return TemporalSplit(
        cut=cut,
        training=[sequence[:n] for sequence, n in zip(sequences, n_before, strict=True)],
        training_times=[user_times[:n] for user_times, n in zip(times, n_before, strict=True)],
        test=test,
        streams=streams,
    )
