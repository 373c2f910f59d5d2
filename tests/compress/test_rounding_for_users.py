"""Rounding that keeps scores: by construction better for the users it was made for, and a table like any other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pocketrec.compress.rounding_for_users import round_for_users, user_moments
from pocketrec.runtime.item_table import QuantizedRows, largest_level, quantize_rows

from .models.families import MAX_LENGTH, N_ITEMS, WIDTH, lively

RANDOM = np.random.default_rng(0)
TABLE = RANDOM.standard_normal((60, 24)).astype(np.float32)
USERS = RANDOM.standard_normal((500, 24)) @ RANDOM.standard_normal((24, 24)) + 2.0
MOMENTS = USERS.T @ USERS / len(USERS)


def score_error(made: QuantizedRows, table: np.ndarray = TABLE) -> float:
    error = made.lookup(np.arange(len(table))) - table
    return float(np.einsum("nd,de,ne->", error, MOMENTS, error))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_scores_are_kept_better_than_by_the_nearest_levels(bits: int) -> None:
    nearest, ours = quantize_rows(TABLE, bits), round_for_users(TABLE, bits, MOMENTS, damping=0.01)
    assert score_error(ours) < 0.7 * score_error(nearest)  # .62 in 2 bits, where most values are clipped
    assert np.array_equal(ours.scales, nearest.scales)
    assert (ours.bits, ours.width, ours.scale_unit) == (nearest.bits, nearest.width, nearest.scale_unit)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_rows_stay_close(bits: int) -> None:
    """No value is further from its own than clipping and the errors passed on to it explain."""
    ours = round_for_users(TABLE, bits, MOMENTS).lookup(np.arange(len(TABLE)))
    nearest = quantize_rows(TABLE, bits).lookup(np.arange(len(TABLE)))
    assert np.square(ours - TABLE).mean() < 3 * np.square(nearest - TABLE).mean()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_users_alike_in_all_directions_get_the_nearest_levels(bits: int) -> None:
    ours, nearest = round_for_users(TABLE, bits, 4.0 * np.eye(24)), quantize_rows(TABLE, bits)
    # a value in the middle of two levels may go either way, float64 here and float32 there
    assert (ours.codes != nearest.codes).mean() < 0.01


def test_what_is_on_the_grid_stays_there() -> None:
    grid = quantize_rows(TABLE, 4).lookup(np.arange(60))
    again = round_for_users(grid, 4, MOMENTS).lookup(np.arange(60))
    # scales are fitted again, and stored in float16
    np.testing.assert_allclose(again, grid, rtol=2e-3, atol=1e-6)


def test_rows_of_zeros_and_no_users() -> None:
    table = TABLE.copy()
    table[3] = 0.0
    ours = round_for_users(table, 4, MOMENTS)
    assert not ours.lookup(np.array([3])).any()
    unmoved = round_for_users(table, 4, np.zeros((24, 24)))
    assert np.array_equal(unmoved.codes, quantize_rows(table, 4).codes)


def test_the_table_is_left_alone_and_levels_fit() -> None:
    before, moments = TABLE.copy(), MOMENTS.copy()
    made = round_for_users(TABLE, 3, MOMENTS)
    assert np.array_equal(TABLE, before)
    assert np.array_equal(MOMENTS, moments)
    levels = made.lookup(np.arange(60)) / (made.scales.astype(np.float32) * made.scale_unit)[:, None]
    assert np.abs(levels).max() < largest_level(3) + 1e-3


def test_moments_are_those_of_the_users() -> None:
    model = lively("gru4rec")
    random = np.random.default_rng(1)
    histories = [random.integers(N_ITEMS, size=n) for n in (1, 3, MAX_LENGTH, MAX_LENGTH + 3, 3)]
    with torch.no_grad():
        users = [
            model.encode(model.item_table[torch.from_numpy(h[-MAX_LENGTH:])][None])[0].numpy()
            for h in histories
        ]
    expected = np.mean([np.outer(u, u) for u in users], axis=0)
    empty = np.array([], np.int64)
    np.testing.assert_allclose(user_moments(model, [*histories, empty], seed=0), expected, rtol=1e-4)
    assert user_moments(model, [empty], seed=0).shape == (WIDTH, WIDTH)
