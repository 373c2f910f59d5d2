"""The table of what each part of distillation brings, from `compress.distillation_study`'s JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]
FRONTIER = "frontier/"


def distillation_table(results: Mapping[str, Json]) -> list[str]:
    """Each student: bytes, validation and test NDCG@10, and the share of the gap to its teacher that it recovers."""
    found = results[f"{FRONTIER}distillation"]
    teacher = found["teacher"]
    lines = [
        "| student | bytes | numbers | NDCG@10, validation | test | kept (95% interval) | of the gap |",
        "|---|---|---|---|---|---|---|",
        f"| the teacher | {teacher['bytes']:,} | {teacher['parameters']:,} | {teacher['validation_ndcg10']:.4f}"
        f" | {teacher['test_ndcg10']:.4f} | | |",
    ]
    for row in found["rows"]:
        kept = row["kept"]
        recovered = "" if row["recovered"] is None else f"**{row['recovered']:.0%}**"
        lines.append(
            f"| {row['name']} | {row['bytes']:,} | {row['parameters']:,} | {row['validation_ndcg10']:.4f}"
            f" | {row['test_ndcg10']:.4f} | {kept['value']:.1%} ({kept['low']:.1%} to {kept['high']:.1%}) | {recovered} |"
        )
    return lines
