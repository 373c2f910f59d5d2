"""The results object as text for a terminal: what was kept, how fast, how large, and against what.

ASCII only, numbers aligned to the right, the same figures and units as the report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .bench_gates import gate_text
from .number_format import (
    DASH,
    TIMES,
    bytes_text,
    count_text,
    flatten,
    interval_text,
    metric_text,
    metric_title,
    millijoules_text,
    ms_text,
    operation_title,
    percent_text,
    protocol_text,
    rate_text,
    ratio_text,
    watts_text,
)

Json = Mapping[str, Any]
Row = tuple[str, ...]


def results_lines(results: Json) -> Iterator[str]:
    """The lines that `pocketrec bench` prints."""
    data, settings, machine = results["data"], results["settings"], results["machine"]
    if settings["protocol"] == "labelled":
        yield f"{data['source']}: {count_text(data['users_evaluated'])} labelled test rows, {settings['split']['kind']} split"
    else:
        yield (
            f"{data['source']}: {count_text(data['users_evaluated'])} users, full ranking, {protocol_text(settings)}, "
            + ("repeats kept" if settings["keep_repeats"] else "history masked")
        )
    if data["repeated_targets"]:
        yield (
            f"{count_text(data['repeated_targets'])} targets lie in their user's history and count as misses; "
            "--keep-repeats lets them be found"
        )
    yield from _section("accuracy", _accuracy(results))
    if results["comparisons"]:
        yield from _section(f"kept of {results['reference']} (95% interval, paired)", _kept(results))
    yield from _section(f"latency on {settings['device']}, {machine['cpu']}", _latency(results))
    if results.get("first_calls"):
        yield from _section("first calls, in no distribution above", _first_calls(results))
    if results.get("device_times"):
        yield from _section("on the device, its copies apart (p50)", _device_times(results))
    if results.get("energy"):
        yield from _section("energy", _energy(results["energy"]))
    yield from _section("bytes", _sizes(results))
    yield from _section("peak memory", _memory(results))
    if results.get("gates"):
        yield from _section("limits", [(_plain_ascii(gate_text(gate)),) for gate in results["gates"]])
    if results.get("notes"):
        yield from _section("notes", [(_plain_ascii(note),) for note in results["notes"]])
    for system in results["systems"]:
        recorded = flatten(system["recorded"])
        if recorded and not results["comparisons"]:
            rows = [(_plain(name), _plain(value)) for name, value in recorded]
            yield from _section(f"recorded when {system['name']} was compressed", rows)


def aligned(rows: Sequence[Row]) -> list[str]:
    """Columns as wide as their widest cell: the first to the left, the others to the right.

    >>> print("\\n".join(aligned([("system", "bytes"), ("beauty", "421 kB")])))
    system   bytes
    beauty  421 kB
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _section(title: str, rows: Sequence[Row]) -> Iterator[str]:
    yield ""
    yield title
    yield from (f"  {line}" for line in aligned([tuple(_plain_ascii(cell) for cell in row) for row in rows]))


def _accuracy(results: Json) -> list[Row]:
    metrics = list(results["popularity"]["metrics"])
    rows: list[Row] = [("", *(metric_title(name) for name in metrics), "coverage@10")]
    for name, found in [
        *((s["name"], s["accuracy"]) for s in results["systems"]),
        ("popularity", results["popularity"]),
    ]:
        values = (metric_text(found["metrics"][metric]["value"]) for metric in metrics)
        rows.append((name, *values, percent_text(found["coverage"].get("coverage@10"))))
    return rows


def _kept(results: Json) -> list[Row]:
    names = [
        name
        for name in ("ndcg@10", "hr@10", "mrr@10", "auc", "log_loss")
        if name in results["popularity"]["metrics"]
    ]
    rows: list[Row] = [
        ("", "size", *(cell for name in names for cell in (metric_title(name), "")), "same top 10")
    ]
    for name, comparison in results["comparisons"].items():
        cells = [name, f"{ratio_text(comparison['size_ratio'])} smaller"]
        for metric in names:
            ratio = comparison["accuracy"]["metrics"][metric]["ratio"]
            cells += [percent_text(ratio["value"]), interval_text(ratio, "percent")]
        rows.append((*cells, percent_text(comparison["accuracy"]["overlap"].get("overlap@10"))))
    return rows


def _latency(results: Json) -> list[Row]:
    rows: list[Row] = [("", "system", "threads", "p50", "p90", "p99", "max", "throughput", "speed-up", "")]
    before = None
    for row in results["latency"]:
        title = operation_title(row["operation"], row["size"])
        speedup = row["speedup"]
        if speedup is None:
            claim = ("", "")
        elif speedup["told_apart"]:
            claim = (ratio_text(speedup["ratio"]["value"]), interval_text(speedup["ratio"], "ratio"))
        else:
            claim = ("not told apart", "")
        quantiles = [ms_text(row[q]["value"]) if q in row else "" for q in ("p50", "p90", "p99")]
        quantiles.append(ms_text(row["max_ms"]))
        of = (title if title != before else "", row["system"], str(row["threads"]))
        rows.append((*of, *quantiles, rate_text(row["per_second"]), *claim))
        before = title
    return rows


def _first_calls(results: Json) -> list[Row]:
    names = ("load_ms", "rerank_ms", "recommend_ms")
    rows: list[Row] = [("system", "threads", "load", "re-rank", "recommend")]
    return rows + [
        (call["system"], str(call["threads"]), *(ms_text(call[name]) for name in names))
        for call in results["first_calls"]
    ]


def _device_times(results: Json) -> list[Row]:
    rows: list[Row] = [
        ("graph", "system", "precision", "first run", "copy in", "run", "copy out", "bytes in", "out", "copies inside", "float16")
    ]  # fmt: skip
    for row in results["device_times"]:
        steps = (ms_text(row[step]["p50"]["value"]) for step in ("copy_in", "run", "copy_out"))
        verdict = "" if row["kept"] is None else device_verdict(row)
        of = (row["graph"], row["system"], row["precision"], ms_text(row["first_ms"]), *steps)
        rows.append(
            (*of, *(count_text(row[name]) for name in ("bytes_in", "bytes_out", "copies_inside")), verdict)
        )
    return rows


def device_verdict(row: Json) -> str:
    """Whether a float16 copy is worth it, and why."""
    faster = (
        ratio_text(row["speedup"]["ratio"]["value"]) if row["speedup"]["told_apart"] else "not told apart"
    )
    return f"{'kept' if row['kept'] else 'not kept'}: {faster}, same top 10 {percent_text(row['agreement'])}"


def _energy(energy: Json) -> list[Row]:
    rows: list[Row] = [("", "system", "energy a call", "power", f"(idle {watts_text(energy['idle_watts'])})")]
    return rows + [
        (
            operation_title(row["operation"], row["size"]),
            row["system"],
            millijoules_text(row["millijoules"]["value"]),
            watts_text(row["watts"]),
            "",
        )
        for row in energy["rows"]
    ]


def _sizes(results: Json) -> list[Row]:
    systems = results["systems"]
    names = list(dict.fromkeys(part["name"] for system in systems for part in system["parts"]))
    sizes = [{part["name"]: part["bytes"] for part in system["parts"]} for system in systems]
    rows: list[Row] = [("", *(system["name"] for system in systems))]
    rows += [(name, *(count_text(size.get(name)) for size in sizes)) for name in names]
    rows.append(("total", *(count_text(system["size_bytes"]) for system in systems)))
    if any(system["checkpoint_ratio"] for system in systems):
        rows.append(
            ("smaller than the checkpoint", *(ratio_text(system["checkpoint_ratio"]) for system in systems))
        )
    return rows


def _memory(results: Json) -> list[Row]:
    rows: list[Row] = [("", "re-rank", "added", "recommend", "added")]
    baseline = bytes_text(results["memory_baseline_bytes"])
    rows.append(("numpy and onnxruntime", baseline, "", baseline, ""))
    for system in results["systems"]:
        cells = [
            bytes_text(system["memory"][task][figure])
            for task in ("rerank", "recommend")
            for figure in ("peak_bytes", "added_bytes")
        ]
        rows.append((system["name"], *cells))
    return rows


def _plain(value: Any) -> str:
    """One printable line, whatever a manifest holds."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if text.isprintable() else repr(text)


def _plain_ascii(text: str) -> str:
    return text.replace(TIMES, "x").replace(DASH, "-").replace("µ", "u").replace("≥", ">=")
