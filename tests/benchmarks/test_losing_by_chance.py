"""Who seems to lose by noise, and who does: answers known by how the users were made."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.benchmarks.losing_by_chance import losing_by_chance

BASELINE, TOLERANCE = 0.25, 0.02


def users(rng: np.random.Generator, gains: np.ndarray, n_events: int) -> list[np.ndarray]:
    return [gain + 0.3 * rng.standard_normal(n_events) for gain in gains]


def observed(differences: list[np.ndarray]) -> float:
    return float(np.mean([of_user.mean() < -TOLERANCE * BASELINE for of_user in differences]))


@pytest.mark.parametrize("n_events", [5, 40])
def test_where_all_gain_alike_the_losers_are_noise(n_events: int) -> None:
    differences = users(np.random.default_rng(1), np.full(1000, 0.03), n_events)
    found = losing_by_chance(differences, np.full(1000, BASELINE), tolerance=TOLERANCE)
    assert observed(differences) > 0.15
    assert found.if_all_gained_alike == pytest.approx(observed(differences), abs=0.04)
    assert found.beyond_noise < 0.1


def test_losers_that_are_there_are_found() -> None:
    rng = np.random.default_rng(2)
    gains = rng.normal(0.03, 0.08, 1000)
    differences = users(rng, gains, 30)
    found = losing_by_chance(differences, np.full(1000, BASELINE), tolerance=TOLERANCE)
    truly = float(np.mean(gains < -TOLERANCE * BASELINE))
    assert found.beyond_noise == pytest.approx(truly, abs=0.04)
    assert found.if_all_gained_alike < observed(differences) - 0.05


def test_no_noise_is_no_loser() -> None:
    found = losing_by_chance([np.full(3, 0.1)] * 5, np.full(5, BASELINE), tolerance=TOLERANCE)
    assert found == (0.0, 0.0)


def test_one_event_each_and_nothing_to_rank() -> None:
    """Nothing is known of the noise: no figure is made up, and none is NaN."""
    found = losing_by_chance([np.zeros(1)] * 4, np.zeros(4), tolerance=TOLERANCE)
    assert found == (0.0, 0.0)


def test_the_same_seed_gives_the_same_figures() -> None:
    differences = users(np.random.default_rng(3), np.full(50, 0.03), 4)
    first, second = (
        losing_by_chance(differences, np.full(50, BASELINE), tolerance=TOLERANCE, seed=7) for _ in range(2)
    )
    assert first == second
