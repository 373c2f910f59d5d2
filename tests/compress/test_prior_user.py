"""The user of whom nothing is known: popularity, in one vector."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.compress.prior_user import fit_prior_user


@pytest.fixture
def table() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)


def test_popularity_that_a_vector_can_say_is_said(table: np.ndarray) -> None:
    """Counts that are the softmax of some vector's scores give that vector back; a ridge of 1e-4 pulls by less than 2%."""
    planted = np.random.default_rng(1).standard_normal(8)
    share = np.exp(table @ planted)
    counts = np.rint(1e6 * share / share.sum()).astype(np.int64)
    fitted = fit_prior_user(table, counts)
    assert fitted.dtype == np.float32
    assert fitted.shape == (8,)
    np.testing.assert_allclose(fitted, planted, rtol=0.02, atol=0.02)
    assert np.corrcoef(table @ fitted, np.log(counts + 0.5))[0, 1] > 0.999


def test_scores_follow_popularity_as_far_as_they_can(table: np.ndarray) -> None:
    counts = np.random.default_rng(2).zipf(1.5, 50)
    fitted = fit_prior_user(table, np.minimum(counts, 1000))
    assert np.corrcoef(table @ fitted, np.log(np.minimum(counts, 1000)))[0, 1] > 0.2
    assert fitted.argmax() >= 0


@pytest.mark.parametrize("count", [0, 1, 10_000])
def test_where_all_items_are_alike_so_are_their_scores(count: int) -> None:
    """A centred table: then no direction is more popular than another."""
    table = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    table -= table.mean(0)
    np.testing.assert_allclose(table @ fit_prior_user(table, np.full(50, count)), 0, atol=0.15)


def test_items_that_nobody_met_and_tables_of_any_size_are_finite() -> None:
    rng = np.random.default_rng(0)
    counts = np.zeros(50, np.int64)
    counts[3] = 1_000_000
    for size in (1e-6, 1.0, 1e3):
        table = (size * rng.standard_normal((50, 8))).astype(np.float32)
        assert np.isfinite(fit_prior_user(table, counts)).all()
    favourite = rng.standard_normal((50, 8)).astype(np.float32)
    assert int((favourite @ fit_prior_user(favourite, counts)).argmax()) == 3


def test_the_same_input_gives_the_same_vector(table: np.ndarray) -> None:
    counts = np.arange(50)
    np.testing.assert_array_equal(fit_prior_user(table, counts), fit_prior_user(table.copy(), counts))
