"""The study of importances on a tiny teacher: every importance has a row, and all of them cut the same amount."""

from __future__ import annotations

import json
from pathlib import Path

from pocketrec.compress.pruning_study import main


def test_every_importance_cuts_as_much(tiny_road, tmp_path: Path, capsys) -> None:
    out = tmp_path / "pruning.json"
    call = [str(tiny_road.checkpoint), "--data", str(tiny_road.data), "--json", str(out)]
    assert main([*call, "--batches", "1", "4", "--users", "50"]) == 0
    result = json.loads(out.read_text())
    rows = result["rows"]
    assert [(row["importance"], row["batches"]) for row in rows] == [
        ("taylor", 1), ("taylor", 4), ("fisher", 1), ("fisher", 4), ("magnitude", 0),
    ]  # fmt: skip
    assert len({row["parameters_cut"] for row in rows}) == 1
    assert rows[0]["parameters_cut"] > 0
    assert all(0 <= row["kept"]["value"] <= 2 for row in rows)
    assert result["users"] == 50
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(rows)
