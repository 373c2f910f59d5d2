"""The experts' vectors: what was made ahead of a ranking changes nothing of it, to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pocketrec.runtime import Reranker, User
from pocketrec.runtime.experts import Ahead, Experts

K, WIDTH, D = 6, 4, 7


@pytest.fixture
def rest() -> np.ndarray:
    matrix = np.random.default_rng(0).standard_normal((K, D)).astype(np.float32)
    matrix[0] = 0
    return matrix


BASE = np.arange(1, WIDTH + 1, dtype=np.float32)
WEIGHTS = np.linspace(-1, 1, K, dtype=np.float32)


def test_the_models_vector_is_the_first_row_of_its_own_space(rest: np.ndarray) -> None:
    experts = Experts(BASE, 3, lambda: rest)
    np.testing.assert_array_equal(experts.matrix[0], [1, 2, 3, 4, 0, 0, 0])
    np.testing.assert_array_equal(experts.matrix[1:], rest[1:])
    assert not rest[0].any()
    np.testing.assert_allclose(experts.mixed(WEIGHTS, "catalogue"), WEIGHTS @ experts.matrix, rtol=1e-5)


def test_what_was_made_ahead_serves_its_source_only(rest: np.ndarray) -> None:
    ahead = Ahead(rest, "catalogue", WEIGHTS, WEIGHTS.dot(rest))
    plain = Experts(BASE, 3, lambda: rest)
    ready = Experts(BASE, 3, pytest.fail, ahead)  # nobody makes it a second time
    for source, weights in (("catalogue", WEIGHTS), ("popularity", -2 * WEIGHTS), ("catalogue", WEIGHTS)):
        np.testing.assert_array_equal(ready.mixed(weights, source), plain.mixed(weights, source))


def session(ranker: Reranker, *, forgets: bool) -> list[tuple[int, float]]:
    """Rankings of a user; `forgets`: saved and loaded after each lesson, so that nothing is ahead of a ranking."""
    rng, user, found = np.random.default_rng(1), ranker.user(), []
    user.observe(3, 9, 27)
    for _ in range(12):
        ranking = user.rerank(rng.permutation(50)[:20] + 1, k=20)
        found += [(item.item_id, item.score) for item in ranking]
        user.feedback(ranking[int(rng.integers(20))].item_id)
        if forgets:
            user = User(ranker, user.state)
    return found


@pytest.mark.parametrize("name", ["tiny-range.pocket", "tiny-taste.pocket"])
def test_a_lesson_makes_the_next_ranking_ahead_and_changes_no_bit_of_it(
    range_bundle: Path, name: str
) -> None:
    ranker = Reranker.load(range_bundle.with_name(name))
    assert session(ranker, forgets=False) == session(ranker, forgets=True)
