"""The study of importances on a tiny teacher: every importance has a row, and all of them cut the same amount."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pocketrec.compress.pruning_study import main
from pocketrec.runtime.errors import InputError


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


def test_schedules_cut_as_much_in_as_many_epochs(tiny_road, tmp_path: Path, capsys) -> None:
    out = tmp_path / "schedules.json"
    call = [str(tiny_road.checkpoint), "--data", str(tiny_road.data), "--json", str(out)]
    assert main([*call, "--batches", "1", "--users", "50", "--epochs", "2"]) == 0
    once, rounds = json.loads(out.read_text())["schedules"]
    assert (once["rounds"], rounds["rounds"]) == (1, 2)
    assert once["epochs"] == rounds["epochs"] == 2
    assert once["parameters_cut"] == rounds["parameters_cut"] > 0
    assert "2 rounds, 2 epochs in all" in capsys.readouterr().out


def test_epochs_below_nought_are_refused(tiny_road, tmp_path: Path) -> None:
    call = [str(tiny_road.checkpoint), "--data", str(tiny_road.data), "--json", str(tmp_path / "x.json")]
    with pytest.raises(InputError, match="--epochs: -1, expected at least 0"):
        main([*call, "--epochs", "-1"])
