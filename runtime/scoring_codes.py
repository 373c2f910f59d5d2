"""A quantized table as the catalogue's graph reads it (`MatMulNBits`), and several of them as one.

Levels of 2 and 3 bits are among those of 4 bits, and each row has a scale of its own: tiers of up to 4 bits are one table
of 4 bits to the graph, in the order of items, whose scores nobody needs to put in order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class ScoringCodes(NamedTuple):
    """Rows of one table; value = scale * (code - 2 ** (bits - 1))."""

    codes: NDArray[np.uint8]
    """uint8 (N, stored width * bits / 8)."""
    bits: int
    """4 or 8."""
    scales: NDArray[np.float32]
    """float32 (N,)."""


def joined(tables: Iterable[tuple[NDArray[np.int64], ScoringCodes]]) -> ScoringCodes:
    """One table of some in 4 bits, each with the places of its rows, int64 (n,), in what comes out.

    >>> row = np.array([[136] * 8], np.uint8)
    >>> first, second = (ScoringCodes(row + n, 4, np.array([n], np.float32)) for n in (1, 2))
    >>> both = joined([(np.array([1]), first), (np.array([0]), second)])
    >>> both.codes[:, 0].tolist(), both.scales.tolist()
    ([138, 137], [2.0, 1.0])
    """
    tables = list(tables)
    n_items = sum(len(places) for places, _ in tables)
    codes = np.empty((n_items, tables[0][1].codes.shape[1]), np.uint8)
    scales = np.empty(n_items, np.float32)
    for places, table in tables:
        codes[places], scales[places] = table.codes, table.scales
    return ScoringCodes(codes, 4, scales)
