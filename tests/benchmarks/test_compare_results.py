"""Two runs compared: what counts as worse, and what may not be compared at all."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pocketrec.benchmarks.compare_results import Thresholds, compare_results, regressions
from pocketrec.benchmarks.markdown_report import comparison_markdown, results_markdown
from pocketrec.runtime.errors import InputError

from .conftest import MakeResults


@pytest.fixture
def run(make_results: MakeResults) -> dict[str, Any]:
    return copy.deepcopy(make_results(("beauty",)))


def bundle_of(run: dict[str, Any]) -> dict[str, Any]:
    return next(system for system in run["systems"] if system["name"] == "beauty")


def worse(before: dict[str, Any], after: dict[str, Any], **thresholds: float) -> list[str]:
    changes, _ = compare_results(before, after, Thresholds(**thresholds))
    return [change.figure for change in regressions(changes)]


def test_a_run_is_not_worse_than_itself(run: dict[str, Any]) -> None:
    changes, notes = compare_results(run, run)
    assert len(changes) > 10
    assert {change.verdict for change in changes} == {"same"}
    assert notes == []


def test_bytes_count_beyond_the_threshold(run: dict[str, Any]) -> None:
    after = copy.deepcopy(run)
    bundle_of(after)["size_bytes"] = int(bundle_of(run)["size_bytes"] * 1.03)
    assert worse(run, after) == ["bytes"]
    assert worse(run, after, size=0.05) == []
    assert worse(after, run) == []  # smaller is better


def test_the_share_kept_counts_where_the_teacher_is_the_same(run: dict[str, Any]) -> None:
    after = copy.deepcopy(run)
    ratio = after["comparisons"]["beauty"]["accuracy"]["metrics"]["ndcg@10"]["ratio"]
    for end in ratio:
        ratio[end] *= 0.97
    assert worse(run, after) == ["NDCG@10 kept"]
    assert worse(run, after, accuracy=0.04) == []


def test_other_data_are_another_question(run: dict[str, Any]) -> None:
    after = copy.deepcopy(run)
    after["data"]["sha256"] = "00" * 32
    bundle_of(after)["accuracy"]["metrics"]["ndcg@10"]["value"] = 0.0
    changes, notes = compare_results(run, after)
    assert not any("NDCG" in change.figure for change in changes)
    assert any("different questions" in note for note in notes)


@pytest.mark.parametrize(("factor", "apart"), [(0.7, True), (0.97, False)])
def test_a_speed_up_counts_where_intervals_are_apart(run: dict[str, Any], factor: float, apart: bool) -> None:
    after = copy.deepcopy(run)
    row = next(
        r for r in after["latency"] if r["speedup"] and r["operation"] == "rerank" and r["size"] == 100
    )
    for end in row["speedup"]["ratio"]:
        row["speedup"]["ratio"][end] *= factor
    assert bool(worse(run, after)) is apart


def test_an_overlap_is_no_evidence(run: dict[str, Any]) -> None:
    after = copy.deepcopy(run)
    row = next(r for r in after["latency"] if r["speedup"] and r["operation"] == "rerank")
    before = next(
        r for r in run["latency"] if all(r[k] == row[k] for k in ("operation", "size", "threads", "system"))
    )
    row["speedup"]["ratio"] = {"value": before["speedup"]["ratio"]["value"] * 0.5, "low": 0.1, "high": 99.0}
    assert worse(run, after) == []


def test_milliseconds_of_two_machines_are_not_compared(make_results: MakeResults) -> None:
    before = copy.deepcopy(make_results(("beauty",), teacher=False))
    after = copy.deepcopy(before)
    after["machine"]["cpu"] = "another"
    for row in after["latency"]:
        row["p50"] = {end: value and value * 9 for end, value in row["p50"].items()}
    changes, notes = compare_results(before, after)
    assert not any("p50" in change.figure for change in changes)
    assert any("latency is not compared" in note for note in notes)
    after["machine"]["cpu"] = before["machine"]["cpu"]
    assert len(worse(before, after)) == len(before["latency"])


def test_bundles_of_other_names(run: dict[str, Any], make_results: MakeResults) -> None:
    other = copy.deepcopy(make_results(("beauty", "beauty-tiny")))
    for system, name in zip(other["systems"][1:], ("a", "b"), strict=True):
        system["name"] = name
    with pytest.raises(InputError, match="no bundle in common: beauty against a, b"):
        compare_results(run, other)


def test_markdown_says_what_the_results_say(run: dict[str, Any]) -> None:
    text = results_markdown(run)
    assert "| beauty | 421 kB |" in text
    assert f"    {run['command']}" in text
    after = copy.deepcopy(run)
    bundle_of(after)["size_bytes"] *= 2
    changes, notes = compare_results(run, after)
    compared = comparison_markdown(run, after, changes, notes, Thresholds())
    assert compared.startswith("### 1 regression\n")
    assert "| beauty | bytes | 421 kB | 843 kB | -100.0% | worse |" in compared


def test_markdown_is_not_the_manifest_s_to_write(run: dict[str, Any]) -> None:
    run["data"]["source"] = "a|b\n# <img>"
    text = results_markdown(run)
    assert r"**a\|b # \<img\>**" in text
