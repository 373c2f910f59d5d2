"""Means of what was chosen last: three vectors that say what a user is up to.

    fast  m <- .3 m + .7 a        slow  m <- .9 m + .1 a        last  mean of the last three a

from m = 0, so that a short history counts for less; a is the chosen item in units of its space, (e - mu) / rho. What comes
out is m / rho: a vector whose dot product with e ranks as m does with (e - mu) / rho.

They are functions of the history, not state: the last `RECENT` events are looked at anew, so that a restored user is the
same to the last bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RECENT = 64
"""Events that the means look back on; what is older weighs .9 ** 64, a thousandth."""
_FAST, _SLOW, _LAST = 0.3, 0.9, 3


def recency_weights(n: int) -> NDArray[np.float32]:
    """How much each of the last n events, oldest first, counts in the three means: float32 (3, n).

    >>> recency_weights(2).round(2)
    array([[0.21, 0.7 ],
           [0.09, 0.1 ],
           [0.5 , 0.5 ]], dtype=float32)
    """
    age = np.arange(n)[::-1]
    fast, slow = (1 - _FAST) * _FAST**age, (1 - _SLOW) * _SLOW**age
    return np.stack([fast, slow, (age < _LAST) / max(min(n, _LAST), 1)]).astype(np.float32)


class Recency:
    """The means in spaces that stand side by side (`item_spaces`); made once and shared by their users."""

    def __init__(self, center: NDArray[np.float32], radius: NDArray[np.float32] | float) -> None:
        """center: float32 (D,), mu. radius: rho, of all dimensions or of each, float32 (D,)."""
        self._center = center
        self._scale = np.square(np.float32(1.0) / np.float32(radius))
        self._weights = [recency_weights(n) for n in range(RECENT + 1)]

    def scaled(self, items: NDArray[np.float32]) -> NDArray[np.float32]:
        """a / rho of items, float32 (n, D) both: what means are made of."""
        scaled = items - self._center
        scaled *= self._scale
        return scaled

    def means(
        self, scaled: NDArray[np.float32], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """m / rho for the three: float32 (n, D), `scaled` of the last n <= `RECENT` events, oldest first -> (3, D)."""
        return np.dot(self._weights[len(scaled)], scaled, out=out)
