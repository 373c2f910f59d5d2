"""The vectors of a user's last events, kept as the encoder wants them: looked up once, when the event happens.

A buffer of twice the length is filled from the left; when it is full, its newer half is copied to the front of a new one.
So the last L vectors are always one block, ranking copies and looks up nothing, and a block that somebody keeps stays
what it was.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class HistoryVectors:
    """The last `max_length` vectors of width `width`, oldest first.

    >>> last = HistoryVectors(max_length=2, width=1)
    >>> last.extend(np.array([[1], [2], [3]], np.float32))
    >>> last.extend(np.array([[4]], np.float32))
    >>> last.block.ravel().tolist()
    [3.0, 4.0]
    """

    def __init__(self, max_length: int, width: int) -> None:
        self._max_length = max_length
        self._buffer = np.empty((2 * max_length, width), np.float32)
        self._end = 0

    @property
    def block(self) -> NDArray[np.float32]:
        """float32 (n, D), n at most `max_length`: a view, never written to again."""
        return self._buffer[max(0, self._end - self._max_length) : self._end]

    def extend(self, vectors: NDArray[np.float32]) -> None:
        """Append vectors, float32 (m, D)."""
        vectors = vectors[-self._max_length :]
        if self._end + len(vectors) > len(self._buffer):
            kept = self.block
            self._buffer = np.empty_like(self._buffer)
            self._buffer[: len(kept)] = kept
            self._end = len(kept)
        self._buffer[self._end : self._end + len(vectors)] = vectors
        self._end += len(vectors)
