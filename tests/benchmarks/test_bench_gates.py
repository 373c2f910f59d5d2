"""Limits: judged by the figure, doubtful where the interval holds the limit, and said in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pocketrec.benchmarks.bench_gates import Limits, failed, judge

MakeResults = Callable[..., dict[str, Any]]


@pytest.fixture
def results(make_results: MakeResults) -> dict[str, Any]:
    return make_results(("beauty",))


def test_every_bundle_and_limit_is_judged_but_not_the_reference(make_results: MakeResults):
    results = make_results()
    gates = judge(results, Limits(max_drop=0.5, max_size_bytes=300_000, max_latency_ms=100.0))
    assert [(gate["system"], gate["gate"], gate["passed"]) for gate in gates] == [
        ("beauty", "drop", True),
        ("beauty", "size", False),
        ("beauty", "latency", True),
        ("beauty-tiny", "drop", True),
        ("beauty-tiny", "size", True),
        ("beauty-tiny", "latency", True),
    ]
    assert [(gate["system"], gate["gate"]) for gate in failed(gates)] == [("beauty", "size")]
    assert judge(results, Limits()) == []


def test_the_figures_are_those_of_the_results(results: dict[str, Any]):
    drop, size, latency = judge(results, Limits(max_drop=0.5, max_size_bytes=1, max_latency_ms=1e-6))
    ratio = results["comparisons"]["beauty"]["accuracy"]["metrics"]["ndcg@10"]["ratio"]
    assert drop["value"] == 1 - ratio["value"]
    assert size["value"] == results["systems"][1]["size_bytes"]
    row = next(
        row
        for row in results["latency"]
        if (row["operation"], row["size"], row["threads"], row["system"]) == ("rerank", 100, 1, "beauty")
    )
    assert latency["value"] == row["p50"]["value"]


def test_a_limit_inside_the_interval_is_doubtful(results: dict[str, Any]):
    ratio = results["comparisons"]["beauty"]["accuracy"]["metrics"]["ndcg@10"]["ratio"]
    ratio |= {"value": 0.995, "low": 0.985, "high": 1.005}
    (gate,) = judge(results, Limits(max_drop=0.01))
    assert (gate["passed"], gate["certain"]) == (True, False)
    (gate,) = judge(results, Limits(max_drop=0.02))
    assert (gate["passed"], gate["certain"]) == (True, True)


def test_a_figure_that_is_not_there_does_not_pass(results: dict[str, Any]):
    ratio = results["comparisons"]["beauty"]["accuracy"]["metrics"]["ndcg@10"]["ratio"]
    ratio |= {"value": None, "low": None, "high": None}
    (gate,) = judge(results, Limits(max_drop=0.01))
    assert (gate["passed"], gate["certain"]) == (False, False)
