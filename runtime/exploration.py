"""Exploration: which candidate takes the next place, and with what probability it was taken.

    epsilon    with probability epsilon any eligible candidate, each alike; else the best
    softmax    a draw from the softmax of the utilities at a temperature (Gumbel; places one after the other make it a draw
               of Plackett and Luce, Kool et al. 2019, arXiv:1903.06059)
    linucb     the best of r + alpha s: nothing is drawn              Li et al. 2010 (WWW)
    thompson   the best of r + v s . draw, another draw a place       Agrawal and Goyal 2013 (ICML), diagonal posterior

r are the logits and s_i the deviation of candidate i's logit under the posterior of the learned user vectors, whose
diagonal is 1 / G: G is one plus the sum of squared gradients (`residual_user`), the empirical Fisher information.

The propensity of a place is the probability that the policy would have put this item there, given the places before it.
A list's own is their product. Of epsilon and softmax it is exact; of thompson it is the share of `DRAWS` other draws that
would have chosen the same, counted from one, so that it is never 0; linucb is deterministic: 1, from which nothing can
be estimated of what it did not show.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .choice_step import softmax
from .errors import InputError
from .rank_options import Explore

Floats = NDArray[np.float64]
DRAWS = 64


class Policy(Protocol):
    """How places are filled."""

    def choose(self, utilities: Floats, eligible: NDArray[np.int64], place: int) -> tuple[int, float]:
        """Which candidate takes a place, and its propensity; `utilities`: float64 (C,), `eligible`: some of 0..C-1."""
        ...


def best(utilities: Floats, eligible: NDArray[np.int64]) -> int:
    """The eligible one of the largest utility, the earliest where they tie."""
    return int(eligible[utilities[eligible].argmax()])


class Greedy:
    """The best; `bonus` float64 (C,) is added to the utilities."""

    def __init__(self, bonus: Floats | None = None) -> None:
        self._bonus = bonus

    def choose(self, utilities: Floats, eligible: NDArray[np.int64], place: int) -> tuple[int, float]:
        return best(utilities if self._bonus is None else utilities + self._bonus, eligible), 1.0


class EpsilonGreedy:
    """Now and then any one."""

    def __init__(self, epsilon: float, rng: np.random.Generator) -> None:
        self._epsilon = epsilon
        self._rng = rng

    def choose(self, utilities: Floats, eligible: NDArray[np.int64], place: int) -> tuple[int, float]:
        greedy = best(utilities, eligible)
        explores, drawn = self._rng.random(
            2
        )  # both always: a place takes the same numbers whatever comes out
        chosen = int(eligible[int(drawn * len(eligible))]) if explores < self._epsilon else greedy
        return chosen, self._epsilon / len(eligible) + (1 - self._epsilon) * (chosen == greedy)


class Softmax:
    """A draw from softmax(utilities / temperature)."""

    def __init__(self, temperature: float, rng: np.random.Generator) -> None:
        self._temperature = temperature
        self._rng = rng

    def choose(self, utilities: Floats, eligible: NDArray[np.int64], place: int) -> tuple[int, float]:
        logits = utilities[eligible] / self._temperature
        chosen = int((logits + self._rng.gumbel(size=len(logits))).argmax())
        return int(eligible[chosen]), float(softmax(logits)[chosen])


class Thompson:
    """The best under a draw of the user vector.

    Args:
        features: float64 (C, D): a candidate's logit has the deviation of their length.
        scale: v.
    """

    def __init__(self, features: Floats, scale: float, rng: np.random.Generator) -> None:
        self._features = features
        self._rng = rng
        self._scale = scale
        draws = rng.standard_normal((features.shape[1], DRAWS)).astype(np.float32) * np.float32(scale)
        self._others = features.astype(np.float32) @ draws  # (C, DRAWS)

    def choose(self, utilities: Floats, eligible: NDArray[np.int64], place: int) -> tuple[int, float]:
        draw = self._features @ self._rng.standard_normal(self._features.shape[1]) * self._scale
        chosen = best(utilities + draw, eligible)
        usual = utilities[eligible].astype(np.float32)
        others = eligible[(usual[:, None] + self._others[eligible]).argmax(axis=0)]
        return chosen, (1 + int((others == chosen).sum())) / (1 + DRAWS)


def make_policy(explore: Explore | None, features: Floats | None, ranking: int) -> Policy:
    """The policy of one ranking.

    Args:
        features: float64 (C, D), see `Thompson`; for linucb and thompson.
        ranking: its number: another one explores otherwise.
    """
    if explore is None:
        return Greedy()
    rng = np.random.default_rng((explore.seed, ranking))
    match explore.policy:
        case "epsilon":
            return EpsilonGreedy(explore.strength, rng)
        case "softmax":
            return Softmax(explore.strength, rng)
        case "linucb" if features is not None:
            return Greedy(explore.strength * np.sqrt((features * features).sum(axis=1)))
        case "thompson" if features is not None:
            return Thompson(features, explore.strength, rng)
        case _:
            raise InputError(f"explore: policy {explore.policy!r} needs a user that can learn")
