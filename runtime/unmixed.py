"""The mixture of a bundle without item vectors: the model alone.

Item-item weights leave nothing to learn in: no space in which an item and a taste lie. A click is learned all the same, by
joining the history, of which such a model is a sum; a dismissal sends the item behind. A ranking is the model's, always.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .adaptation import OWN_EXPERTS
from .experts import Ahead, Experts, Floats
from .item_spaces import ItemSpaces
from .mixture import TEMPERATURE, Mixture


class Unmixed(Mixture):
    """`Mixture` with one expert; what it learned is how many lessons there were."""

    def __init__(self, score_all: Callable[[Floats], Floats]) -> None:
        """score_all: scores of the catalogue for one user vector, float32 (N,) -> (N,)."""
        super().__init__(ItemSpaces(()), np.empty(0, np.float32), None)
        self._score_all = score_all

    def experts(self, user: Floats, recent: Floats, n_recent: int, ahead: Ahead | None = None) -> Experts:
        """The base alone, whatever was recent."""
        return Experts(user, n_recent, lambda: user[None])

    def model_ranks_alone(self, n_recent: int) -> bool:
        """Always."""
        return True

    def ranking_weights(self, experts: Experts, source: str) -> NDArray[np.float64] | None:
        """None: the model ranks alone."""
        return None

    def weights(self, source: str, experts: Experts) -> NDArray[np.float64]:
        """Of the base, what makes its scores logits; float64 (K,), 0 for the others."""
        spread = float(self._score_all(experts.base).std())
        weights = np.zeros(len(OWN_EXPERTS))
        weights[0] = TEMPERATURE / spread if spread > 0 else 0.0
        return weights

    def learn_(
        self,
        experts: Experts,
        source: str,
        items: Floats,
        added: Floats | None,
        item: int,
        *,
        chosen: bool,
        weight: float = 1.0,
    ) -> Floats | None:
        """Counts the lesson."""
        self.n_events += 1
        return None
