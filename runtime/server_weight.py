"""What a server's scores count for one user: one more expert of the mixture, for lists that have them.

A server's scores, standardized over the list (`candidates`), are a column z; in logits they count

    w = sigma + delta,   sigma the deviation of the mixture's own logits over the list: at first both opinions count alike

and each choice from a list with scores moves delta by the step of a multinomial logit, as the mixture's weights move
(`choice_step`), from H_0 = `SERVER_PRIOR`: a server that knows this user better than the device gains weight, one whose
list is stale loses it. Replayed on MovieLens-100K (`benchmarks/told_feedback.py`), NDCG@10 against a weight that stays: a
server with the scores of some time ago +1.2% [.2, 2.1], with those of now +.5% [.1, 1.0], with noise +10.9% [9.5, 12.4].
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .choice_step import choice_step

SERVER_PRIOR = 30.0
"""H_0. Nothing is known of a server before it is met, so that the start counts as few events."""
NAME = "server_weight"
"""In a state file: float64 (2,), delta and H."""


class ServerWeight:
    """delta and H of one user."""

    def __init__(self, learned: NDArray[Any] | None = None) -> None:
        self._delta, self._information = np.zeros(1), np.full((1, 1), SERVER_PRIOR)
        if learned is not None and learned.shape == (2,) and np.isfinite(learned).all() and learned[1] > 0:
            self._delta[0], self._information[0, 0] = learned

    @property
    def delta(self) -> float:
        """In logits; 0 before anything is learned."""
        return float(self._delta[0])

    def learned(self) -> NDArray[np.float64]:
        """For a state file, and for `ServerWeight` again."""
        return np.array([self._delta[0], self._information[0, 0]])

    def learn_(self, column: NDArray[np.float32], q: NDArray[np.float32], item: int, weight: float) -> None:
        """One choice: float32 (C,) the standardized scores, float32 (C,) the probabilities of the list."""
        self._delta, self._information = choice_step(
            self._delta, self._information, column[:, None], q, item, weight
        )
