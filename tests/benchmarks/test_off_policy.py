"""Estimates of what a policy would have earned: against known truth, against the `obp` library, and where they must fail."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.benchmarks.off_policy import ESTIMATORS, Rounds, compare, estimate, item_model

N_ACTIONS = 8


def made_rounds(
    n: int, seed: int, *, model_error: float = 0.0, propensity_error: float = 1.0
) -> tuple[Rounds, float]:
    """Rounds of a synthetic log with contexts, and the truth: what the policy earns in expectation over rewards."""
    rng = np.random.default_rng(seed)
    context = rng.standard_normal((n, 3))
    rates = 1 / (1 + np.exp(-(context @ rng.standard_normal((3, N_ACTIONS)) - 1)))
    logging = _softmax(context @ rng.standard_normal((3, N_ACTIONS)) * 0.5)
    policy = _softmax(4 * rates)
    cumulative = logging.cumsum(axis=1)
    actions = np.minimum((rng.random((n, 1)) > cumulative).sum(axis=1), N_ACTIONS - 1)
    rows = np.arange(n)
    model = rates + model_error
    rounds = Rounds(
        reward=(rng.random(n) < rates[rows, actions]).astype(np.float64),
        propensity=np.minimum(logging[rows, actions] * propensity_error, 1.0),
        probability=policy[rows, actions],
        model_of_logged=model[rows, actions],
        model_of_policy=(policy * model).sum(axis=1),
    )
    return rounds, float((policy * rates).sum(axis=1).mean())


def _softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


class TestTruth:
    @pytest.mark.parametrize("estimator", ["ips", "snips", "dr"])
    def test_the_mean_over_many_logs_is_the_truth(self, estimator: str) -> None:
        """Unbiased, SNIPS up to order 1/n; with a model that is wrong by .2 everywhere."""
        errors = []
        for seed in range(200):
            rounds, truth = made_rounds(500, seed, model_error=0.2)
            errors.append(estimate(rounds, estimator, n_resamples=2).value - truth)
        standard_error = np.std(errors) / np.sqrt(len(errors))
        assert abs(np.mean(errors)) < 3 * standard_error + 1e-3

    def test_the_direct_method_is_as_wrong_as_its_model(self) -> None:
        rounds, truth = made_rounds(5000, 0, model_error=0.2)
        assert estimate(rounds, "dm", n_resamples=2).value == pytest.approx(truth + 0.2)

    def test_doubly_robust_needs_one_of_the_two(self) -> None:
        wrong_propensity, truth = made_rounds(20_000, 0, propensity_error=0.7)
        assert estimate(wrong_propensity, "dr").value == pytest.approx(truth, abs=0.02)
        assert estimate(wrong_propensity, "ips").value > truth * 1.3

    def test_intervals_cover(self) -> None:
        """95% nominal; the bootstrap of 300 rounds covers a little less."""
        covered = dict.fromkeys(("ips", "snips", "dr"), 0)
        for seed in range(100):
            rounds, truth = made_rounds(300, seed)
            for how in covered:
                interval = estimate(rounds, how, n_resamples=200, seed=seed)
                covered[how] += interval.low <= truth <= interval.high
        assert all(88 <= count <= 100 for count in covered.values()), covered

    def test_a_difference_is_sharper_than_its_parts(self) -> None:
        better, _ = made_rounds(2000, 1)
        weaker = Rounds(
            reward=better.reward,
            propensity=better.propensity,
            probability=0.9 * better.probability + 0.1 / N_ACTIONS,
            model_of_logged=better.model_of_logged,
            model_of_policy=better.model_of_policy,
        )
        difference = compare(better, weaker, "ips")
        alone = estimate(better, "ips")
        expected = alone.value - estimate(weaker, "ips").value
        assert difference.value == pytest.approx(expected)
        assert difference.high - difference.low < (alone.high - alone.low) / 2

    def test_the_logging_policy_earned_what_was_logged(self) -> None:
        rounds, _ = made_rounds(1000, 0)
        same = Rounds(
            rounds.reward,
            rounds.propensity,
            rounds.propensity,
            rounds.model_of_logged,
            rounds.model_of_policy,
        )
        for how in ("ips", "snips"):
            assert estimate(same, how).value == pytest.approx(rounds.reward.mean())
        assert same.effective_rounds() == pytest.approx(1000)


OBP = {
    "dm": 0.6333140631510926,
    "ips": 0.6346792039988041,
    "snips": 0.5958454693555288,
    "dr": 0.6065234031793671,
}
"""What obp 0.4.1 says of `made_rounds(1000, 7, model_error=0.1)`; the test below compares anew where it is installed."""


def test_the_values_of_obp() -> None:
    rounds, _ = made_rounds(1000, 7, model_error=0.1)
    for how in ESTIMATORS:
        assert estimate(rounds, how).value == pytest.approx(OBP[how], rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_obp_says_the_same(seed: int) -> None:
    """Its dependencies drag much along, so it is no dependency of ours: `pip install obp scikit-learn`, and this runs."""
    ope = pytest.importorskip("obp.ope", exc_type=ImportError)
    rounds, _ = made_rounds(1000, seed, model_error=0.1)
    n = len(rounds.reward)
    # obp wants whole matrices; what it reads of them is the logged action's column, and the mean over the policy.
    actions = np.zeros(n, np.int64)
    policy = np.stack([rounds.probability, 1 - rounds.probability], axis=1)[:, :, None]
    rest = (rounds.model_of_policy - rounds.probability * rounds.model_of_logged) / (1 - rounds.probability)
    model = np.stack([rounds.model_of_logged, rest], axis=1)[:, :, None]
    given = {
        "reward": rounds.reward,
        "action": actions,
        "position": np.zeros(n, np.int64),
        "pscore": rounds.propensity,
        "action_dist": policy,
        "estimated_rewards_by_reg_model": model,
    }
    theirs = {
        "dm": ope.DirectMethod(),
        "ips": ope.InverseProbabilityWeighting(),
        "snips": ope.SelfNormalizedInverseProbabilityWeighting(),
        "dr": ope.DoublyRobust(),
    }
    for how in ESTIMATORS:
        assert estimate(rounds, how).value == pytest.approx(
            theirs[how].estimate_policy_value(**given), rel=1e-9
        )


class TestItemModel:
    def test_no_round_is_in_its_own_model(self) -> None:
        """One click of an item nobody else shows: were it in its own model, that would see it."""
        actions, positions = np.zeros(50, np.int64), np.zeros(50, np.int64)
        actions[7] = 1
        clicks = np.zeros(50)
        clicks[7] = clicks[9] = 1.0
        model = item_model(actions, positions, clicks, 2, n_folds=5, strength=1.0)
        assert model[7, 1] < 0.1
        assert max(model[:7, 1].max(), model[8:, 1].max()) > 0.3

    def test_it_finds_the_rates(self) -> None:
        rng = np.random.default_rng(0)
        actions, positions = rng.integers(0, 3, 30_000), rng.integers(0, 2, 30_000)
        truth = np.array([[0.1, 0.2, 0.4], [0.05, 0.1, 0.2]])
        clicks = (rng.random(30_000) < truth[positions, actions]).astype(np.float64)
        model = item_model(actions, positions, clicks, 3)
        np.testing.assert_allclose(model, truth[positions], rtol=0.15)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("column", "value"),
        [("propensity", 0.0), ("probability", 1.5), ("reward", np.nan), ("propensity", 2.0)],
    )
    def test_numbers(self, column: str, value: float) -> None:
        rounds, _ = made_rounds(5, 0)
        columns = {name: getattr(rounds, name).copy() for name in rounds.__dataclass_fields__}
        columns[column][2] = value
        with pytest.raises(ValueError, match="rounds: a"):
            Rounds(**columns)

    def test_shapes(self) -> None:
        with pytest.raises(ValueError, match="expected"):
            Rounds(np.ones(2), np.ones(2), np.ones(3), np.ones(2), np.ones(2))
        with pytest.raises(ValueError, match="expected"):
            Rounds(*[np.ones(0)] * 5)

    def test_an_unknown_estimator(self) -> None:
        with pytest.raises(ValueError, match="expected one of dm, ips, snips, dr"):
            estimate(made_rounds(5, 0)[0], "magic")


def test_no_overlap_at_all() -> None:
    """The policy never does what was logged: SNIPS has nothing to say, and says so."""
    rounds = Rounds(np.ones(4), np.full(4, 0.5), np.zeros(4), np.ones(4), np.ones(4))
    assert np.isnan(estimate(rounds, "snips").value)
    assert estimate(rounds, "ips").value == 0
    assert rounds.effective_rounds() == 0
