"""Policies do what their propensities say: counted, and with an estimate from them that must come out right."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.runtime import InputError
from pocketrec.runtime.exploration import make_policy
from pocketrec.runtime.rank_options import Explore
from pocketrec.runtime.slate import fill_slate

LOGITS = np.array([2.0, 1.5, 0.0, -1.0, -1.5, 1.0])
C = len(LOGITS)
STEPS = np.zeros(C, np.int64)
FEATURES = np.random.default_rng(3).standard_normal((C, 4)) * 0.8


def lists(explore: Explore, k: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """n lists and their propensities, int64 and float64 (n, k)."""
    slates = [fill_slate(LOGITS, STEPS, k, make_policy(explore, FEATURES, number)) for number in range(n)]
    return np.array([s.order for s in slates]), np.array([s.propensities for s in slates])


RANDOM = [Explore(policy="epsilon", strength=0.3), Explore(policy="softmax", strength=0.7)]


@pytest.mark.parametrize("explore", RANDOM, ids=lambda explore: explore.policy)
class TestExactPropensities:
    def test_a_first_place_is_taken_as_often_as_it_says(self, explore: Explore) -> None:
        n = 4000
        orders, propensities = lists(explore, 1, n)
        stated = {int(item): float(p) for item, p in zip(orders[:, 0], propensities[:, 0], strict=True)}
        assert sum(stated.values()) == pytest.approx(1.0, abs=1e-9)  # every candidate was seen
        for item, p in stated.items():
            # 5 standard errors of a share of n draws
            assert abs((orders[:, 0] == item).mean() - p) < 5 * np.sqrt(p * (1 - p) / n)

    def test_later_places_are_conditional(self, explore: Explore) -> None:
        orders, propensities = lists(explore, 3, 4000)
        first = orders[:, 0] == 0
        stated = {int(i): float(p) for i, p in zip(orders[first, 1], propensities[first, 1], strict=True)}
        assert 0 not in stated
        assert sum(stated.values()) == pytest.approx(1.0, abs=1e-9)
        n = int(first.sum())
        for item, p in stated.items():
            assert abs((orders[first, 1] == item).mean() - p) < 5 * np.sqrt(p * (1 - p) / n)

    def test_inverse_propensities_tell_the_value_of_another_policy(self, explore: Explore) -> None:
        """Clicks of known rates; the greedy policy's value is estimated from what exploration logged (Horvitz, Thompson)."""
        rates = np.array([0.2, 0.6, 0.1, 0.5, 0.3, 0.4])
        orders, propensities = lists(explore, 1, 6000)
        clicks = np.random.default_rng(0).random(len(orders)) < rates[orders[:, 0]]
        weights = (orders[:, 0] == LOGITS.argmax()) / propensities[:, 0]
        error = (clicks * weights).std() / np.sqrt(len(orders))
        assert abs((clicks * weights).mean() - rates[LOGITS.argmax()]) < 4 * error

    def test_a_list_has_no_item_twice(self, explore: Explore) -> None:
        orders, _ = lists(explore, C, 50)
        assert (np.sort(orders, axis=1) == np.arange(C)).all()


class TestPolicies:
    def test_softmax_is_the_one_of_the_logits(self) -> None:
        orders, propensities = lists(Explore(policy="softmax", strength=1.0), 1, 300)
        expected = np.exp(LOGITS) / np.exp(LOGITS).sum()
        np.testing.assert_allclose(propensities[:, 0], expected[orders[:, 0]], rtol=1e-12)

    def test_linucb_prefers_what_is_uncertain(self) -> None:
        deviations = np.sqrt((FEATURES**2).sum(axis=1))
        for alpha in (0.0, 0.5, 3.0):
            order, propensities = lists(Explore(policy="linucb", strength=alpha), C, 1)
            assert order[0].tolist() == np.argsort(-(LOGITS + alpha * deviations)).tolist()
            assert (propensities == 1).all()

    def test_thompson_has_the_propensities_of_its_posterior(self) -> None:
        orders, propensities = lists(Explore(policy="thompson", strength=1.0), 1, 2000)
        for item in (0, 1, 5):
            share = (orders[:, 0] == item).mean()
            stated = propensities[orders[:, 0] == item, 0]
            # each is an estimate from 64 draws; their mean over many lists is unbiased up to the one that is added
            assert abs(stated.mean() - share) < 0.05
        assert (propensities > 0).all()

    @pytest.mark.parametrize("policy", ["epsilon", "thompson", "linucb"])
    def test_with_strength_0_it_is_the_ranking(self, policy: str) -> None:
        orders, propensities = lists(Explore(policy=policy, strength=0.0), C, 5)  # type: ignore[arg-type]
        assert (orders == np.argsort(-LOGITS)).all()
        np.testing.assert_allclose(propensities, 1.0)

    @pytest.mark.parametrize("policy", ["epsilon", "softmax", "thompson"])
    def test_a_seed_and_a_number_say_it_all(self, policy: str) -> None:
        explore = Explore(policy=policy, strength=0.9, seed=4)  # type: ignore[arg-type]
        same, again = lists(explore, 4, 20), lists(explore, 4, 20)
        assert (same[0] == again[0]).all()
        assert (same[1] == again[1]).all()
        other, _ = lists(Explore(policy=policy, strength=0.9, seed=5), 4, 20)  # type: ignore[arg-type]
        assert (same[0] != other).any()
        assert len({tuple(order) for order in same[0].tolist()}) > 1  # rankings differ among each other

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"policy": "ucb"}, r"policy 'ucb', expected one of epsilon, softmax, linucb, thompson"),
            ({"strength": 1.5}, r"strength 1.5 for epsilon, expected a number from 0 to 1"),
            ({"strength": float("nan")}, r"strength nan for epsilon"),
            ({"policy": "softmax", "strength": 0}, r"strength 0 for softmax, expected a number above 0"),
            (
                {"policy": "thompson", "strength": -1},
                r"strength -1 for thompson, expected a number of at least 0",
            ),
            ({"seed": -1}, r"seed -1, expected an integer of at least 0"),
        ],
    )
    def test_what_it_refuses(self, changes: dict[str, object], text: str) -> None:
        with pytest.raises(InputError, match=text):
            Explore(**{"policy": "epsilon", "strength": 0.1, **changes})  # type: ignore[arg-type]
