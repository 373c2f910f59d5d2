"""The peers' results as a table: for the terminal and, in Markdown, for the README."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..results_table import aligned

Json = Mapping[str, Any]
ORDER = {"float32": 0, "teacher": 1, "bundle": 2, "peer": 3}
HEADER = (
    "", "bytes", "NDCG@10", "kept (95% interval)", "top-10 agreement", "100 candidates, p50", "catalogue, p50",
    "app's re-rank, p50", "app's recommend, p50", "memory added",
)  # fmt: skip


def peers_rows(results: Json) -> list[tuple[str, ...]]:
    """A header and a row for each contestant: ours first, then the peers; what failed says why."""
    rows: list[tuple[str, ...]] = [HEADER]
    for entry in sorted(results["contestants"], key=lambda entry: ORDER[entry["kind"]]):
        if entry["error"] is not None:
            rows.append((title(entry), f"did not work: {entry['error']}", *[""] * (len(HEADER) - 2)))
            continue
        kept = entry["kept"]["ndcg@10"]["ratio"]
        memory = (entry["memory"] or {}).get("recommend", {})
        added = memory.get("added_bytes", 0)
        rows.append(
            (
                title(entry),
                size_text(entry["size_bytes"]),
                f"{entry['accuracy']['metrics']['ndcg@10']['value']:.4f}",
                f"{kept['value']:.1%} ({kept['low']:.1%} to {kept['high']:.1%})",
                f"{entry['overlap']['overlap@10']:.3f}",
                *(
                    _p50(entry, name)
                    for name in ("score candidates", "best of catalogue", "rerank", "recommend")
                ),
                size_text(added) if memory else "",
            )
        )
    return rows


def title(entry: Json) -> str:
    """How a contestant is called in a table."""
    match entry["kind"]:
        case "bundle":
            return f"pocketrec, {entry['recipe'] or entry['name']}"
        case "teacher":
            return "pocketrec, float32"
        case "float32":
            return "onnxruntime, float32"
        case _:
            return str(entry["name"])


def peers_lines(results: Json) -> list[str]:
    """For the terminal."""
    model = results["model"]
    head = f"{model['checkpoint']}: {model['items']:,} items x {model['width']}; {results['settings']['users']:,} users ranked"
    rows = peers_rows(results)
    worked = [row for row in rows if not row[1].startswith("did not work")]
    failed = [f"{row[0]}: {row[1]}" for row in rows if row[1].startswith("did not work")]
    return [head, *aligned(worked), *failed]


def size_text(size: int) -> str:
    """391 kB, 3.52 MB."""
    return f"{size / 1e6:.2f} MB" if abs(size) >= 1e6 else f"{size / 1e3:.0f} kB"


def _p50(entry: Json, operation: str) -> str:
    found = entry["latency"][operation]
    if found is None:
        return "not possible"
    return time_text(found["p50"]["value"])


def time_text(ms: float) -> str:
    """172 us, 1.13 ms."""
    return f"{ms:.2f} ms" if ms >= 1 else f"{ms * 1e3:.0f} us"


def peers_markdown(results: Json, title_text: str = "") -> list[str]:
    """For the README: the columns of `peers_rows`, ours in bold, versions beside the names; what failed keeps its row."""
    lines = [f"| {' | '.join((title_text, *HEADER[1:]))} |", f"|{'---|' * len(HEADER)}"]
    entries = sorted(results["contestants"], key=lambda entry: ORDER[entry["kind"]])
    for entry, cells in zip(entries, peers_rows(results)[1:], strict=True):
        name = f"**{cells[0]}**" if entry["kind"] == "bundle" else cells[0]
        package = PACKAGES.get(entry["name"])
        if package in entry["versions"]:
            name = f"{name} ({entry['versions'][package]})"
        lines.append(f"| {' | '.join((name, *cells[1:]))} |")
    return lines


PACKAGES = {
    "onnxruntime dynamic": "onnxruntime",
    "onnxruntime dynamic, best flags": "onnxruntime",
    "onnxruntime static": "onnxruntime",
    "optimum-cli": "optimum",
    "Olive": "olive-ai",
    "ModelOpt": "nvidia-modelopt",
    "neural-compressor": "neural-compressor",
    "torchao": "torchao",
}
"""Whose version a row shows."""


def vectors_markdown(results: Json) -> list[str]:
    """For the README: a row for each way to find the ten best of a table."""
    table = results["table"]
    head = f"{table['items']:,} x {table['width']}"
    lines = [f"| {head} | bytes | recall@10 | p50 | over numpy |", "|---|---|---|---|---|"]
    for row in results["rows"]:
        name = f"**{row['name']}**" if row["name"].startswith("pocketrec") else row["name"]
        if row["error"]:
            lines.append(f"| {name} | did not work: {row['error']} | | | |")
            continue
        found = row["latency"]
        cells = (
            name,
            size_text(row["size_bytes"]),
            f"{row['recall']:.3f}",
            time_text(found["p50"]["value"]),
            f"{found['speedup']['ratio']['value']:.2f}x",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines
