"""How RecBole cuts labelled interactions into training, validation and test rows: the very same rows, without torch.

    random      rows are shuffled by `torch.randperm` under the seed of the settings, then cut by the ratios
    user-time   each user's events in time order, cut by the ratios user by user

`torch.randperm` on the CPU is Fisher and Yates' shuffle over the 32-bit words of the Mersenne Twister (MT19937), seeded as
Matsumoto and Nishimura's `init_genrand` does, which is numpy's legacy seeding: word i modulo (n - i) says what is swapped
with place i. Source: RecBole 1.2.1, `Dataset.split_by_ratio`; PyTorch, `randperm_cpu` in `TensorFactories.cpp`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

RATIOS = (0.8, 0.1, 0.1)


def torch_randperm(n: int, seed: int) -> NDArray[np.int64]:
    """`torch.manual_seed(seed); torch.randperm(n)`: int64 (n,), n below 2**32 / 20.

    >>> torch_randperm(6, 2020).tolist()
    [2, 0, 5, 3, 1, 4]
    """
    words = np.random.RandomState(seed % 2**32).randint(0, 2**32, max(n - 1, 0), dtype=np.uint32)
    swaps = (words % np.arange(n, 1, -1, dtype=np.uint32)).tolist()
    order = list(range(n))
    for place, ahead in enumerate(swaps):
        order[place], order[place + ahead] = order[place + ahead], order[place]
    return np.array(order, np.int64)


def random_split(n_rows: int, seed: int, ratios: Sequence[float] = RATIOS) -> list[NDArray[np.int64]]:
    """Rows of each part, in RecBole's order."""
    order = torch_randperm(n_rows, seed)
    return [order[a:b] for a, b in pairwise(np.cumsum([0, *counts(n_rows, ratios)]).tolist())]


def user_time_split(
    users: NDArray[np.int64], times: NDArray[np.float64], ratios: Sequence[float] = RATIOS
) -> list[NDArray[np.int64]]:
    """Rows of each part: each user's oldest rows train; equal times stay in the order of the file."""
    order = np.lexsort([times, users])
    starts = np.flatnonzero(np.diff(users[order], prepend=-1))
    parts: list[list[NDArray[np.int64]]] = [[] for _ in ratios]
    for rows in np.split(order, starts[1:]):
        for part, (a, b) in zip(
            parts, pairwise(np.cumsum([0, *counts(len(rows), ratios)]).tolist()), strict=True
        ):
            part.append(rows[a:b])
    return [np.concatenate(part) if part else np.empty(0, np.int64) for part in parts]


def counts(n_rows: int, ratios: Sequence[float]) -> list[int]:
    """How many rows each part gets: rounded down, the first gets the rest, and gives one to a part that has none."""
    found = [int(ratio * n_rows) for ratio in ratios]
    found[0] = n_rows - sum(found[1:])
    for n in range(1, len(ratios)):
        if found[0] <= 1:
            break
        if 0 < ratios[-n] * n_rows < 1:
            found[-n] += 1
            found[0] -= 1
    return found
