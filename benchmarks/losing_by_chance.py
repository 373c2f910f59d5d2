"""How many users seem to lose where nobody does: of few events each, NDCG@10 says little of one user.

For user u with events e and differences d_ue of NDCG@10 (adaptive less a baseline's, whose mean is b_u), who loses where
mean_e d_ue < -t b_u. Two figures beside the share that is counted:

    if_all_gained_alike   everyone's expected gain is g b_u, g = sum_u mean d_u / sum_u b_u. Each user's deviations from their own
                          mean are drawn again with replacement (stretched by sqrt(n / (n - 1)); of a user with one event, from
                          everybody's), and those counted who lose then: the noise alone.
    beyond_noise          expected gains are normal with mean mu and variance tau^2, observed with variance s^2 / n_u, s^2 pooled within
                          users (random effects by moments: DerSimonian and Laird 1986, Controlled Clinical Trials 7(3));
                          the mean over users of the probability that the expected gain lies below -t b_u.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
DRAWS = 200
"""Of all users' events; the share's own error is then below a tenth of a percent."""


class Losing(NamedTuple):
    """Shares of users."""

    if_all_gained_alike: float
    beyond_noise: float


def losing_by_chance(
    differences: Sequence[Doubles], baseline: Doubles, *, tolerance: float, seed: int = 0
) -> Losing:
    """The two figures of the module's docstring.

    Args:
        differences: d, float64 (events,) of each user, at least one event each.
        baseline: b, float64 (U,).
        tolerance: t.

    >>> rng = np.random.default_rng(0)
    >>> same = [0.05 + 0.3 * rng.standard_normal(20) for _ in range(300)]  # everyone gains .05
    >>> observed = np.mean([d.mean() < -0.005 for d in same])
    >>> found = losing_by_chance(same, np.full(300, 0.25), tolerance=0.02)
    >>> bool(abs(found.if_all_gained_alike - observed) < 0.04), found.beyond_noise < 0.03
    (True, True)
    """
    counts = np.array([len(of_user) for of_user in differences])
    means = np.array([of_user.mean() for of_user in differences])
    deviations = [of_user - of_user.mean() for of_user in differences]
    return Losing(
        _if_all_gained_alike(deviations, means, baseline, tolerance, np.random.default_rng(seed)),
        _beyond_noise(deviations, counts, means, baseline, tolerance),
    )


def _if_all_gained_alike(
    deviations: list[Doubles], means: Doubles, baseline: Doubles, tolerance: float, rng: np.random.Generator
) -> float:
    gain = float(means.sum() / max(baseline.sum(), 1e-12))
    pooled = np.concatenate([of_user for of_user in deviations if len(of_user) > 1] or [np.zeros(1)])
    noise = np.empty((len(means), DRAWS))
    for n, of_user in enumerate(deviations):
        events = len(of_user)
        drawn = rng.choice(of_user if events > 1 else pooled, (DRAWS, events))
        noise[n] = drawn.mean(axis=1) * math.sqrt(events / max(events - 1, 1))
    return float(np.mean(gain * baseline[:, None] + noise < -tolerance * baseline[:, None] - 1e-12))


def _beyond_noise(
    deviations: list[Doubles],
    counts: NDArray[np.int64],
    means: Doubles,
    baseline: Doubles,
    tolerance: float,
) -> float:
    within = sum(float(of_user @ of_user) for of_user in deviations) / max(int((counts - 1).sum()), 1)
    precision = counts / max(within, 1e-12)
    mean = float(precision @ means / precision.sum())
    spread = float(precision @ np.square(means - mean)) - (len(means) - 1)
    variance = max(spread / max(precision.sum() - np.square(precision).sum() / precision.sum(), 1e-12), 0.0)
    if variance == 0.0:
        return float(np.mean(mean < -tolerance * baseline - 1e-12))
    below = (-tolerance * baseline - mean) / math.sqrt(2.0 * variance)
    return float(np.mean([0.5 * math.erfc(-value) for value in below.tolist()]))
