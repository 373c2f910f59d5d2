"""Ranks by counting agree with ranks by sorting, with masks, repeats, ties and NaN decided as documented."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrec.benchmarks.evaluate import EngineScorer, count_ranks, equal_length_batches, evaluate_ranks
from pocketrec.benchmarks.popularity import PopularityScorer, item_counts

N_ITEMS = 30


@dataclass(frozen=True)
class Split:
    histories: list[np.ndarray]
    targets: np.ndarray
    users: np.ndarray


class FixedScorer:
    """Scores that depend on the history's last item alone, from a table."""

    n_items = N_ITEMS

    def __init__(self, table: np.ndarray) -> None:
        self.table = table

    def __call__(self, histories: np.ndarray) -> np.ndarray:
        return self.table[histories[:, -1]]


def make_split(n_users: int = 40, seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(N_ITEMS) for _ in range(n_users)]
    histories = [order[: rng.integers(1, 9)] for order in orders]
    return Split(histories, np.array([order[-1] for order in orders]), np.arange(n_users))


def rank_by_sorting(scores: np.ndarray, target: int, history: np.ndarray) -> int:
    candidates = [row for row in range(N_ITEMS) if row not in history and row != target]
    return 1 + sum(1 for row in candidates if scores[row] >= scores[target])


@pytest.fixture
def table() -> np.ndarray:
    # Few distinct values, so that ties are common.
    return np.random.default_rng(1).integers(0, 6, size=(N_ITEMS, N_ITEMS)).astype(np.float32)


@pytest.mark.parametrize("batch_size", [1, 7, None])
def test_ranks_agree_with_sorting(table: np.ndarray, batch_size: int | None):
    split = make_split()
    ranking = evaluate_ranks(FixedScorer(table), split, batch_size=batch_size)
    expected = [
        rank_by_sorting(table[history[-1]], target, history)
        for history, target in zip(split.histories, split.targets, strict=True)
    ]
    assert ranking.ranks.tolist() == expected
    assert ranking.repeated_targets == 0


def test_kept_repeats_leave_the_history_among_the_candidates(table: np.ndarray):
    split = make_split()
    ranking = evaluate_ranks(FixedScorer(table), split, keep_repeats=True)
    nothing = np.array([], dtype=np.int64)
    expected = [
        rank_by_sorting(table[history[-1]], target, nothing)
        for history, target in zip(split.histories, split.targets, strict=True)
    ]
    assert ranking.ranks.tolist() == expected


def test_target_in_the_history_is_a_miss_unless_repeats_are_kept():
    table = np.zeros((N_ITEMS, N_ITEMS), dtype=np.float32)
    table[4, 4] = 9.0
    split = Split([np.array([2, 4, 4])], np.array([4]), np.array([0]))
    masked = evaluate_ranks(FixedScorer(table), split)
    assert (masked.ranks[0], masked.repeated_targets) == (N_ITEMS - 2 + 1, 1)
    kept = evaluate_ranks(FixedScorer(table), split, keep_repeats=True)
    assert (kept.ranks[0], kept.repeated_targets) == (1, 0)


def test_scores_that_are_not_numbers_lose():
    scores = np.array([[np.nan, 1.0, 2.0], [5.0, np.nan, 2.0]], dtype=np.float32)
    ranks, _ = count_ranks(scores, np.array([0, 0]), [])
    assert ranks.tolist() == [3, 2]


def test_top_lists_hold_the_best_candidates_in_order():
    table = np.tile(np.arange(N_ITEMS, dtype=np.float32), (N_ITEMS, 1))
    split = Split([np.array([29, 27])], np.array([0]), np.array([0]))
    assert evaluate_ranks(FixedScorer(table), split, n_top=3).top_rows.tolist() == [[28, 26, 25]]
    everything = evaluate_ranks(FixedScorer(table), split, n_top=N_ITEMS).top_rows[0]
    assert everything[-2:].tolist() == [-1, -1]
    assert table[0, 0] == 0.0, "the scorer's table was written to"


def test_long_histories_are_cut_for_scoring_but_masked_whole():
    seen: list[int] = []

    class Short(FixedScorer):
        max_length = 3

        def __call__(self, histories: np.ndarray) -> np.ndarray:
            seen.append(histories.shape[1])
            return super().__call__(histories)

    table = np.tile(np.arange(N_ITEMS, dtype=np.float32), (N_ITEMS, 1))
    split = Split([np.arange(29, 20, -1)], np.array([20]), np.array([0]))
    assert evaluate_ranks(Short(table), split).ranks.tolist() == [1]
    assert seen == [3]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.integers(1, 5))
def test_batches_hold_every_user_once(lengths: list[int], batch_size: int):
    histories = [np.arange(length) for length in lengths]
    batches = list(equal_length_batches(histories, batch_size))
    assert sorted(np.concatenate([users for users, _ in batches]).tolist()) == list(range(len(lengths)))
    for users, rows in batches:
        assert len(users) <= batch_size
        for user, row in zip(users, rows, strict=True):
            assert row.tolist() == histories[user].tolist()


class FakeEngine:
    n_items, width, max_length = 3, 2, 50
    items = np.array([[1, 0], [0, 1], [1, 1]], dtype=np.float32)

    def __init__(self, products: str) -> None:
        self.manifest = {"encoder": {"weights": "int8", "products": products}}
        self.batches: list[int] = []

    def prior(self) -> np.ndarray:
        return np.array([0, 1], dtype=np.float32)

    def encode(self, histories: np.ndarray) -> np.ndarray:
        self.batches.append(len(histories))
        return self.items[histories[:, -1]]

    def score_all(self, users: np.ndarray) -> np.ndarray:
        return users @ self.items.T


def test_engine_scorer_uses_the_prior_for_an_empty_history():
    split = Split([np.array([], dtype=np.int64), np.array([0])], np.array([0, 2]), np.array([0, 1]))
    ranking = evaluate_ranks(EngineScorer(FakeEngine("float32")), split, n_top=2)  # pyright: ignore
    assert ranking.ranks.tolist() == [3, 1]


@pytest.mark.parametrize(("products", "batches"), [("float32", [3]), ("int8", [1, 1, 1])])
def test_integer_products_see_one_user_a_call(products: str, batches: list[int]):
    engine = FakeEngine(products)
    split = Split([np.array([0]), np.array([0]), np.array([1])], np.array([2, 2, 2]), np.arange(3))
    ranking = evaluate_ranks(EngineScorer(engine), split, n_top=2)  # pyright: ignore
    assert ranking.ranks.tolist() == [1, 1, 1]
    assert engine.batches == batches


def test_wrong_shape_of_scores_is_named():
    class Narrow(FixedScorer):
        def __call__(self, histories: np.ndarray) -> np.ndarray:
            return super().__call__(histories)[:, :-1]

    scorer = Narrow(np.zeros((N_ITEMS, N_ITEMS), np.float32))
    with pytest.raises(ValueError, match=r"scores of shape \(1, 29\), expected \(1, 30\)"):
        evaluate_ranks(scorer, make_split(), batch_size=1)


def test_popularity_counts_training_sequences_only():
    counts = item_counts([np.array([0, 1, 1]), np.array([1])], 4)
    assert counts.tolist() == [1, 3, 0, 0]
    split = Split([np.array([0])], np.array([1]), np.array([0]))
    assert evaluate_ranks(PopularityScorer(counts), split, n_top=2).ranks.tolist() == [1]
    assert item_counts([], 2).tolist() == [0, 0]
