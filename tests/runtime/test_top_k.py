"""Exact, whatever the length, the ties and k."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.runtime.top_k import BLOCK, contenders, exact_top_k, top_k


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


@pytest.mark.parametrize("n", [1, 40, 1000, 100 * BLOCK + 17])
@pytest.mark.parametrize("k", [1, 10, 10**4])
@pytest.mark.parametrize("slack", [0.0, 0.05, 1.0, 100.0])
def test_contenders_are_all_near_the_kth(n: int, k: int, slack: float) -> None:
    scores = np.random.default_rng([n, k]).standard_normal(n).astype(np.float32)
    kth = np.sort(scores)[-min(k, n)]
    assert contenders(scores, k, slack).tolist() == np.flatnonzero(scores >= kth - slack).tolist()


@pytest.mark.parametrize("distinct", [2, 100, 10**6])
@pytest.mark.parametrize("rounding", [0.25, 3.0])
@pytest.mark.parametrize("k", [1, 20, 300, 10**6])
def test_the_best_by_exact_scores_are_found_in_rounded_ones(distinct: int, rounding: float, k: int) -> None:
    rng = np.random.default_rng([distinct, k])
    exact = rng.integers(0, distinct, 30_000).astype(np.float32)
    rounded = exact + rng.uniform(-rounding, rounding, len(exact)).astype(np.float32)
    rows, scores = exact_top_k(rounded, k, rounding * 1.001, exact.take)
    assert rows.tolist() == by_sorting(exact, k)
    np.testing.assert_array_equal(scores, exact[rows])


def test_exact_scores_are_asked_for_few_rows_only() -> None:
    """And never for one that is left out."""
    scores = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    scores[::7] = -np.inf
    asked: list[int] = []

    def exact(rows: np.ndarray) -> np.ndarray:
        asked.extend(rows.tolist())
        return scores[rows]

    rows, _ = exact_top_k(scores, 10, 0.01, exact)
    assert rows.tolist() == by_sorting(scores, 10)
    assert len(asked) < 30
    assert not (np.array(asked) % 7 == 0).any()


def test_exact_scores_need_not_be_asked_for() -> None:
    def never(rows: np.ndarray) -> np.ndarray:
        raise AssertionError(rows)

    assert exact_top_k(np.array([1, 3, 2], np.float32), 2, 0.0, never)[0].tolist() == [1, 2]
    assert exact_top_k(np.empty(0, np.float32), 2, 1.0, never)[0].tolist() == []
