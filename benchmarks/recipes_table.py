"""The README's table of what each named recipe gives, from the files of `python -m pocketrec.cli.recipes`.

A file is one checkpoint with one recipe, named `CHECKPOINT-RECIPE`; rows that are not measured yet are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RECIPES = ("lossless", "balanced", "tiny")
"""Gentlest first."""
HEAD = (
    "| recipe | teacher | weights | bundle | ratio | NDCG@10 teacher | bundle | kept (95% interval) | re-rank 100, teacher | bundle |",
    "|---|---|---|---|---|---|---|---|---|---|",
)


def recipe_rows(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The table's lines; `found` are results by `CHECKPOINT-RECIPE`."""
    lines = list[str](HEAD)
    for recipe in RECIPES:
        for name in sorted(found):
            if not name.endswith(f"-{recipe}"):
                continue
            row = found[name]
            kept, times, accuracy = row["kept"]["ndcg@10"], row["rerank"]["p50_ms"], row["accuracy"]
            cells = (
                f"`{recipe}`",
                f"{row['family']}, {row['framework']}, {row['data_name']}",
                _bytes(row["checkpoint_bytes"]),
                _bytes(row["size_bytes"]),
                f"**{row['ratio']:.1f}x**",
                *(f"{accuracy[system]['ndcg@10']['value']:.4f}" for system in ("teacher", "accuracy")),
                f"**{kept['value']:.1%}** ({kept['low']:.1%} to {kept['high']:.1%})",
                *(f"{times[system]['value'] * 1e3:.0f} us" for system in ("teacher", "bundle")),
            )
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _bytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
