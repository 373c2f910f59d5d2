"""Tables of the studies: what each part of distillation brings, what each form of an encoder costs and keeps, and schedules of
pruning, from the JSON of `compress.distillation_study`, `compress.encoder_study` and `compress.pruning_study`."""

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


def encoder_table(results: Mapping[str, Json]) -> list[str]:
    """Each form: bytes, NDCG@10 kept, and the time of a history as a share of float's."""
    found = results[f"{FRONTIER}encoder"]
    exact = found["rows"][0]
    lines = [
        "| form | learned | bytes | NDCG@10 kept, validation (95% interval) | time, people's histories | the longest |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        times = [
            f"{row[name] / exact[name]:.2f}" if name in row else "as above"
            for name in ("encode_us", "longest_us")
        ]
        lines.append(
            f"| `{row['form']}` | {row['learned']} | {row['bytes']:,} | {_kept(row)} | {times[0]} | {times[1]} |"
        )
    return lines


def schedules_table(results: Mapping[str, Json]) -> list[str]:
    """Cut at once and in rounds, with as much learning."""
    lines = [
        "| cut in | epochs in all | numbers cut | NDCG@10 kept, validation (95% interval) |",
        "|---|---|---|---|",
    ]
    for row in results[f"{FRONTIER}pruning"]["schedules"]:
        rounds = "one go" if row["rounds"] == 1 else f"{row['rounds']} rounds"
        lines.append(f"| {rounds} | {row['epochs']} | {row['parameters_cut']:,} | {_kept(row)} |")
    return lines


def _kept(row: Json) -> str:
    kept = row["kept"]
    return f"{kept['value']:.1%} ({kept['low']:.1%} to {kept['high']:.1%})"
