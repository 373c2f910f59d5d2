"""Places are filled by what is useful, diverse, calibrated, allowed: against answers by brute force or by construction."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pocketrec.runtime.category_terms import LARGEST_KL, SMOOTHING, Calibration, CategoryCap, CategoryShares
from pocketrec.runtime.diversity import SMALLEST_VOLUME, LogVolume, MarginalRelevance, Term, unit_vectors
from pocketrec.runtime.exploration import Greedy
from pocketrec.runtime.slate import Slate, fill_slate

N, WIDTH = 30, 8


@pytest.fixture
def units() -> np.ndarray:
    rng = np.random.default_rng(0)
    return unit_vectors(rng.standard_normal((N, WIDTH)).astype(np.float32), np.zeros(WIDTH, np.float32))


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(1).standard_normal(N)


def fill(logits: np.ndarray, k: int, *terms: tuple[float, Term], cap: CategoryCap | None = None) -> list[int]:
    steps = np.zeros(len(logits), np.int64)
    return fill_slate(logits, steps, k, Greedy(), terms=terms, cap=cap).order.tolist()


def similarity(units: np.ndarray) -> np.ndarray:
    kernel = (1 + units @ units.T) / 2
    np.fill_diagonal(kernel, 1.0)
    return kernel


class TestPlain:
    def test_the_best_come_first_and_ties_go_to_the_earlier(self) -> None:
        assert fill(np.array([1.0, 2.0, 2.0, 0.0]), 3) == [1, 2, 0]

    def test_a_lower_step_comes_after_all_of_a_higher(self) -> None:
        slate = fill_slate(np.array([9.0, 1.0, 8.0, 2.0]), np.array([1, 0, 2, 0]), 4, Greedy())
        assert slate.order.tolist() == [3, 1, 0, 2]

    def test_pins_come_first_in_their_order(self) -> None:
        slate = fill_slate(np.arange(5.0), np.zeros(5, np.int64), 3, Greedy(), first=[1, 0])
        assert (slate.order.tolist(), slate.propensities.tolist()) == ([1, 0, 4], [1.0, 1.0, 1.0])

    def test_more_pins_than_places(self) -> None:
        slate = fill_slate(np.arange(5.0), np.zeros(5, np.int64), 2, Greedy(), first=[1, 0, 3])
        assert slate.order.tolist() == [1, 0]

    @pytest.mark.parametrize("k", [1, 100])
    def test_no_candidates(self, k: int) -> None:
        slate: Slate = fill_slate(np.empty(0), np.empty(0, np.int64), k, Greedy())
        assert len(slate.order) == len(slate.propensities) == 0


class TestMarginalRelevance:
    @pytest.mark.parametrize("dial", [0.1, 0.5, 0.9])
    def test_it_is_the_greedy_maximum_of_the_formula(
        self, units: np.ndarray, logits: np.ndarray, dial: float
    ) -> None:
        alike, span = similarity(units), np.ptp(logits)
        expected: list[int] = []
        for _ in range(10):
            left = [n for n in range(N) if n not in expected]
            values = [
                (1 - dial) * logits[n] - dial * span * max((alike[n, m] for m in expected), default=0.0)
                for n in left
            ]
            expected.append(left[int(np.argmax(values))])
        assert fill(logits, 10, (dial, MarginalRelevance(units))) == expected

    def test_a_copy_of_what_was_placed_waits(self) -> None:
        units = np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
        logits = np.array([1.0, 0.9, 0.0])
        assert fill(logits, 3, (0.3, MarginalRelevance(units))) == [0, 1, 2]
        assert fill(logits, 3, (0.6, MarginalRelevance(units))) == [0, 2, 1]


class TestLogVolume:
    def test_values_are_what_a_determinant_says(self, units: np.ndarray) -> None:
        kernel, term, placed = similarity(units), LogVolume(units), []
        for n in (3, 17, 5, 8):
            gains = term.values()
            before = np.linalg.slogdet(kernel[np.ix_(placed, placed)])[1] if placed else 0.0
            for m in range(N):
                if m not in placed:
                    after = np.linalg.slogdet(kernel[np.ix_([*placed, m], [*placed, m])])[1]
                    # 1e-9: a Cholesky factor against LU, both in float64
                    assert gains[m] * -np.log(SMALLEST_VOLUME) == pytest.approx(after - before, abs=1e-9)
            term.place(n)
            placed.append(n)

    def test_greedy_finds_nearly_the_largest_determinant(self, units: np.ndarray) -> None:
        kernel = similarity(units[:10])
        found = fill(np.zeros(10), 3, (1.0, LogVolume(units[:10])))
        best = max(
            np.linalg.det(kernel[np.ix_(subset, subset)]) for subset in itertools.combinations(range(10), 3)
        )
        # greedy MAP has no constant bound on the determinant itself; half of the best is what this seed must reach
        assert np.linalg.det(kernel[np.ix_(found, found)]) >= 0.5 * best

    def test_beyond_the_rank_the_score_goes_on(self) -> None:
        units = np.array([[1.0, 0.0]] * 3 + [[-1.0, 0.0]] * 3)
        logits = np.array([0.0, 3.0, 2.0, 1.0, 5.0, 4.0])
        order = fill(logits, 6, (0.5, LogVolume(units)))
        assert order[:2] == [4, 1]
        assert order[2:] == [5, 2, 3, 0]
        assert LogVolume(units).values().min() >= -1

    def test_more_diversity_costs_score_and_brings_volume(
        self, units: np.ndarray, logits: np.ndarray
    ) -> None:
        scores, volumes = [], []
        for dial in (0.0, 0.3, 0.9):
            order = fill(logits, 8, (dial, LogVolume(units)))
            scores.append(logits[order].sum())
            volumes.append(np.linalg.slogdet(similarity(units[order]))[1])
        assert scores == sorted(scores, reverse=True)
        assert volumes == sorted(volumes)

    def test_vectors_that_say_nothing(self) -> None:
        vectors = np.array([[np.nan, 1], [np.inf, 0], [0, 0], [2, 0]], np.float32)
        units = unit_vectors(vectors, np.zeros(2, np.float32))
        assert np.isfinite(units).all()
        assert sorted(fill(np.arange(4.0), 4, (0.5, LogVolume(units)), (0.2, MarginalRelevance(units)))) == [
            0,
            1,
            2,
            3,
        ]


CATEGORIES = {0: "a", 1: "a", 2: "a", 3: "b", 4: ("a", "b"), 5: (), 7: "c"}


class TestCategories:
    def test_at_most_n_of_each(self) -> None:
        shares = CategoryShares(CATEGORIES, range(8))
        order = fill(-np.arange(8.0), 8, cap=CategoryCap(shares, 2))
        assert order == [0, 1, 3, 5, 6, 7]  # 2 and 4 are of "a", which is full; 5 and 6 have no category

    def test_calibration_is_the_greedy_maximum_of_the_formula(self, logits: np.ndarray) -> None:
        rng = np.random.default_rng(2)
        names = np.array(["a", "b", "c", "d"])
        categories = {n: [*rng.choice(names, rng.integers(1, 3), replace=False)] for n in range(N)}
        history, dial, span = [0, 1, 2, 3, 4], 0.7, np.ptp(logits)
        shares = CategoryShares(categories, range(N), history)

        def p(items: list[int]) -> dict[str, float]:
            total = dict.fromkeys(names.tolist(), 0.0)
            for item in items:
                for name in categories[item]:
                    total[name] += 1 / len(categories[item]) / len(items)
            return total

        target = p(history)

        def kl(items: list[int]) -> float:
            q = p(items)
            return sum(
                t * np.log(t / ((1 - SMOOTHING) * q[name] + SMOOTHING * t))
                for name, t in target.items()
                if t > 0
            )

        expected: list[int] = []
        for _ in range(8):
            left = [n for n in range(N) if n not in expected]
            values = [(1 - dial) * logits[n] - dial * span * kl([*expected, n]) / LARGEST_KL for n in left]
            expected.append(left[int(np.argmax(values))])
        assert shares.of_history is not None
        assert fill(logits, 8, (dial, Calibration(shares, shares.of_history))) == expected

    def test_seven_of_ten_and_three_of_ten(self) -> None:
        """The example of the paper's introduction: without calibration the list has one genre only."""
        categories = {n: "romance" if n < 50 else "action" for n in range(100)}
        logits = np.concatenate([np.linspace(2, 1, 50), np.linspace(1, 0, 50)])
        shares = CategoryShares(categories, range(100), [*range(7), *range(60, 63)])
        assert shares.of_history is not None
        plain, calibrated = (
            fill(logits, 10, *terms) for terms in ((), ((0.99, Calibration(shares, shares.of_history)),))
        )
        assert sum(n < 50 for n in plain) == 10
        assert sum(n < 50 for n in calibrated) == 7

    def test_without_a_history_there_is_no_target(self) -> None:
        assert CategoryShares({1: "a"}, [1]).of_history is None
        assert CategoryShares({1: "a"}, [1], [2, 3]).of_history is None
