"""The most popular items, for everybody: the ranker that every model must beat, shown beside every model.

Counts come from the training sequences alone (`protocols.training_sequences`), so that popularity knows no
more than the model did. Items with the same count tie, and ties are broken against the ranker, as for every
system.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def item_counts(sequences: Iterable[NDArray[np.int64]], n_items: int) -> NDArray[np.int64]:
    """How often each item row occurs in the sequences: int64 (N,)."""
    rows = [np.asarray(sequence, dtype=np.int64) for sequence in sequences]
    joined = np.concatenate(rows) if rows else np.empty(0, dtype=np.int64)
    return np.bincount(joined, minlength=n_items)


class PopularityScorer:
    """A `Scorer` whose score of an item is its count, whatever the history.

    >>> PopularityScorer(np.array([3, 1]))(np.zeros((2, 4), dtype=np.int64)).tolist()
    [[3.0, 1.0], [3.0, 1.0]]
    """

    def __init__(self, counts: NDArray[np.int64]) -> None:
        self._scores = counts.astype(np.float32)
        self.n_items = len(counts)

    def __call__(self, histories: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.broadcast_to(self._scores, (len(histories), self.n_items))
