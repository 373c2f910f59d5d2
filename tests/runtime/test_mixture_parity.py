"""The mixture as it runs, beside its equations written out: one user's sessions give the same scores by both.

`Plain` is `mixture`, `recency`, `residual_user` and `choice_step` as their docstrings say it, in float64, space by space and
expert by expert; the runtime has the spaces side by side, float32, and reuses what it has. Scores are logits of size 1 to 10:
a float32 sum of some hundred products is good to 1e-5 of that, and the users' vectors carry it over forty events.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pocketrec.runtime import Reranker
from pocketrec.runtime.adaptation import freshness
from pocketrec.runtime.choice_step import choice_odds, kalman_step, softmax
from pocketrec.runtime.item_spaces import UNPACKED_BYTES
from pocketrec.runtime.mixture import WEIGHT_PRIOR
from pocketrec.runtime.recency import RECENT

N_ITEMS = 50
SOURCE = "catalogue"
TOLERANCE = 2e-4


class Plain:
    """One user of a bundle with a prior. The gate, which has tests of its own, stays open."""

    def __init__(self, ranker: Reranker) -> None:
        assert ranker.prior is not None
        self.engine, self.prior, self.spaces = ranker.engine, ranker.prior, list(ranker.spaces)
        self.items = [space.table.lookup(np.arange(N_ITEMS)).astype(float) for space in self.spaces]
        self.history: list[int] = []
        self.n_events = 0
        self.user = [np.zeros(space.width) for space in self.spaces]
        self.squares = [np.ones(space.width) for space in self.spaces]
        self.delta = np.zeros(len(self.prior.experts))
        self.information = np.linalg.inv(self.prior.first_covariance(WEIGHT_PRIOR))

    def features(self, history: list[int], user: list[np.ndarray]) -> np.ndarray:
        """Z of the whole catalogue, float64 (N, K)."""
        columns = []
        for n, (space, items) in enumerate(zip(self.spaces, self.items, strict=True)):
            if n == 0:
                encoded = self.engine.encode(np.array([history[-self.engine.max_length :]]))[0]
                columns += [items @ encoded, items @ self.engine.prior()]
            chosen = (items[history[-RECENT:]] - space.center) / space.radius
            fast = slow = np.zeros(space.width)
            for item in chosen:
                fast, slow = 0.3 * fast + 0.7 * item, 0.9 * slow + 0.1 * item
            means = (fast, slow, chosen[-3:].mean(axis=0))
            columns += [items @ mean / space.radius for mean in means]
            columns.append(items @ user[n] / space.radius)
        return np.stack(columns, axis=1)

    def weights(self, n_history: int) -> np.ndarray:
        return self.prior.weights_at(SOURCE, freshness(self.n_events, min(n_history, RECENT))) + self.delta

    def moment(self) -> tuple[np.ndarray, int]:
        """What a list is ranked with, for what is learned from it later."""
        return self.features(self.history, self.user), len(self.history)

    def scores(self) -> np.ndarray:
        features, n_history = self.moment()
        return features @ self.weights(n_history)

    def learn(self, moment: tuple[np.ndarray, int], rows: np.ndarray, row: int, weight: float) -> None:
        features, item = moment[0][rows], int(np.flatnonzero(rows == row)[0])
        q = softmax(features @ self.weights(moment[1]))
        if weight > 0:
            surprise = features[item] - q @ features
            self.information = self.information + weight * np.outer(surprise, surprise)
            self.delta = self.delta + weight * np.linalg.solve(self.information, surprise)
        for n, (space, items) in enumerate(zip(self.spaces, self.items, strict=True)):
            step = weight if weight > 0 else -q[item] / (1 - q[item])
            gradient = step * (items[row] - q @ items[rows]) / space.radius
            self.squares[n] = self.squares[n] + gradient**2
            self.user[n] = 0.99 * self.user[n] + gradient / np.sqrt(self.squares[n])
        self.n_events += 1


@pytest.fixture(params=[UNPACKED_BYTES, 0], ids=["unpacked", "packed"])
def ranker(range_bundle: Path, request: pytest.FixtureRequest) -> Reranker:
    return Reranker.load(range_bundle.with_name("tiny-taste.pocket"), unpacked_bytes=request.param)


@pytest.mark.parametrize("seed", range(3))
def test_a_session_gives_the_scores_of_the_equations(ranker: Reranker, seed: int) -> None:
    rng = np.random.default_rng(seed)
    user, plain = ranker.user(), Plain(ranker)
    user.observe(3, 9, 27)
    plain.history += [2, 8, 26]
    weight_of = {"click": 1.0, "purchase": 2.0, "share": 1.5, "dismiss": 0.0}
    dismissed: set[int] = set()
    lists: list[tuple[int, np.ndarray, tuple[np.ndarray, int]]] = []
    for event in range(40):
        rows = rng.permutation(N_ITEMS)[:30]
        ranking = user.rerank((rows + 1).tolist(), k=30)
        found = {item.item_id - 1: item.score for item in ranking}  # type: ignore[operator]
        if plain.n_events:
            expected = plain.scores()
            for row in set(rows.tolist()) - dismissed:
                assert found[row] == pytest.approx(expected[row], abs=TOLERANCE)
        lists.append((ranking.id, rows, plain.moment()))
        number, rows, moment = lists[-1 - int(rng.integers(min(3, len(lists))))]  # perhaps an older list
        row = int(rng.choice(rows))
        kind = str(rng.choice(["click", "click", "purchase", "share", "dismiss"]))
        user.feedback(row + 1, kind=kind, ranking=number)  # type: ignore[arg-type]
        plain.learn(moment, rows, row, weight_of[kind])
        dismissed.discard(row)
        if kind == "dismiss":
            dismissed.add(row)
        elif kind == "click" or row not in plain.history[-8:]:  # what belongs to a visit does not join twice
            plain.history.append(row)
        if event % 7 == 0:
            user.observe(event + 1)
            plain.history.append(event)
    assert not user._model.mixture.gate_is_closed
    learned = user.state.learned
    for n in range(2):
        np.testing.assert_allclose(learned[f"user_vector_{n}"], plain.user[n], atol=TOLERANCE)
    np.testing.assert_allclose(learned["weights_delta"], plain.delta, atol=TOLERANCE)


def test_packed_and_unpacked_items_are_learned_alike(range_bundle: Path) -> None:
    path = range_bundle.with_name("tiny-taste.pocket")
    users = [Reranker.load(path, unpacked_bytes=size).user() for size in (UNPACKED_BYTES, 0)]
    for n in range(30):
        for user in users:
            user.rerank(range(1, 51))
            user.feedback(n + 1, clicked=n % 5 != 0)
    vectors = [user.state.learned["user_vector_1"] for user in users]
    np.testing.assert_allclose(*vectors, atol=1e-5)


class TestOdds:
    @pytest.mark.parametrize("count", [40, 700])
    @pytest.mark.parametrize("scale", [1.0, 30.0, 500.0])
    def test_they_are_those_of_the_softmax(self, scale: float, count: int) -> None:
        """Also where the chosen item is so far below the largest that its odds would not fit float32."""
        logits = scale * np.random.default_rng(0).standard_normal((2, count)).astype(np.float32)
        given = logits.copy()
        for item in (int(logits[0].argmin()), int(logits[0].argmax()), 5):
            q, logs = choice_odds(logits, item)
            np.testing.assert_array_equal(logits, given)
            np.testing.assert_allclose(q, softmax(logits[0].astype(float)), atol=1e-5)
            for row, log in zip(logits.astype(float), logs, strict=True):
                expected = row[item] - row.max() - np.log(np.exp(row - row.max()).sum())
                assert log == pytest.approx(expected, rel=1e-4, abs=1e-5)

    @pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
    @pytest.mark.parametrize("odd", [np.nan, np.inf])
    def test_numbers_that_are_none(self, odd: float) -> None:
        logits = np.zeros((2, 5), np.float32)
        logits[0, 3] = odd
        assert not np.isfinite(choice_odds(logits, 1)[1][0])


class TestKalmanStep:
    def test_the_covariance_stays_the_inverse_of_the_information(self) -> None:
        rng = np.random.default_rng(0)
        delta, covariance, information = np.zeros(4), np.eye(4) / 300, 300 * np.eye(4)
        for surprise in rng.standard_normal((200, 4)):
            weight = float(rng.uniform(0.2, 2.0))
            information += weight * np.outer(surprise, surprise)
            expected = delta + weight * np.linalg.solve(information, surprise)
            delta, covariance = kalman_step(delta, covariance, surprise, weight)
            np.testing.assert_allclose(delta, expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(covariance @ information, np.eye(4), atol=1e-9)

    def test_it_stays_a_covariance_however_much_was_seen(self) -> None:
        """Ten thousand events of weight 100: rounding must not make a variance negative where nothing is left to learn."""
        directions = np.array([[1.0, 1.0, 0.0], [1.0, 1.0 + 1e-6, 0.0]])
        delta, covariance = np.zeros(3), np.eye(3) / 300
        for n in range(10_000):
            delta, covariance = kalman_step(delta, covariance, directions[n % 2], 100.0)
        assert np.linalg.eigvalsh(covariance).min() > 0
        assert np.isfinite(delta).all()

    @pytest.mark.parametrize("surprise", [np.inf, np.nan, 1e200])
    def test_a_step_that_is_not_finite_is_not_made(self, surprise: float) -> None:
        delta, covariance = np.zeros(2), np.eye(2)
        with np.errstate(over="ignore", invalid="ignore"):
            after = kalman_step(delta, covariance, np.array([surprise, 0.0]))
        assert after[0] is delta
        assert after[1] is covariance
