"""Exact, whatever the length, the ties and k."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.runtime.top_k import BLOCK, top_k


def by_sorting(scores: np.ndarray, k: int) -> list[int]:
    return np.argsort(-scores, kind="stable")[:k].tolist()


@pytest.mark.parametrize("n", [0, 1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 10 * BLOCK, 100 * BLOCK + 17])
@pytest.mark.parametrize("k", [1, 2, 10, 100, 10**6])
@pytest.mark.parametrize("distinct", [1, 3, 50, 10**6])
def test_it_is_sorting(n: int, k: int, distinct: int) -> None:
    scores = np.random.default_rng([n, k, distinct]).integers(0, distinct, n).astype(np.float32)
    assert top_k(scores, k).tolist() == by_sorting(scores, k)


@pytest.mark.parametrize("seed", range(20))
def test_minus_infinity_ranks_last(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal(50 * BLOCK).astype(np.float32)
    scores[rng.random(len(scores)) < 0.9] = -np.inf
    assert top_k(scores, 20).tolist() == by_sorting(scores, 20)


def test_the_best_may_all_lie_in_one_block() -> None:
    scores = np.zeros(50 * BLOCK, np.float32)
    scores[7 * BLOCK : 8 * BLOCK] = np.arange(1, BLOCK + 1)
    assert top_k(scores, 10).tolist() == list(range(8 * BLOCK - 1, 8 * BLOCK - 11, -1))


@pytest.mark.parametrize("k", [0, -1])
def test_nothing_asked(k: int) -> None:
    assert top_k(np.ones(5, np.float32), k).tolist() == []
