"""The README's tables of scoring and scale, and the plot, from invented results."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from pocketrec.benchmarks.plots import Growth, cost_growth
from pocketrec.benchmarks.readme_tables import read_results, render
from pocketrec.benchmarks.scale_line import describe_growth
from pocketrec.benchmarks.scale_tables import describe_series, scale_table, scoring_table


def series(name: str, unit: str, quantity: str, costs: dict[int, float]) -> dict:
    points = [{"size": size, "value": cost, "low": cost, "high": cost} for size, cost in costs.items()]
    return {
        "name": name,
        "unit": unit,
        "quantity": quantity,
        "points": points,
        **describe_growth(list(costs), list(costs.values())),
    }


STRAIGHT = series("the best 10", "items", "ms", {1000: 0.204, 1_000_000: 4.2, 10_000_000: 40.2})
CUT_OFF = series("one event", "events", "ms", {10: 1.0, 100: 10.0, 1000: 10.0})
MEMORY = series("memory", "items", "bytes", {1000: 2.03e6, 10_000: 2.3e6, 100_000: 5e6})


def test_a_row_each_series_with_the_axis_said_once() -> None:
    results = {
        "scale/history": {"results": {"series": [CUT_OFF]}},
        "scale/catalogue": {"results": {"series": [STRAIGHT, MEMORY]}},
    }
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in scale_table(results)[2:]]
    assert [row[0] for row in rows] == ["catalogue", "", "history"]
    assert rows[0][1:] == [
        "the best 10", "1,000: 0.204 ms", "1,000,000: 4.20 ms", "10,000,000: 40.2 ms",
        "0.200 ms + 4.00 ms per 1,000,000 items", "+0%",
    ]  # fmt: skip
    assert rows[1][-2] == "2.00 MB + 30 B per item"
    assert rows[2][-1].endswith("; bends at 100")


def test_the_page_says_what_was_measured(repository: Path) -> None:
    text = (repository / "docs" / "scale.md").read_text(encoding="utf-8")
    assert render(text, read_results(repository / "benchmarks" / "results")) == text, (
        "run python -m pocketrec.benchmarks.readme_tables docs/scale.md benchmarks/results"
    )


def test_nothing_measured_is_no_row() -> None:
    assert len(scale_table({})) == 2
    assert scoring_table({}) == []


def test_each_knee_is_said() -> None:
    assert describe_series(CUT_OFF).endswith(
        "; at 100 the slope changes from 0.100 ms per event to 0 per event"
    )


def test_systems_side_by_side() -> None:
    def system(ms: float, size: int, agreement: float) -> dict:
        return {"p50": {"value": ms}, "cpu_ms": ms / 2, "table_bytes": size, "agreement": agreement}

    speedup = {"ratio": {"value": 5.0, "low": 4.5, "high": 5.5}, "cpu_ratio": 4.8}
    measured = {
        "settings": {"k": 100, "items": 1_000_000, "width": 64, "bits": 4},
        "results": {
            "systems": {"float32": system(20.0, 256_000_000, 1.0), "pocketrec": system(4.0, 34_000_000, 1.0)},
            "speedups": {"float32": speedup},
        },
    }
    lines = scoring_table({"scoring/catalogue-1m": measured})
    assert lines[0].startswith("| best 100 of 1,000,000 x 64 | table |")
    assert lines[2] == (
        "| MatMul + TopK, float32 | 256 MB | 20.0 ms | 10.0 ms | 100% | **5.0x** (4.5 to 5.5); by its work 4.8x |"
    )
    assert lines[3] == "| pocketrec, 4 bits | 34.0 MB | 4.00 ms | 2.00 ms | 100% |  |"


def test_the_plot_has_every_point_and_line() -> None:
    growths = [
        Growth(
            s["name"], "var(--s1)", [(p["size"], p["value"]) for p in s["points"]], s["fixed"], s["per_unit"]
        )
        for s in (STRAIGHT, CUT_OFF)
    ]
    drawn = ElementTree.fromstring(str(cost_growth(growths, "items & events", "ms")))
    tags = [element.tag.rsplit("}", 1)[-1] for element in drawn.iter()]
    assert (tags.count("circle"), tags.count("polyline")) == (6, 2)
    titles = [element.text for element in drawn.iter() if element.tag.endswith("title")]
    assert titles[2] == "the best 10: 40.2 ms at 10,000,000"
