"""The report: one HTML page that needs nothing else, drawn from the results object alone.

`render_report(results) -> str`. What other tools made of the same checkpoint (`pocketrec bench --peers`) and a search through
recipes (`pocketrec compress --frontier`) are shown beside it where they are given. Every figure on the page is a `<data value="...">` whose value is the very
number of the results object (docs/results-schema.md), and the object itself is embedded as JSON (`<script
id="results">`), so that whoever has the page has the data. No network, no fonts of others, no script that
runs; light, dark and print.

Text may come from a bundle's manifest, and a bundle may come from anyone: the template escapes everything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from .bench_gates import HEADLINE_METRIC, headline_rows
from .number_format import FORMATS, flatten, interval_text, metric_title, operation_title, protocol_text
from .plots import Curve, Point, cumulative_latency, ms_tick, size_against_accuracy
from .report_beside import frontier_view, peers_view

Json = Mapping[str, Any]

N_COLOURS = 6
"""Colours for bundles in the page's style; the teacher has one of its own."""


def render_report(results: Json, *, peers: Json | None = None, frontier: Json | None = None) -> str:
    """The page for a results object of `bench.run_bench`, and for what else was measured of the same model.

    Args:
        peers: what `pocketrec bench --peers` wrote.
        frontier: what `pocketrec compress --frontier` wrote.
    """
    beside = {name: one for name, one in (("peers", peers), ("frontier", frontier)) if one is not None}
    colours = _colours(results["systems"])
    rerank = headline_rows(results)
    return _template().render(
        results=results,
        headline_name=headline_metric(results),
        step_name="auc" if headline_metric(results) == "auc" else "ndcg10",
        systems=results["systems"],
        shown=_shown(results),
        colours=colours,
        rerank={row["system"]: row for row in rerank},
        headline=headline(results),
        scatter=_scatter(results, colours),
        curves=_curves(rerank, colours),
        spreads=_spreads(results["latency"], results["settings"]["threads"][0]),
        latency=_by_operation(results["latency"]),
        batches=_batches(results),
        kept=_kept(results),
        segments_kept=_segments_kept(results),
        split=protocol_text(results["settings"]),
        peers=None if peers is None else peers_view(peers),
        frontier=None if frontier is None else frontier_view(frontier),
        steps={system["name"]: _waterfall(system) for system in results["systems"] if system["steps"]},
        cutoff_names=list(results["popularity"]["metrics"]),
        part_names=sorted({part["name"] for system in results["systems"] for part in system["parts"]}),
        embedded=Markup(json.dumps({**results, **beside}, allow_nan=False).replace("<", "\\u003c")),
    )


def headline_metric(results: Json) -> str:
    """What the page is about: NDCG@10 of rankings, AUC of labelled rows."""
    return results["settings"].get("headline_metric", HEADLINE_METRIC)


def write_report(results: Json, path: Path) -> None:
    """`render_report` into a file."""
    path.write_text(render_report(results), encoding="utf-8")


def headline(results: Json) -> dict[str, Any]:
    """The figures at the top of the page: those of the first bundle that is not the reference.

    Where nothing was measured beside it, what compression recorded in the manifest stands in, and
    `recorded` says so.
    """
    system, metric = _shown(results), headline_metric(results)
    comparison = results["comparisons"].get(system["name"])
    kept = (
        comparison["accuracy"]["metrics"][metric]["ratio"] if comparison else recorded_ratio(system, metric)
    )
    rows = {row["system"]: row for row in headline_rows(results)}
    size = {
        "ratio": system["checkpoint_ratio"],
        "from": system["checkpoint_bytes"],
        "what": "checkpoint weights",
    }
    if system["checkpoint_ratio"] is None and comparison:
        reference = next(entry for entry in results["systems"] if entry["name"] == results["reference"])
        size = {"ratio": comparison["size_ratio"], "from": reference["size_bytes"], "what": reference["name"]}
    return {
        "system": system,
        "size": size,
        "kept": kept,
        "recorded": comparison is None and kept is not None,
        "metric": system["accuracy"]["metrics"][metric],
        "rerank": rows.get(system["name"]),
        "rerank_reference": rows.get(results["reference"]),
        "memory": system["memory"]["rerank"],
    }


def recorded_ratio(system: Json, metric: str = HEADLINE_METRIC) -> Json | None:
    """The share of the teacher's metric that compression measured and recorded, where it did."""
    found: Any = system["recorded"]
    for key in ("kept", "metrics", metric, "ratio"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) and {"value", "low", "high"} <= set(found) else None


def _shown(results: Json) -> Json:
    others = [system for system in results["systems"] if system["name"] != results["reference"]]
    return (others or results["systems"])[0]


def _colours(systems: Sequence[Json]) -> dict[str, str]:
    bundles = [system["name"] for system in systems if system["role"] != "teacher"]
    colours = {system["name"]: "var(--teacher)" for system in systems}
    return colours | {name: f"var(--s{n % N_COLOURS + 1})" for n, name in enumerate(bundles)}


def _scatter(results: Json, colours: Mapping[str, str]) -> Markup:
    points = []
    for system in results["systems"]:
        metric = system["accuracy"]["metrics"][headline_metric(results)]
        name = system["name"]
        points.append(
            Point(name, colours[name], system["size_bytes"], metric["value"], metric["low"], metric["high"])
        )
    popularity = results["popularity"]["metrics"][headline_metric(results)]["value"]
    return size_against_accuracy(points, popularity, metric_title(headline_metric(results)))


def _curves(rows: Sequence[Json], colours: Mapping[str, str]) -> Markup | None:
    if not rows:
        return None
    title = f"time of {operation_title(rows[0]['operation'], rows[0]['size'])} candidates"
    curves = [Curve(row["system"], colours[row["system"]], row["percentiles_ms"]) for row in rows]
    return cumulative_latency(curves, title)


def _by_operation(rows: Sequence[Json]) -> list[tuple[str, list[Json]]]:
    """Rows under one title for each operation and number of threads, in measured order."""
    groups: dict[str, list[Json]] = {}
    for row in rows:
        groups.setdefault(operation_title(row["operation"], row["size"]), []).append(row)
    return list(groups.items())


def _spreads(rows: Sequence[Json], threads: int) -> dict[str, Any]:
    """Where the 5th, 25th, 50th, 75th and 95th percentiles lie on one logarithmic axis, in percent of its width."""
    rows = [row for row in rows if row["threads"] == threads and row["operation"] != "encode_batch"]
    low = math.log10(min(row["percentiles_ms"][5] for row in rows)) - 0.08
    high = math.log10(max(row["percentiles_ms"][95] for row in rows)) + 0.08

    def place(ms: float) -> float:
        return round(100 * (math.log10(ms) - low) / (high - low), 2)

    decades = [10.0**power for power in range(math.ceil(low), math.floor(high) + 1)]
    groups = [
        (title, [(row, {n: place(row["percentiles_ms"][n]) for n in (5, 25, 50, 75, 95)}) for row in group])
        for title, group in _by_operation(rows)
    ]
    return {"groups": groups, "ticks": [(place(ms), ms_tick(ms)) for ms in decades], "threads": threads}


def _batches(results: Json) -> list[tuple[int, dict[str, list[Json]]]]:
    """For each number of threads, the rows of encoding one and several histories at once, by system and growing."""
    found: dict[int, dict[str, list[Json]]] = {}
    for row in sorted(results["latency"], key=lambda row: row.get("batch", 1)):
        if row["operation"] in ("encode", "encode_batch"):
            found.setdefault(row["threads"], {}).setdefault(row["system"], []).append(row)
    return [(threads, rows) for threads, rows in found.items() if any(len(row) > 1 for row in rows.values())]


def _kept(results: Json) -> dict[str, Any] | None:
    """The share kept of every metric by every bundle, on one common axis."""
    found = {name: entry["accuracy"]["metrics"] for name, entry in results["comparisons"].items()}
    rows = [
        (metric_title(metric), {name: metrics[metric]["ratio"] for name, metrics in found.items()})
        for metric in results["popularity"]["metrics"]
    ]
    return _on_one_axis(rows) if found else None


def _segments_kept(results: Json) -> dict[str, Any] | None:
    """The share kept of NDCG@10 by every bundle in every segment, on one common axis."""
    rows = [
        (
            f"{segment['kind']}: {segment['name']}",
            {name: segment["systems"][name]["kept"]["ndcg@10"] for name in results["comparisons"]},
        )
        for segment in results["segments"]
    ]
    return _on_one_axis(rows) if rows and results["comparisons"] else None


def _on_one_axis(rows: Sequence[tuple[str, Mapping[str, Json]]]) -> dict[str, Any]:
    """Shares by system under each title, and where they and their intervals lie, in percent of the axis's width; every
    other tick is left out where the axis is short."""
    ratios = [ratio for _, of in rows for ratio in of.values()]
    ends = [ratio[end] for ratio in ratios for end in ("low", "high") if ratio[end] is not None] or [1.0]
    low, high = min(0.985, *ends) - 0.005, max(1.005, *ends) + 0.005

    def place(value: float | None) -> float | None:
        return None if value is None else round(100 * (value - low) / (high - low), 2)

    placed = [
        (title, of, {name: {end: place(ratio[end]) for end in ratio} for name, ratio in of.items()})
        for title, of in rows
    ]
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 1e9) if (high - low) / step <= 5)
    shares = [1.0 + step * n for n in range(math.ceil((low - 1) / step), math.floor((high - 1) / step) + 1)]
    ticks = [(place(share), f"{share:.0%}", round((share - 1) / step) % 2 == 1) for share in shares]
    return {"rows": placed, "one": place(1.0), "ticks": ticks}


def _waterfall(system: Json) -> list[dict[str, Any]]:
    """Each step, with the width of its bars and the place of its NDCG@10, in percent."""
    steps = [step for step in system["steps"] if step["before"]["bytes"] and step["after"]["bytes"]]
    if not steps:
        return []
    widest = max(step[side]["bytes"] for step in steps for side in ("before", "after"))
    values = [_figure(step[side]) for step in steps for side in ("before", "after")]
    known = [value for value in values if value is not None] or [0.0]
    margin = 0.15 * (max(known) - min(known)) or 0.01
    low, high = min(known) - margin, max(known) + margin

    def place(value: float | None) -> float | None:
        return None if value is None else round(100 * (value - low) / (high - low), 2)

    return [
        {
            "step": step,
            "detail": flatten(step.get("detail") or {}),
            "solid": round(100 * min(step["before"]["bytes"], step["after"]["bytes"]) / widest, 2),
            "changed": round(100 * abs(step["before"]["bytes"] - step["after"]["bytes"]) / widest, 2),
            "grew": step["after"]["bytes"] > step["before"]["bytes"],
            "before_at": place(_figure(step["before"])),
            "after_at": place(_figure(step["after"])),
        }
        for step in steps
    ]


def _figure(side: Json) -> float | None:
    """What validation chose by: NDCG@10, or a pointwise model's AUC."""
    return side.get("ndcg10", side.get("auc"))


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__ or "pocketrec.benchmarks", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    ours: dict[str, Callable[..., Any]] = {
        "show": _show,
        "interval": interval_text,
        "metric_title": metric_title,
        "flatten": flatten,
    }
    environment.filters.update(ours)
    return environment.get_template("report.html.jinja")


def _show(value: float | None, kind: str) -> Markup:
    """A figure with the number behind it."""
    text = escape(FORMATS[kind](value))
    return Markup(f'<data value="{escape(value)}">{text}</data>') if value is not None else text
