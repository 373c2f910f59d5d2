"""Ranking metrics: values known by construction, values of an independent library, and honest intervals."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrec.benchmarks.beyond_accuracy import set_metrics
from pocketrec.benchmarks.ranking_metrics import (
    Interval,
    bootstrap_mean,
    coverage,
    mean_metrics,
    metric_names,
    overlap,
    paired_bootstrap,
    per_user,
)


@pytest.fixture
def ranks() -> np.ndarray:
    return np.random.default_rng(3).integers(1, 60, size=400)


def test_known_values():
    metrics = mean_metrics(np.array([1, 2, 11]), [10])
    assert metrics["hr@10"] == pytest.approx(2 / 3)
    assert metrics["ndcg@10"] == pytest.approx((1 + 1 / np.log2(3)) / 3)
    assert metrics["mrr@10"] == pytest.approx((1 + 0.5) / 3)


def test_agrees_with_ranx(ranks: np.ndarray):
    ranx = pytest.importorskip("ranx")
    # Each user's list holds the target at its rank among 60 items; the others are irrelevant.
    run = {
        f"u{user}": {("hit" if place == rank else f"other{place}"): 100.0 - place for place in range(1, 61)}
        for user, rank in enumerate(ranks)
    }
    qrels = ranx.Qrels({user: {"hit": 1} for user in run})
    theirs = {"hr": "hit_rate", "ndcg": "ndcg", "mrr": "mrr"}
    names = metric_names()
    asked = {name: f"{theirs[name.split('@')[0]]}@{name.split('@')[1]}" for name in names}
    expected = ranx.evaluate(qrels, ranx.Run(run), list(asked.values()))
    ours = mean_metrics(ranks)
    for name in names:
        assert ours[name] == pytest.approx(expected[asked[name]], abs=1e-9), name


def test_precision_recall_and_f1_agree_with_ranx(ranks: np.ndarray):
    ranx = pytest.importorskip("ranx")
    lists = [
        {("hit" if place == rank else f"other{place}"): 100.0 - place for place in range(1, 61)}
        for rank in ranks
    ]
    run = {f"u{user}": scores for user, scores in enumerate(lists)}
    qrels = ranx.Qrels({user: {"hit": 1} for user in run})
    ours = set_metrics(ranks)
    expected = ranx.evaluate(qrels, ranx.Run(run), list(ours))
    for name, value in ours.items():
        assert value == pytest.approx(expected[name], abs=1e-9), name


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=50))
def test_metrics_are_ordered_and_grow_with_k(values: list[int]):
    ranks = np.array(values)
    metrics = mean_metrics(ranks)
    for k in (5, 10, 20):
        assert 0 <= metrics[f"mrr@{k}"] <= metrics[f"ndcg@{k}"] <= metrics[f"hr@{k}"] <= 1
    for metric in ("hr", "ndcg", "mrr"):
        assert metrics[f"{metric}@5"] <= metrics[f"{metric}@10"] <= metrics[f"{metric}@20"]


def test_no_users_is_an_error():
    with pytest.raises(ValueError, match="no users, expected at least one"):
        mean_metrics(np.array([], dtype=np.int64))
    with pytest.raises(ValueError, match="no users, expected at least one"):
        bootstrap_mean([])


def test_coverage_and_overlap_ignore_missing_places():
    assert coverage(np.array([[0, 1, -1], [1, -1, -1]]), 4) == 0.5
    assert overlap(np.array([[0, 1, -1]]), np.array([[1, -1, -1]])) == 1.0


def test_bootstrap_matches_the_normal_interval(ranks: np.ndarray):
    values = per_user(ranks, "ndcg@10")
    interval = bootstrap_mean(values, n_resamples=4000, seed=1)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert interval.value == pytest.approx(values.mean())
    # Monte Carlo error of a 2.5% quantile from 4,000 resamples is near 4% of the half width.
    assert interval.high - interval.value == pytest.approx(half, rel=0.15)
    assert interval.value - interval.low == pytest.approx(half, rel=0.15)


def test_paired_is_narrower_than_unpaired(ranks: np.ndarray):
    teacher = per_user(ranks, "ndcg@10")
    nudged = per_user(ranks + (np.arange(len(ranks)) % 10 == 0), "ndcg@10")
    paired = paired_bootstrap(nudged, teacher).difference
    shuffled = paired_bootstrap(np.random.default_rng(0).permutation(nudged), teacher).difference
    assert paired.high - paired.low < 0.5 * (shuffled.high - shuffled.low)
    assert paired.high <= 0


def test_identical_systems_keep_everything(ranks: np.ndarray):
    values = per_user(ranks, "ndcg@10")
    comparison = paired_bootstrap(values, values)
    assert comparison.ratio == Interval(1.0, 1.0, 1.0)
    assert comparison.difference == Interval(0.0, 0.0, 0.0)


def test_seed_decides(ranks: np.ndarray):
    values = per_user(ranks, "mrr@10")
    assert bootstrap_mean(values, seed=5) == bootstrap_mean(values, seed=5)
    assert bootstrap_mean(values, seed=5) != bootstrap_mean(values, seed=6)


def test_ratio_to_nothing_is_null_in_json():
    comparison = paired_bootstrap([0.0, 1.0], [0.0, 0.0])
    assert comparison.ratio.to_json() == {"value": None, "low": None, "high": None}


def test_intervals_overlap_at_a_shared_point():
    assert Interval(1, 0, 2).overlaps(Interval(3, 2, 4))
    assert not Interval(1, 0, 2).overlaps(Interval(3, 2.1, 4))
    assert Interval(1, 0, 2).overlaps(Interval(float("nan"), float("nan"), float("nan")))


def test_bootstrap_of_many_users_is_quick():
    ranks = np.random.default_rng(0).integers(1, 200, size=22_000)
    values = per_user(ranks, "ndcg@20")
    began = time.perf_counter()
    paired_bootstrap(values, np.roll(values, 1))
    assert time.perf_counter() - began < 1.0
