"""The buffer always shows the last vectors, whatever the sizes of what came."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.runtime.history_vectors import HistoryVectors


@pytest.mark.parametrize("seed", range(5))
def test_the_block_is_the_tail_of_everything(seed: int):
    random = np.random.default_rng(seed)
    last, everything = HistoryVectors(max_length=7, width=3), np.empty((0, 3), np.float32)
    for size in random.integers(0, 20, size=60):
        vectors = random.standard_normal((size, 3)).astype(np.float32)
        last.extend(vectors)
        everything = np.concatenate([everything, vectors])
        np.testing.assert_array_equal(last.block, everything[-7:])
        assert last.block.flags.c_contiguous
