"""Learning on the device: a residual user vector, by online softmax over the lists that were shown.

The model gives a user vector h and ranks item i by e_i . h. What the device learns is a vector u beside it, in the units
of `item_space` (item vectors (e - mu) / rho):

    v = h + (spread(h) / temperature) * u / rho          score_i = e_i . v

so that u = 0 is exactly the model, and one learning rate serves every model. With the list's scores s and chosen item c:

    q = softmax(temperature * s / spread(h) + log_weight)
    g = e_c - sum_i q_i e_i                              gradient of log q_c, items in units of the space
    G <- G + g^2,   u <- decay * u + g / sqrt(G)         Adagrad (Duchi et al. 2011, JMLR 12), with forgetting

`log_weight` is not zero where the list is a sample of a longer one: the logarithm of how many items one stands for.
A dismissal ascends log(1 - q_d), whose gradient is q_d (sum_i q_i e_i - e_d) / (1 - q_d): what the ranking did not
rate anyway teaches next to nothing. An item that was merely shown is never a negative.

An update that is not finite is not made.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .item_space import ItemSpace

TEMPERATURE = 2.0
"""Deviations of the base's scores become logits times this."""
DECAY = 0.99
"""What an event keeps of u: half of it is forgotten after 69 events."""
FIRST_GRADIENT_SQUARED = 0.01
"""G before the first event: bounds the first step."""
_LARGEST_ODDS = 1e3  # bounds the gradient of a dismissal where the list has hardly another item


@dataclass(slots=True, eq=False)
class ResidualUser:
    """u and G: what one user taught the device."""

    vector: NDArray[np.float32]
    """u, float32 (D,)."""
    gradient_squared: NDArray[np.float32]
    """G, float32 (D,)."""
    n_events: int = field(default=0)
    """Events learned; 0: the ranking is the model's, exactly."""

    @classmethod
    def new(cls, width: int) -> ResidualUser:
        """Nothing learned yet."""
        return cls(np.zeros(width, np.float32), np.full(width, FIRST_GRADIENT_SQUARED, np.float32))

    def added_to(self, user: NDArray[np.float32], space: ItemSpace) -> NDArray[np.float32]:
        """v of the formula: float32 (D,); `user` itself while nothing is learned."""
        if self.n_events == 0:
            return user
        scale = space.spread(user) / (TEMPERATURE * space.radius)
        return (user + np.float32(scale) * self.vector).astype(np.float32, copy=False)

    @staticmethod
    def logit_scale(user: NDArray[np.float32], space: ItemSpace) -> float:
        """A score of v times this is a logit, where `user` is h, float32 (D,)."""
        spread = space.spread(user)
        return TEMPERATURE / spread if spread > 0 else 0.0

    def learn_(
        self, vectors: NDArray[np.float32], logits: NDArray[np.float32], item: int, *, chosen: bool
    ) -> None:
        """One event on one list.

        Args:
            vectors: float32 (C, D), the list's items in units of the space.
            logits: float32 (C,), temperature * s / spread(h) + log_weight.
            item: which of the C was chosen, or dismissed.
            chosen: False for a dismissal.
        """
        q = np.exp(logits - logits.max())
        q /= q.sum()
        gradient = vectors[item] - q @ vectors
        if not chosen:
            odds = float(q[item]) / max(1.0 - float(q[item]), 1.0 / _LARGEST_ODDS)
            gradient *= np.float32(-odds)
        squared = self.gradient_squared + gradient * gradient
        vector = np.float32(DECAY) * self.vector + gradient / np.sqrt(squared)
        if np.isfinite(vector.sum() + squared.sum()):
            self.vector, self.gradient_squared = vector, squared
            self.n_events += 1
