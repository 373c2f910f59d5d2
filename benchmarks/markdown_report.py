"""Results as Markdown: for pull requests and issue threads, the same figures as the report's.

Text from a manifest or a file name cannot end a table's cell or start markup of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .bench_gates import gate_text
from .compare_results import Change, Thresholds, regressions
from .number_format import (
    bytes_text,
    count_text,
    interval_text,
    metric_text,
    ms_text,
    operation_title,
    percent_text,
    protocol_text,
    ratio_text,
)

Json = Mapping[str, Any]


def results_markdown(results: Json) -> str:
    """One run of `pocketrec bench`: accuracy, size, latency, memory, and how to measure it again."""
    return "\n".join(_results(results)) + "\n"


def comparison_markdown(
    before: Json, after: Json, changes: Sequence[Change], notes: Sequence[str], thresholds: Thresholds
) -> str:
    """Two runs: the verdict first, what changed, then everything that was compared."""
    worse = regressions(list(changes))
    lines = [
        f"### {len(worse)} regression{'' if len(worse) == 1 else 's'}" if worse else "### No regression",
        "",
    ]
    lines.append(
        f"Tolerated: accuracy {thresholds.accuracy:.1%}, size {thresholds.size:.1%}, "
        f"latency {thresholds.latency:.0%}, memory {thresholds.memory:.0%}."
    )
    header = ("bundle", "figure", "before", "after", "better by", "")
    for title, rows in (("Changed", [c for c in changes if c.verdict != "same"]), ("Everything", changes)):
        if rows:
            lines += ["", f"#### {title}", "", *_table(header, [change.cells() for change in rows])]
    lines += ["", *(f"- {_cell(note)}" for note in notes)] if notes else []
    lines += ["", f"Before: {_cell(before['created'])}. After: {_cell(after['created'])}."]
    return "\n".join(lines) + "\n"


def _results(results: Json) -> Iterator[str]:
    data, settings, machine = results["data"], results["settings"], results["machine"]
    yield (
        f"**{_cell(data['source'])}**: {count_text(data['users_evaluated'])} users, {_cell(protocol_text(settings))}, full ranking, "
        f"{'repeats kept' if settings['keep_repeats'] else 'history masked'}"
    )
    yield ""
    yield from _table(
        ("", "size", "NDCG@10", "kept (95% interval)", "HR@10", "re-ranking adds"), list(_systems(results))
    )
    if results.get("gates"):
        yield ""
        yield from (f"- {_cell(gate_text(gate))}" for gate in results["gates"])
    yield ""
    header = ("operation", "threads", "bundle", "p50", "p99", "speed-up (95% interval)")
    yield from _table(header, list(_latency(results)))
    yield ""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    yield f"{_cell(machine['cpu'])}, {machine['cores']} cores; Python {_cell(machine['python'])}, {_cell(versions)}."
    if results.get("notes"):
        yield ""
        yield from (f"- {_cell(note)}" for note in results["notes"])
    if results["command"]:
        yield ""
        yield f"    {results['command']}"


def _systems(results: Json) -> Iterator[tuple[str, ...]]:
    for system in results["systems"]:
        comparison = results["comparisons"].get(system["name"])
        kept = comparison["accuracy"]["metrics"]["ndcg@10"]["ratio"] if comparison else None
        metrics = system["accuracy"]["metrics"]
        yield (
            system["name"],
            bytes_text(system["size_bytes"]),
            metric_text(metrics["ndcg@10"]["value"]),
            f"{percent_text(kept['value'])} ({interval_text(kept, 'percent')})" if kept else "",
            metric_text(metrics["hr@10"]["value"]),
            bytes_text(system["memory"]["rerank"]["added_bytes"]),
        )
    popular = results["popularity"]["metrics"]
    yield (
        "popularity", "", metric_text(popular["ndcg@10"]["value"]), "", metric_text(popular["hr@10"]["value"]), "",
    )  # fmt: skip


def _latency(results: Json) -> Iterator[tuple[str, ...]]:
    for row in results["latency"]:
        speedup = row["speedup"]
        claim = "" if speedup is None else "not told apart"
        if speedup is not None and speedup["told_apart"]:
            claim = f"{ratio_text(speedup['ratio']['value'])} ({interval_text(speedup['ratio'], 'ratio')})"
        yield (
            operation_title(row["operation"], row["size"]),
            str(row["threads"]),
            row["system"],
            ms_text(row["p50"]["value"]),
            ms_text(row["p99"]["value"]),
            claim,
        )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return lines + [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows]


def _cell(text: Any) -> str:
    """One line of plain text.

    >>> _cell("a|b*\\nc")
    'a\\\\|b\\\\* c'
    """
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", " ".join(str(text).split()))
