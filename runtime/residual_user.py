"""A user vector beside the model's, learned by online softmax over the lists that a user chose from.

u starts at 0. Of a list with probabilities q (the softmax of whatever ranked it) and chosen item c, items in units of
`item_space`:

    g = e_c - sum_i q_i e_i                              gradient of log q_c
    G <- G + g^2,   u <- decay * u + g / sqrt(G)         Adagrad (Duchi et al. 2011, JMLR 12), with forgetting

A dismissal ascends log(1 - q_d), whose gradient is q_d (sum_i q_i e_i - e_d) / (1 - q_d): what the ranking did not
rate anyway teaches next to nothing. An item that was merely shown is never a negative.

An update that is not finite is not made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DECAY = 0.99
"""What an event keeps of u: half of it is forgotten after 69 events."""
FIRST_GRADIENT_SQUARED = 1.0
"""G before the first event: the first steps are the gradient itself, of length about 1. With .01, steps of length 5, the
first event cost 3% of NDCG@10 on Beauty, where there is little to learn; on MovieLens-100K both do as well."""
_DECAY = np.float32(DECAY)
_LARGEST_ODDS = 1e3  # bounds the gradient of a dismissal where the list has hardly another item


@dataclass(slots=True, eq=False)
class ResidualUser:
    """u and G: what one user taught the device in one space."""

    vector: NDArray[np.float32]
    """u, float32 (D,)."""
    gradient_squared: NDArray[np.float32]
    """G, float32 (D,)."""

    @classmethod
    def new(cls, width: int) -> ResidualUser:
        """Nothing learned yet.

        >>> user = ResidualUser.new(2)
        >>> items, q = np.eye(2, dtype=np.float32), np.array([0.5, 0.5], np.float32)
        >>> user.learn_(items, q, 0, radius=1.0, chosen=True)
        >>> bool(user.vector[0] > 0 > user.vector[1])
        True
        """
        return cls(np.zeros(width, np.float32), np.full(width, FIRST_GRADIENT_SQUARED, np.float32))

    def learn_(
        self,
        items: NDArray[np.float32],
        q: NDArray[np.float32],
        item: int,
        *,
        radius: float | NDArray[np.float32],
        chosen: bool,
        weight: float = 1.0,
    ) -> None:
        """One event on one list.

        Args:
            items: float32 (C, D), their vectors; the center of the space cancels.
            q: float32 (C,), the probabilities of the list, of sum 1.
            item: which of the C was chosen, or dismissed.
            radius: of the space, or of each dimension's space, float32 (D,).
            chosen: False for a dismissal.
            weight: what the event counts: its gradient is so many times as long.
        """
        self.step_(items[item] - q.dot(items), float(q[item]), radius=radius, chosen=chosen, weight=weight)

    def step_(
        self,
        gap: NDArray[np.float32],
        q_item: float,
        *,
        radius: float | NDArray[np.float32],
        chosen: bool,
        weight: float = 1.0,
    ) -> None:
        """`learn_` where the item's vector less the list's mean, float32 (D,), and the item's probability are known."""
        gradient = np.divide(gap, radius, dtype=np.float32)
        if not chosen:
            weight *= -q_item / max(1.0 - q_item, 1.0 / _LARGEST_ODDS)
        if weight != 1.0:
            gradient *= np.float32(weight)
        squared = self.gradient_squared + gradient * gradient
        gradient /= np.sqrt(squared)
        vector = _DECAY * self.vector + gradient
        if math.isfinite(float(vector.dot(squared))):  # one product sees whatever is not finite in either
            self.vector, self.gradient_squared = vector, squared
