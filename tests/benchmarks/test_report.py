"""The page and the table say what the results object says, whatever it holds, and need nothing else."""

import copy
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from pocketrec.benchmarks.number_format import DASH, FORMATS, interval_text
from pocketrec.benchmarks.report import headline, render_report
from pocketrec.benchmarks.results_table import results_lines

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Collects the figures, checks that tags are closed, and keeps the embedded JSON."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open_tags: list[str] = []
        self.figures: list[tuple[float, str]] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.scripts: list[str] = []
        self.text: list[str] = []
        self._value: float | None = None
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        named = dict(attrs)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID and tag not in ("line", "circle", "polyline"):
            self.open_tags.append(tag)
        if tag == "data":
            self._value = float(named["value"] or "nan")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("line", "circle", "polyline"):
            return
        assert self.open_tags.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self._value is not None:
            self.figures.append((self._value, data))
            self._value = None
        if self.open_tags and self.open_tags[-1] == "script":
            self.scripts.append(data)
        elif self.open_tags and self.open_tags[-1] != "style":
            self.text.append(data)


def numbers(value: Any) -> set[float]:
    if isinstance(value, dict):
        return set().union(*(numbers(child) for child in value.values()))
    if isinstance(value, list):
        return set().union(*(numbers(child) for child in value))
    return {float(value)} if isinstance(value, int | float) and not isinstance(value, bool) else set()


def intervals(value: Any) -> list[dict[str, float]]:
    """Everything with a lower and an upper end."""
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = [value] if isinstance(value, dict) and {"low", "high"} <= set(value) else []
    return own + [found for child in children for found in intervals(child)]


MakeResults = Callable[..., dict[str, Any]]

CASES: dict[str, tuple[tuple[str, ...], bool]] = {
    "two bundles beside a teacher": (("beauty", "beauty-tiny"), True),
    "one bundle beside a teacher": (("beauty",), True),
    "one bundle alone": (("beauty",), False),
    "two bundles without a teacher": (("beauty", "beauty-tiny"), False),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def results(request: pytest.FixtureRequest, make_results: MakeResults) -> dict[str, Any]:
    bundles, teacher = request.param
    return make_results(bundles, teacher=teacher)


def test_every_figure_is_in_the_results(results: dict[str, Any]):
    page, known = Page(render_report(results)), numbers(results)
    assert page.open_tags == []
    assert len(page.figures) > 100
    for value, text in page.figures:
        assert value in known, f"{text} is not in the results"
        assert text in {show(value) for show in FORMATS.values()}, f"{text} is not {value}"


def test_what_was_measured_beside_is_shown_with_its_own_figures(
    make_results: MakeResults, peers: dict[str, Any], frontier: dict[str, Any]
):
    results = make_results()
    html = render_report(results, peers=peers, frontier=frontier)
    page = Page(html)
    assert page.open_tags == []
    whole = json.loads("".join(page.scripts))
    assert whole == json.loads(json.dumps({**results, "peers": peers, "frontier": frontier}))
    known, shown = numbers(whole), {value for value, _ in page.figures}
    assert shown <= known
    for entry in peers["contestants"]:
        if entry["error"] is None:
            assert {entry["size_bytes"], entry["accuracy"]["metrics"]["ndcg@10"]["value"]} <= shown
            assert entry["latency"]["recommend"]["p50"]["value"] in shown
    assert {trial["bytes"] for trial in frontier["trials"] if trial["on_front"]} <= shown
    text = " ".join(page.text)
    assert "exports no ONNX graph" in text, "a peer that failed keeps its row"
    assert "table bits 2, encoder last layer" in text


def test_every_interval_on_the_page_is_one_of_the_results(
    make_results: MakeResults, peers: dict[str, Any], frontier: dict[str, Any]
):
    results = make_results()
    html = render_report(results, peers=peers, frontier=frontier)
    said = {text for text in re.findall(r"<small>([^<]*)</small>", html) if text[0] == "≥" or DASH in text}
    known = {interval_text(one, kind) for one in intervals({**results, "peers": peers}) for kind in FORMATS}
    assert len(said) > 60
    assert said - known == set()


def test_limits_first_calls_energy_and_notes_are_shown(make_results: MakeResults):
    results = make_results()
    page = Page(render_report(results))
    shown, text = {value for value, _ in page.figures}, " ".join(page.text)
    kept = sum(gate["passed"] for gate in results["gates"])
    assert 0 < kept < len(results["gates"])
    assert f"Limits: {kept} of {len(results['gates'])} kept" in text
    for gate in results["gates"]:
        assert {gate["value"], gate["limit"]} <= shown
    assert {call["load_ms"] for call in results["first_calls"]} <= shown
    assert {row["millijoules"]["value"] for row in results["energy"]["rows"]} <= shown
    for row in results["device_times"]:
        assert {
            row["first_ms"],
            row["run"]["p50"]["value"],
            row["copy_in"]["p50"]["value"],
            row["bytes_in"],
        } <= shown
    assert "On the device, its copies apart" in text
    assert results["notes"][0] in text
    assert "Histories encoded a second" in text


def test_results_of_an_earlier_version_are_still_shown(make_results: MakeResults):
    results = make_results()
    for name in ("gates", "notes", "energy", "first_calls", "device_times"):
        del results[name]
    del results["settings"]["split"]
    results["latency"] = [row for row in results["latency"] if row["operation"] != "encode_batch"]
    for row in results["latency"]:
        del row["p90"], row["batch"]
    page = Page(render_report(results))
    assert page.open_tags == []
    assert list(results_lines(results))


def test_float16_on_a_device_is_judged_in_one_line(make_results: MakeResults):
    results = make_results()
    lines = [line for line in results_lines(results) if "float16" in line]
    assert sum("kept: 1.31x, same top 10 99.2%" in line for line in lines) == len(results["systems"])


def test_the_temporal_cut_is_said(make_results: MakeResults):
    results = make_results()
    results["settings"] |= {
        "protocol": "temporal",
        "split": {"kind": "temporal", "quantile": 0.9, "cut": 1200.0},
    }
    said = "temporal, cut at 1200 (90% of the events before it)"
    assert said in " ".join(Page(render_report(results)).text)
    assert any(said in line for line in results_lines(results))


def test_the_results_are_in_the_page(results: dict[str, Any]):
    page = Page(render_report(results))
    assert json.loads("".join(page.scripts)) == json.loads(json.dumps(results))


def test_the_main_figures_are_shown(make_results: MakeResults):
    results = make_results()
    page = Page(render_report(results))
    shown = {value for value, _ in page.figures}
    for system in results["systems"]:
        assert {part["bytes"] for part in system["parts"]} <= shown
        assert {metric["value"] for metric in system["accuracy"]["metrics"].values()} <= shown
        assert {system["memory"][task]["peak_bytes"] for task in ("rerank", "recommend")} <= shown
        for step in system["steps"]:
            assert {step["after"]["bytes"], step["after"]["ndcg10"]} <= shown
    for row in results["latency"]:
        assert {row[name]["value"] for name in ("p50", "p90", "p99")} | {row["per_second"]} <= shown
    text = " ".join(page.text)
    for comparison in results["comparisons"].values():
        for metric in comparison["accuracy"]["metrics"].values():
            assert interval_text(metric["ratio"], "percent") in text
    assert results["command"] in text
    assert results["machine"]["cpu"] in text


def test_the_page_needs_nothing_else(make_results: MakeResults):
    html = render_report(make_results())
    page = Page(html)
    assert page.links == []
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", html)
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html
    assert re.findall(r"<script[^>]*>", html) == ['<script type="application/json" id="results">']


def test_text_of_a_bundle_is_never_markup(make_results: MakeResults):
    results = make_results(("beauty",))
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    system = results["systems"][1]
    system["model"] = {"architecture": evil, evil: evil}
    system["recipe"] = {"prune": {evil: evil}}
    system["steps"][0]["name"] = evil
    system["steps"][0]["detail"] = {evil: evil}
    system["parts"][0]["name"] = evil
    results["data"]["source"] = results["command"] = evil
    html = render_report(results)
    assert html.count("<script") == 1
    assert "<img" not in html
    assert json.loads("".join(Page(html).scripts)) == results


def test_no_winner_is_named_where_none_was_found(make_results: MakeResults):
    results = make_results(("beauty",))
    for row in results["latency"]:
        if row["speedup"]:
            row["speedup"]["told_apart"] = False
    page = " ".join(Page(render_report(results)).text)
    assert "not told apart" in page
    assert "faster" not in page.replace("Further left is faster", "").replace("no faster and no slower", "")
    assert any("not told apart" in line for line in results_lines(results))


def test_what_compression_recorded_stands_in_for_a_teacher(make_results: MakeResults):
    results = make_results(("beauty",), teacher=False)
    assert headline(results)["kept"] is None
    recorded = {"value": 0.9944, "low": 0.991, "high": 0.998}
    results["systems"][0]["recorded"] = {"kept": {"metrics": {"ndcg@10": {"ratio": recorded}}}}
    found = headline(results)
    assert (found["kept"], found["recorded"]) == (recorded, True)
    page = Page(render_report(results))
    assert (0.9944, "99.4%") in page.figures
    assert "as recorded when it was compressed" in " ".join(page.text)
    assert any("kept.metrics.ndcg@10.ratio.value" in line for line in results_lines(results))


def test_missing_figures_are_dashes(make_results: MakeResults):
    results = make_results(("beauty",))
    system = results["systems"][1]
    system |= {"steps": [], "recipe": None, "model": None, "checkpoint_ratio": None, "checkpoint_bytes": None}
    for row in results["latency"]:
        row["p99"]["high"] = None
    results["popularity"]["metrics"]["ndcg@10"] = {"value": 0.0, "low": 0.0, "high": 0.0}
    page = Page(render_report(results))
    assert "≥" in " ".join(page.text)
    assert headline(results)["size"]["what"] == "teacher"
    assert list(results_lines(results))


def test_steps_that_lost_their_figures_do_not_break_the_page(make_results: MakeResults):
    results = make_results(("beauty",))
    for step in results["systems"][1]["steps"]:
        step["after"].pop("ndcg10")
        step["before"]["ndcg10"] = None
        step.pop("seconds")
    assert Page(render_report(results)).open_tags == []


def test_rendering_leaves_the_results_alone_and_repeats(make_results: MakeResults):
    results = make_results()
    before = copy.deepcopy(results)
    assert render_report(results) == render_report(results)
    assert results == before


def test_the_table_is_plain_and_holds_the_main_figures(make_results: MakeResults):
    results = make_results()
    lines = list(results_lines(results))
    text = "\n".join(lines)
    assert text.isascii()
    for system in results["systems"]:
        assert f"{system['size_bytes']:,}" in text
        assert f"{system['accuracy']['metrics']['ndcg@10']['value']:.4f}" in text
    assert "popularity" in text
    assert "kept of teacher" in text
    assert all(line == line.rstrip() for line in lines)
