"""How far the catalogue's graph may be from exact scores, so that the best items can be found in it and scored again.

`MatMulNBits` with `accuracy_level=4` rounds the user's vector, in each block of dimensions, to 127 levels either side of
zero. An item's score is then off by at most half a level for each of its values:

    |error| <= sum over blocks b of  max |user_b| / 254 * sum |row_b|

Of the items only the largest sum |row_b| is kept, one number a block. Items whose score is within twice that of the k-th
hold the k best by exact scores: 130 to 160 of a million for k = 100, at 64 dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CODES_AT_ONCE = 1 << 20
_FLOAT_SLACK = 1.01
"""What the float32 sums add: a few millionths of sum |user||row|, a thousandth of the bound."""
_MAGNITUDES = {
    4: np.array([abs((byte & 15) - 8) + abs((byte >> 4) - 8) for byte in range(256)], np.uint16),
    8: np.array([abs(byte - 128) for byte in range(256)], np.uint16),
}
"""By bits: the sum of the levels in a byte of codes, without their signs."""


@dataclass(frozen=True, slots=True, eq=False)
class ScoreRounding:
    """The bound for one table of N items."""

    largest_sums: NDArray[np.float32]
    """float32 (blocks,): the largest sum of a row's values in each block, without their signs."""
    block: int
    """Dimensions of a block."""

    def bound(self, user: NDArray[np.float32]) -> float:
        """Of the score of any item, for a user float32 (D,), D up to the stored width."""
        if len(self.largest_sums) == 1:
            return float(np.abs(user).max()) * float(self.largest_sums[0]) * _FLOAT_SLACK / 254
        padded = np.zeros(len(self.largest_sums) * self.block, np.float32)
        np.abs(user, out=padded[: len(user)])
        return float(padded.reshape(-1, self.block).max(axis=1).dot(self.largest_sums)) * _FLOAT_SLACK / 254


def score_rounding(
    codes: NDArray[np.uint8], bits: int, block: int, scales: NDArray[np.float32]
) -> ScoreRounding:
    """Of a table as `MatMulNBits` reads it: codes uint8 (N, bytes) in 4 or 8 bits, scales float32 (N,).

    >>> codes = np.array([[8] * 16, [9] * 8 + [7] * 8], np.uint8) * 17  # levels 0, and 1 and -1
    >>> rounding = score_rounding(codes[:, :8], 4, 16, np.array([5.0, 0.5], np.float32))
    >>> rounding.largest_sums, round(rounding.bound(np.full(16, 2, np.float32)), 3)
    (array([8.], dtype=float32), 0.064)
    """
    n_items, row_bytes = codes.shape
    block_bytes = block * bits // 8
    largest = np.zeros(row_bytes // block_bytes, np.float32)
    step = max(1, _CODES_AT_ONCE // row_bytes)
    for start in range(0, n_items, step):
        magnitudes = _MAGNITUDES[bits].take(codes[start : start + step])
        sums = magnitudes.reshape(len(magnitudes), -1, block_bytes).sum(axis=2, dtype=np.uint16)
        np.maximum(largest, (sums * scales[start : start + step, None]).max(axis=0), out=largest)
    return ScoreRounding(largest, block)
