"""Timing: fair turns, honest intervals, and no winner where none can be told."""

import gc
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketrec.benchmarks.latency import (
    QUANTILES,
    Timing,
    compare,
    quantile_interval,
    summarize,
    time_interleaved,
)
from pocketrec.benchmarks.operations import Workload, sample_histories, user_operations

QUICK = Timing(n_rounds=6, n_warmup=2, min_rounds=1)


def noisy(median_ms: float, n: int = 400, seed: int = 0) -> np.ndarray:
    return median_ms * np.exp(np.random.default_rng(seed).normal(0, 0.1, n))


def test_systems_take_turns_and_each_leads_in_turn():
    calls: list[tuple[str, int]] = []
    time_interleaved(
        {"a": "a", "b": "b"},
        lambda system, n: lambda: calls.append((system, n)),
        Timing(n_rounds=2, n_warmup=1, min_rounds=1),
    )
    warmup, first, second = calls[:2], calls[2:6], calls[6:]
    assert warmup == [("a", 0), ("b", 0)]
    # Each timed call follows an untimed one of the same system.
    assert first == [("a", 0), ("a", 0), ("b", 0), ("b", 0)]
    assert second == [("b", 1), ("b", 1), ("a", 1), ("a", 1)]


def test_preparation_is_not_timed():
    def prepare(_system: str, _n: int):
        time.sleep(0.01)
        return lambda: None

    samples = time_interleaved({"a": "a"}, prepare, QUICK)["a"]
    assert len(samples) == 6
    assert samples.max() < 5.0


def test_a_sleep_is_measured_in_milliseconds():
    samples = time_interleaved({"a": "a"}, lambda _system, _n: lambda: time.sleep(0.005), QUICK)["a"]
    assert 5.0 <= np.median(samples) < 50.0  # a sleep never ends early; a busy machine may end it late


def test_the_time_limit_ends_the_rounds_but_not_before_the_least():
    timing = Timing(n_rounds=1000, n_warmup=0, max_seconds=0.0, min_rounds=3)
    samples = time_interleaved({"a": "a", "b": "b"}, lambda _system, _n: lambda: None, timing)
    assert [len(values) for values in samples.values()] == [3, 3]


def test_the_collector_rests_and_comes_back_even_after_an_error():
    seen: list[bool] = []

    def fail() -> None:
        seen.append(gc.isenabled())
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        time_interleaved({"a": "a"}, lambda _system, _n: fail, Timing(n_rounds=1, n_warmup=0, min_rounds=1))
    assert seen == [False]
    assert gc.isenabled()


def test_timing_without_rounds_is_refused():
    with pytest.raises(ValueError, match="at least one round"):
        Timing(n_rounds=0)


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_quantile_intervals_cover_what_they_promise(q: float):
    rng, covered = np.random.default_rng(0), 0
    for _ in range(400):
        interval = quantile_interval(np.sort(rng.random(400)), q)  # the true quantile of uniform values is q
        covered += interval.low <= q <= interval.high
    assert covered / 400 >= 0.93  # promised 0.95; three standard errors of 400 trials are 0.033


def test_too_few_calls_leave_an_end_open():
    summary = summarize(noisy(1.0, n=20))
    assert summary["p99"]["high"] is None
    assert summary["p50"]["high"] is not None


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=60))
def test_a_summary_is_ordered(values: list[float]):
    summary = summarize(np.array(values))
    quantiles = [summary[name]["value"] for name in QUANTILES]
    assert quantiles == sorted(quantiles)
    assert summary["max_ms"] >= quantiles[-1] * (1 - 1e-12)
    assert len(summary["percentiles_ms"]) == 101
    assert summary["per_second"] == pytest.approx(1000 / summary["mean_ms"])
    for name in QUANTILES:
        low, high = summary[name]["low"], summary[name]["high"]
        assert low is None or low <= summary[name]["value"] * (1 + 1e-12)
        assert high is None or high >= summary[name]["value"] * (1 - 1e-12)


def test_a_speed_up_is_found_where_there_is_one():
    found = compare(noisy(1.0, seed=1), noisy(2.0, seed=2))
    assert found.told_apart
    assert found.ratio.low < 2.0 < found.ratio.high
    assert compare(noisy(2.0), noisy(1.0)).ratio.value < 1


def test_no_winner_is_named_where_intervals_overlap():
    found = compare(noisy(1.0, seed=1), noisy(1.005, seed=2))
    assert not found.told_apart


def test_drift_that_hits_both_leaves_the_ratio_alone():
    drift = np.linspace(1.0, 3.0, 400)
    found = compare(noisy(1.0, seed=1) * drift, noisy(2.0, seed=2) * drift)
    assert found.ratio.value == pytest.approx(2.0, rel=0.05)


def test_candidates_are_distinct_seeded_and_known():
    work = Workload(histories=[["a"]], catalogue=[f"i{n}" for n in range(60)])
    drawn = work.draw(3, 50)
    assert len(set(drawn)) == 50
    assert set(drawn) <= set(work.catalogue)
    assert drawn == work.draw(3, 50)
    assert drawn != work.draw(4, 50)
    sizes = [operation.size for operation in user_operations(work) if operation.name == "rerank"]
    assert sizes == [10, 50], "lists longer than the catalogue cannot be drawn"


def test_histories_are_drawn_once_each():
    histories = [np.array([n]) for n in range(20)] + [np.array([], dtype=np.int64)]
    drawn = [int(history[0]) for history in sample_histories(histories, 50, seed=1)]
    assert sorted(drawn) == list(range(20))
    assert len(sample_histories(histories, 5, seed=1)) == 5


def test_each_call_pays_for_exactly_one_event():
    log: list[tuple[str, object]] = []

    class User:
        def observe(self, *item_ids: int) -> None:
            log.append(("observe", item_ids))

        def rerank(self, candidates: list[int], k: int) -> None:
            log.append(("rerank", (len(candidates), k)))

        def recommend(self, k: int) -> None:
            log.append(("recommend", k))

        def feedback(self, item_id: int, clicked: bool) -> None:
            log.append(("feedback", clicked))

    class Ranker:
        def user(self) -> User:
            log.append(("user", None))
            return User()

    work = Workload(histories=[[7, 8, 9]], catalogue=list(range(100)), candidates=(50,))
    operations = {operation.name: operation for operation in user_operations(work)}
    for name, expected in {
        "rerank": [("observe", (9,)), ("rerank", (50, 10))],
        "recommend": [("observe", (9,)), ("recommend", 10)],
        "feedback": [("feedback", True)],
    }.items():
        call = operations[name].prepare(Ranker(), 0)
        assert log[0] == ("user", None)
        assert log[1] == ("observe", (7, 8, 9) if name == "feedback" else (7, 8))
        log.clear()
        call()
        assert log == expected, name
        log.clear()


def test_binomial_weights_hold_for_many_calls():
    interval = quantile_interval(np.arange(5000.0), 0.5)
    half = 1.96 * math.sqrt(5000) / 2
    assert interval.high - interval.value == pytest.approx(half, rel=0.05)
