"""AUC, log loss, MAE and RMSE against their definitions, and intervals against what is known of them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrec.benchmarks.label_metrics import auc, compare_logits, label_metrics, log_loss, mae, rmse

PAIRS = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.integers(-3, 3)), min_size=2, max_size=40)


def auc_by_pairs(labels: list[float], scores: list[float]) -> float:
    """The definition: over all pairs of a positive and a negative."""
    pairs = [
        (a, b) for (y, a), (z, b) in itertools.product(zip(labels, scores, strict=True), repeat=2) if y > z
    ]
    return sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs) if pairs else math.nan


@given(PAIRS)
def test_auc_is_its_definition(rows: list[tuple[float, int]]) -> None:
    labels, scores = [y for y, _ in rows], [float(s) for _, s in rows]
    expected = auc_by_pairs(labels, scores)
    assert auc(np.array(labels), np.array(scores)) == pytest.approx(expected, nan_ok=True)


@given(PAIRS, st.integers(0, 1000))
def test_weights_are_repetitions(rows: list[tuple[float, int]], seed: int) -> None:
    labels, scores = np.array([y for y, _ in rows]), np.array([float(s) for _, s in rows])
    times = np.random.default_rng(seed).integers(0, 4, len(rows))
    repeated = auc(np.repeat(labels, times), np.repeat(scores, times))
    assert auc(labels, scores, times.astype(float)) == pytest.approx(repeated, nan_ok=True)


def test_known_values() -> None:
    labels = np.array([0.0, 0.0, 1.0, 1.0])
    assert auc(labels, np.array([0.1, 0.4, 0.35, 0.8])) == 0.75  # three of four pairs, the textbook example
    probabilities = np.array([0.1, 0.9, 0.2, 0.65])
    logits = np.log(probabilities / (1 - probabilities))
    expected = -(math.log(0.9) + math.log(0.1) + math.log(0.2) + math.log(0.65)) / 4
    assert log_loss(labels, logits) == pytest.approx(expected)
    assert log_loss(np.array([1.0]), np.array([-1e9])) == pytest.approx(-math.log(1e-7))
    assert mae(np.array([1.0, 5.0]), np.array([2.0, 3.0])) == 1.5
    assert rmse(np.array([1.0, 5.0]), np.array([2.0, 3.0])) == pytest.approx(math.sqrt(2.5))


def test_auc_agrees_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(4)
    labels = random.integers(0, 2, 500).astype(float)
    scores = np.round(labels + random.standard_normal(500), 1)  # rounded, so that many tie
    positive, negative = scores[labels == 1], scores[labels == 0]
    expected = stats.mannwhitneyu(positive, negative).statistic / (len(positive) * len(negative))
    assert auc(labels, scores) == pytest.approx(expected)


def test_intervals_hold_the_value_and_narrow_with_rows() -> None:
    random = np.random.default_rng(0)

    def width(n: int) -> float:
        labels = random.integers(0, 2, n).astype(float)
        found = label_metrics(labels, labels + random.standard_normal(n))["auc"]
        assert found.low < found.value < found.high
        return found.high - found.low

    assert width(4000) < 0.6 * width(400)
    # Hanley and McNeil 1982, Table I: A = .8 with 100 of either has a standard error near .031
    labels = np.repeat([0.0, 1.0], 100)
    scores = random.standard_normal(200) + labels * 1.19
    found = label_metrics(labels, scores, n_resamples=1000)["auc"]
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(0.031, abs=0.008)


def test_a_system_against_itself_and_against_a_better_one() -> None:
    random = np.random.default_rng(1)
    labels = random.integers(0, 2, 2000).astype(float)
    good, bad = labels * 2 + random.standard_normal(2000), labels + 2 * random.standard_normal(2000)
    same = compare_logits(labels, good, good)["auc"]
    assert (same.ratio.value, same.ratio.low, same.ratio.high) == (1.0, 1.0, 1.0)
    worse = compare_logits(labels, bad, good)
    assert worse["auc"].difference.high < 0 < worse["log_loss"].difference.low
    assert compare_logits(labels, bad, good) == worse


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        label_metrics(np.empty(0), np.empty(0))
