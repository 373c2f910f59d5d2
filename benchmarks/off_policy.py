"""What a policy would have earned, told from the log of another one.

A log has, for each of n rounds, the action a that the logging policy drew with probability p (the propensity), and the
reward r. The policy to be evaluated would have drawn a with probability pi, from what it knew before that round. With
w = pi / p, a model q of the reward, and V = the mean reward of the policy:

    DM      mean of sum_b pi_b q_b                          no better than q, and neither is its interval
    IPS     mean of w r                                     unbiased; Horvitz and Thompson 1952, JASA 47
    SNIPS   sum of w r / sum of w                           bounded by the rewards, bias of order 1/n; Swaminathan and
                                                            Joachims 2015, NeurIPS
    DR      mean of sum_b pi_b q_b + w (r - q_a)            unbiased if p is right, or q; Dudik et al. 2011, ICML

All need p > 0 wherever pi > 0. Intervals are percentile bootstraps over rounds, conditional on the policy: where it
learned from earlier rounds of the same log, what it would have learned from others is not in them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .ranking_metrics import Interval

Floats = NDArray[np.float64]

ESTIMATORS = ("dm", "ips", "snips", "dr")


@dataclass(frozen=True, slots=True, eq=False)
class Rounds:
    """What the estimators need of a log and a policy, float64 (n,) each."""

    reward: Floats
    propensity: Floats
    """Of the logged action, under the policy that logged it."""
    probability: Floats
    """Of the logged action, under the policy to be evaluated."""
    model_of_logged: Floats
    """q of the logged action; made without this round's reward."""
    model_of_policy: Floats
    """The sum over actions of the policy's probability and q."""

    def __post_init__(self) -> None:
        columns = (
            self.reward,
            self.propensity,
            self.probability,
            self.model_of_logged,
            self.model_of_policy,
        )
        if len({column.shape for column in columns}) != 1 or self.reward.ndim != 1 or not len(self.reward):
            raise ValueError(f"rounds: shapes {[column.shape for column in columns]}, expected (n,) of each")
        if not all(np.isfinite(column).all() for column in columns) or not (self.propensity > 0).all():
            raise ValueError("rounds: a number that is not finite, or a propensity of 0 for what was drawn")
        if ((self.probability < 0) | (self.probability > 1) | (self.propensity > 1)).any():
            raise ValueError("rounds: a probability outside 0 to 1")

    @property
    def weights(self) -> Floats:
        """w."""
        return self.probability / self.propensity

    def effective_rounds(self) -> float:
        """(sum w)^2 / sum w^2: how many rounds of the policy's own the log is worth (Kish 1965)."""
        weights = self.weights
        return float(weights.sum() ** 2 / max((weights**2).sum(), 1e-300))


def terms(rounds: Rounds, estimator: str) -> tuple[Floats, Floats]:
    """Numerators and denominators, float64 (n,): the estimate is the ratio of their means.

    Raises:
        ValueError: none of `ESTIMATORS`.
    """
    weights, ones = rounds.weights, np.ones(len(rounds.reward))
    match estimator:
        case "dm":
            return rounds.model_of_policy, ones
        case "ips":
            return weights * rounds.reward, ones
        case "snips":
            return weights * rounds.reward, weights
        case "dr":
            return rounds.model_of_policy + weights * (rounds.reward - rounds.model_of_logged), ones
        case _:
            raise ValueError(f"estimator {estimator!r}, expected one of {', '.join(ESTIMATORS)}")


def estimate(
    rounds: Rounds, estimator: str, *, n_resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """The policy's mean reward.

    >>> even = np.full(4, 0.5)
    >>> rounds = Rounds(np.array([1.0, 0, 0, 1]), even, np.array([1.0, 0, 0, 1]), even, even)
    >>> estimate(rounds, "ips").value, estimate(rounds, "snips").value
    (1.0, 1.0)
    """
    above, below = terms(rounds, estimator)
    means = _resampled(np.stack([above, below], axis=1), n_resamples, seed)
    return _interval(_ratio(above.mean(), below.mean()), _ratio(means[:, 0], means[:, 1]), confidence)


def compare(
    rounds: Rounds,
    reference: Rounds,
    estimator: str,
    *,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """By how much the policy's mean reward exceeds that of a reference on the same log."""
    columns = np.stack([*terms(rounds, estimator), *terms(reference, estimator)], axis=1)
    means = _resampled(columns, n_resamples, seed)
    value = columns.mean(axis=0)
    return _interval(
        _ratio(value[0], value[1]) - _ratio(value[2], value[3]),
        _ratio(means[:, 0], means[:, 1]) - _ratio(means[:, 2], means[:, 3]),
        confidence,
    )


def item_model(
    actions: NDArray[np.int64],
    positions: NDArray[np.int64],
    reward: Floats,
    n_actions: int,
    *,
    n_folds: int = 5,
    strength: float = 200.0,
    seed: int = 0,
) -> Floats:
    """q, float64 (n, A): the reward of each action at each round's position, learned from the other folds' rounds alone.

    The mean reward of the position times that of the action relative to the mean of all, both shrunk towards the mean of all
    as if `strength` rounds of it had been seen.
    """
    fold = np.random.default_rng(seed).permutation(np.arange(len(reward)) % n_folds)
    model = np.empty((len(reward), n_actions))
    for n in range(n_folds):
        train, held = fold != n, fold == n
        overall = max(float(reward[train].mean()), 1e-12)
        by_action = _shrunk(actions[train], reward[train], n_actions, overall, strength)
        by_position = _shrunk(positions[train], reward[train], int(positions.max()) + 1, overall, strength)
        model[held] = by_position[positions[held]][:, None] * by_action[None] / overall
    return model


def _shrunk(
    groups: NDArray[np.int64], reward: Floats, n_groups: int, overall: float, strength: float
) -> Floats:
    total = np.bincount(groups, reward, n_groups) + strength * overall
    return total / (np.bincount(groups, minlength=n_groups) + strength)


def _ratio(above: Floats | np.floating, below: Floats | np.floating) -> Floats:
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0)


def _resampled(columns: Floats, n_resamples: int, seed: int) -> Floats:
    """Means of columns (n, C) over rounds drawn with replacement: (R, C)."""
    rng, n = np.random.default_rng(seed), len(columns)
    means = np.empty((n_resamples, columns.shape[1]))
    for resample in range(n_resamples):
        means[resample] = np.bincount(rng.integers(0, n, n), minlength=n) @ columns / n
    return means


def _interval(value: Floats, resampled: Floats, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    finite = resampled[np.isfinite(resampled)]
    low, high = np.quantile(finite, [tail, 1 - tail]) if len(finite) else (np.nan, np.nan)
    return Interval(float(value), float(low), float(high))
