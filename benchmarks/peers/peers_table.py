"""The peers' results as a table: for the terminal and, in Markdown, for the README."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..results_table import aligned

Json = Mapping[str, Any]
HEADER = (
    "", "bytes", "NDCG@10", "kept (95% interval)", "top-10 agreement", "100 candidates, p50", "catalogue, p50", "memory added",
)  # fmt: skip


def peers_rows(results: Json) -> list[tuple[str, ...]]:
    """A header and a row for each contestant: ours first, then the peers; what failed says why."""
    order = {"float32": 0, "teacher": 1, "bundle": 2, "peer": 3}
    rows: list[tuple[str, ...]] = [HEADER]
    for entry in sorted(results["contestants"], key=lambda entry: order[entry["kind"]]):
        if entry["error"] is not None:
            rows.append((title(entry), f"did not work: {entry['error']}", *[""] * (len(HEADER) - 2)))
            continue
        kept = entry["kept"]["ndcg@10"]["ratio"]
        memory = (entry["memory"] or {}).get("recommend", {})
        added = memory.get("added_bytes", memory.get("peak_bytes", 0) - results["memory_baseline_bytes"])
        rows.append(
            (
                title(entry),
                size_text(entry["size_bytes"]),
                f"{entry['accuracy']['metrics']['ndcg@10']['value']:.4f}",
                f"{kept['value']:.1%} ({kept['low']:.1%} to {kept['high']:.1%})",
                f"{entry['overlap']['overlap@10']:.3f}",
                _p50(entry, "score candidates"),
                _p50(entry, "best of catalogue"),
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
    ms = found["p50"]["value"]
    return f"{ms:.2f} ms" if ms >= 1 else f"{ms * 1e3:.0f} us"
