"""What can be undone: the last events, and a snapshot from before them.

    record(entry, snapshot)   before the entry is applied
    undo(which)               the snapshot to go back to, and the entries to apply again

A snapshot is taken every `SEGMENT` entries only, and two are kept: so the last `SEGMENT` to `2 SEGMENT` entries can be
undone, and an event costs next to nothing. Undoing goes back to the snapshot before the entry and applies the others
again: exactly what would be, had it never been.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

SEGMENT = 16

Entry = TypeVar("Entry")
Snapshot = TypeVar("Snapshot")


class Journal(Generic[Entry, Snapshot]):
    """Entries since two snapshots.

    >>> journal = Journal()
    >>> for entry in "abc":
    ...     journal.record(entry, lambda: "before a")
    >>> journal.undo(lambda entry: entry == "b")
    ('before a', ['a', 'c'])
    """

    def __init__(self, segment: int = SEGMENT) -> None:
        self._segment = segment
        self._segments: deque[tuple[Snapshot, list[Entry]]] = deque(maxlen=2)

    def record(self, entry: Entry, snapshot: Callable[[], Snapshot]) -> None:
        """An entry that is about to be applied."""
        if not self._segments or len(self._segments[-1][1]) >= self._segment:
            self._segments.append((snapshot(), []))
        self._segments[-1][1].append(entry)

    def undo(self, which: Callable[[Entry], bool]) -> tuple[Snapshot, list[Entry]] | None:
        """The newest entry that `which` accepts is taken out; None where there is none.

        The entries that are returned are no longer recorded: record them again as they are applied.
        """
        for n in reversed(range(len(self._segments))):
            entries = self._segments[n][1]
            for m in reversed(range(len(entries))):
                if which(entries[m]):
                    segments = list(self._segments)
                    self._segments = deque(segments[:n], maxlen=2)
                    later = [entry for _, following in segments[n + 1 :] for entry in following]
                    return segments[n][0], [*entries[:m], *entries[m + 1 :], *later]
        return None
