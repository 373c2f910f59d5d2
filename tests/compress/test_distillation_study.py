"""The study on a tiny teacher: rows are made once, the file grows, and the gap is what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pocketrec.compress import distillation_study
from pocketrec.compress.distillation_study import main, study_rows, with_recovered
from pocketrec.runtime.errors import InputError


def test_every_row_has_its_lone_student() -> None:
    rows = study_rows(2)
    for name, row in rows.items():
        if row.alone is None:
            assert (row.distill.soft_weight, row.distill.hidden_weight, row.student.start) == (0, 0, "noise")
        else:
            assert rows[row.alone].alone is None
            assert rows[row.alone].bits == row.bits, name


def test_nothing_is_recovered_of_no_gap() -> None:
    rows = [{"name": "a", "alone": None, "test_ndcg10": 0.4}, {"name": "b", "alone": "a", "test_ndcg10": 0.5}]
    assert [row["recovered"] for row in with_recovered(rows, {"test_ndcg10": 0.4})] == [None, None]
    assert with_recovered(rows[1:], {"test_ndcg10": 0.6})[0]["recovered"] is None


def test_it_goes_on_where_it_stopped(tiny_road, tmp_path: Path, monkeypatch, capsys, export_once) -> None:
    monkeypatch.setattr(distillation_study, "FAR", {"epochs": 1, "table_learning_rate": 3e-3})
    out = tmp_path / "study.json"
    call = [str(tiny_road.checkpoint), "--data", str(tiny_road.data), "--json", str(out), "--rows"]
    assert main([*call, "pooled: alone"]) == 0
    first = json.loads(out.read_text())
    assert [row["name"] for row in first["rows"]] == ["pooled: alone"]
    assert first["rows"][0]["recovered"] is None
    assert main([*call, "pooled: alone;pooled: soft targets, user"]) == 0
    rows = {row["name"]: row for row in json.loads(out.read_text())["rows"]}
    assert rows["pooled: alone"] == first["rows"][0]
    taught, teacher = rows["pooled: soft targets, user vectors"], first["teacher"]
    assert taught["parameters"] != teacher["parameters"]
    gap = teacher["test_ndcg10"] - rows["pooled: alone"]["test_ndcg10"]
    assert taught["recovered"] == pytest.approx(
        (taught["test_ndcg10"] - rows["pooled: alone"]["test_ndcg10"]) / gap, abs=1e-3
    )
    assert "of the gap recovered" in capsys.readouterr().out
    with pytest.raises(InputError, match="no such row"):
        main([*call, "nobody"])
