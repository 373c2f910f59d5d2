"""Position-based examination: off by default, exact where it is given, found again where it is estimated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pocketrec.runtime import InputError, Reranker
from pocketrec.runtime.examination import SMALLEST, among_examined, estimate_examination, read_examination
from pocketrec.runtime.impressions import ImpressionLog, Outcome
from pocketrec.runtime.shown_list import Contrast

ITEMS = list(range(1, 51))
THETA = np.array([1.0, 0.7, 0.5, 0.35, 0.25])


def simulated(n_lists: int, seed: int, theta: np.ndarray = THETA) -> list[ImpressionLog]:
    """Clicks of the model itself: 20 items in shuffled lists."""
    rng = np.random.default_rng(seed)
    gamma = rng.uniform(0.1, 0.8, 20)
    logs = []
    for _ in range(n_lists // 50):
        log = ImpressionLog()
        for ranking in range(50):
            items = rng.permutation(20)[: len(theta)]
            log.show(ranking, items.tolist())
            for n in np.flatnonzero(rng.random(len(theta)) < theta * gamma[items]).tolist():
                log.outcomes.append(Outcome(ranking, n + 1, "click"))
        logs.append(log)
    return logs


class TestAmongExamined:
    def test_displayed_items_are_weighed_and_others_left_out(self) -> None:
        against = Contrast(np.array([7, 3, 9, 5]), np.array([0.0, 1.0, 2.0, 3.0], np.float32), 3)
        found = among_examined(against, np.array([5, -1, 3]), np.array([1.0, 0.5, 0.25]))
        assert found.rows.tolist() == [3, 5]
        np.testing.assert_allclose(found.added, [1 + np.log(0.25), 3.0])
        assert found.rows[found.item] == 5

    def test_positions_beyond_the_last_are_as_the_last(self) -> None:
        against = Contrast(np.arange(4), np.zeros(4, np.float32), 0)
        found = among_examined(against, np.arange(4), np.array([1.0, 0.1]))
        np.testing.assert_allclose(found.added, np.log([1, 0.1, 0.1, 0.1]), rtol=1e-6)

    def test_a_position_that_nobody_sees_is_floored(self) -> None:
        theta = read_examination([1.0, 0.0])
        assert theta is not None
        assert theta.tolist() == [1.0, SMALLEST]


class TestLearning:
    def test_off_by_default(self, range_bundle: Path) -> None:
        assert Reranker.load(range_bundle).examination is None

    def test_everything_seen_is_learning_from_the_displayed_alone(self, range_bundle: Path) -> None:
        with_model = Reranker.load(range_bundle, examination=[1.0]).user()
        shown = with_model.rerank(ITEMS, 10)
        with_model.feedback(shown[3].item_id)
        plain = Reranker.load(range_bundle).user()
        again = plain.rerank([item.item_id for item in shown], 10)
        plain.feedback(again[3].item_id)
        vectors = [u._model.mixture.residuals[0].vector for u in (with_model, plain)]
        np.testing.assert_allclose(vectors[0], vectors[1], rtol=1e-4, atol=1e-6)  # sums in another order

    def test_what_is_hardly_seen_is_hardly_a_negative(self, range_bundle: Path) -> None:
        """A choice of the first place teaches next to nothing where nobody looks further; one of the last, a lot."""
        moved = {}
        for theta in ([1.0], [1.0, 0.001]):
            for place in (0, 9):
                user = Reranker.load(range_bundle, examination=theta).user()
                user.feedback(user.rerank(ITEMS, 10)[place].item_id)
                moved[len(theta), place] = float(np.abs(user._model.mixture.residuals[0].vector).sum())
        assert moved[2, 0] < 0.2 * moved[1, 0]
        assert moved[2, 9] > moved[2, 0]

    def test_an_item_that_was_not_displayed(self, range_bundle: Path) -> None:
        user = Reranker.load(range_bundle, examination=[1.0, 0.5]).user()
        shown = user.rerank(ITEMS, 5)
        elsewhere = next(i for i in ITEMS if i not in shown.item_ids())
        user.feedback(elsewhere)
        assert user._model.mixture.n_events == 1
        assert np.isfinite([item.score for item in user.rerank([*ITEMS, "new"], 51)][:50]).all()


class TestEstimate:
    @pytest.mark.parametrize("seed", [0, 1])
    def test_it_finds_the_model_again(self, seed: int) -> None:
        found = estimate_examination(simulated(10_000, seed), 5)
        # 10,000 impressions of each position: a standard error of about .01 at each, and as much for the items'
        np.testing.assert_allclose(found, THETA, atol=0.06)
        assert found[0] == 1

    def test_without_bias_it_finds_none(self) -> None:
        found = estimate_examination(simulated(10_000, 3, np.full(5, 0.8)), 5)
        np.testing.assert_allclose(found, 1.0, atol=0.06)

    def test_positions_that_no_list_reached(self) -> None:
        found = estimate_examination(simulated(1_000, 0), 8)
        assert found[5:].tolist() == [found[4]] * 3

    def test_what_a_users_log_gives_is_what_load_takes(self, range_bundle: Path) -> None:
        user = Reranker.load(range_bundle).user()
        for n in range(20):
            user.feedback(user.rerank(ITEMS, 5)[n % 2].item_id)
        theta = estimate_examination([user.log], 5)
        assert theta[:2].min() > theta[2:].max()
        assert Reranker.load(range_bundle, examination=theta.tolist()).examination is not None

    def test_nothing_to_estimate_from(self) -> None:
        with pytest.raises(InputError, match=r"^examination: no list was logged; rerank or recommend first$"):
            estimate_examination([ImpressionLog()])
        log = ImpressionLog()
        log.show(1, [3, 4])
        with pytest.raises(InputError, match=r"^examination: 2 places were logged and nothing was clicked"):
            estimate_examination([log])

    @pytest.mark.parametrize("given", [[], [1.2], [-0.1], [float("nan")], "high", [[1.0]], 3])
    def test_probabilities_that_are_none(self, range_bundle: Path, given: object) -> None:
        with pytest.raises(InputError, match=r"^examination: .* expected for each position, from the first"):
            Reranker.load(range_bundle, examination=given)  # type: ignore[arg-type]
