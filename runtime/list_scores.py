"""The scores of one list, and what they are made of beside the mixture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .list_items import ListItems


@dataclass(slots=True, eq=False)
class ListScores:
    """Scores of C candidates."""

    scores: NDArray[np.float32]
    """float32 (C,), -inf for what is unknown."""
    added: NDArray[np.float32] | None = None
    """float32 (C,): what a server's scores added; None without them."""
    by_server: NDArray[np.bool_] | None = None
    """bool (C,): which are unknown and have a score from the server; None without such."""
    items: ListItems | None = None
    """Those that are known, as they were looked up; None where nothing was."""
    dismissed: NDArray[np.bool_] | None = None
    """bool (C,); None where none is."""
    sent_back: float = 0.0
    """What was taken from the scores of the dismissed."""

    def send_back_(self, dismissed: NDArray[np.bool_]) -> None:
        """Lower the dismissed ones below all others that are known, in their order."""
        dismissed &= np.isfinite(self.scores)
        others = ~dismissed & np.isfinite(self.scores)
        if not dismissed.any():
            return
        self.dismissed = dismissed
        if others.any():
            gap = self.scores[dismissed].max() - self.scores[others].min()
            if gap >= 0:
                self.sent_back = float(np.float32(gap + max(1.0, abs(gap))))
                self.scores[dismissed] -= np.float32(self.sent_back)

    def steps(self) -> NDArray[np.int64]:
        """int64 (C,): 0, 1 for what was dismissed, 2 for what has no score."""
        steps = np.where(np.isfinite(self.scores), 0, 2)
        if self.dismissed is not None:
            steps[self.dismissed] = 1
        return steps
