"""The README's table of recipes: one line a result, gentlest recipe first."""

from __future__ import annotations

from typing import Any

from pocketrec.benchmarks.readme_tables import TABLES
from pocketrec.benchmarks.recipes_table import HEAD
from pocketrec.cli import families, recipes


def result(size_bytes: int) -> dict[str, Any]:
    def ndcg(value: float) -> dict[str, Any]:
        return {"ndcg@10": {"value": value, "low": value - 0.01, "high": value + 0.01}}

    return {
        "family": "SASRec", "framework": "ours", "data_name": "a circle", "checkpoint_bytes": 2_000_000,
        "size_bytes": size_bytes, "ratio": 2_000_000 / size_bytes,
        "accuracy": {"teacher": ndcg(0.5), "accuracy": ndcg(0.495)}, "kept": ndcg(0.99),
        "rerank": {"p50_ms": {"teacher": {"value": 0.25}, "bundle": {"value": 0.1}}},
    }  # fmt: skip


def test_rows() -> None:
    results = {
        "recipes/circle-tiny": result(100_000),
        "recipes/circle-lossless": result(400_000),
        "families/circle": result(1),
    }
    lines = TABLES["recipes"](results)
    assert tuple(lines[:2]) == HEAD
    assert lines[2:] == [
        "| `lossless` | SASRec, ours, a circle | 2.00 MB | 400 kB | **5.0x** | 0.5000 | 0.4950 | **99.0%** (98.0% to 100.0%) | 250 us | 100 us |",
        "| `tiny` | SASRec, ours, a circle | 2.00 MB | 100 kB | **20.0x** | 0.5000 | 0.4950 | **99.0%** (98.0% to 100.0%) | 250 us | 100 us |",
    ]
    assert all(line.count("|") == HEAD[0].count("|") for line in lines)


def test_what_is_measured_is_there() -> None:
    from pocketrec.benchmarks.recipes_table import RECIPES
    from pocketrec.compress.recipe import RECIPES as KNOWN

    assert set(RECIPES) <= set(KNOWN)
    assert set(recipes.CHECKPOINTS) <= {row.name for row in families.ROWS}


def test_a_pair_is_compressed_and_measured(monkeypatch, tmp_path) -> None:
    """The command that each result names; compressing itself is tested elsewhere."""
    asked = list[list[str]]()
    monkeypatch.setattr(families, "pocketrec", lambda command: asked.append(command) or 1)
    args = [
        "--checkpoints",
        "c",
        "--data",
        "d",
        "--out",
        str(tmp_path / "o"),
        "--json-dir",
        str(tmp_path / "j"),
    ]
    assert recipes.main([*args, "--only", "icsrec-sasrec", "--recipe", "tiny"]) == 1, "it failed, and says so"
    assert [command[0] for command in asked] == ["compress"]
    assert asked[0][asked[0].index("--recipe") + 1] == "tiny"
    assert asked[0][asked[0].index("-o") + 1] == str(tmp_path / "o" / "icsrec-sasrec-tiny.pocket")
