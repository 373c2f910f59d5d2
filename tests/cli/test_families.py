"""The families table: a row is a checkpoint's default recipe, and the README's line of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pocketrec.benchmarks.readme_tables import families_table, read_results
from pocketrec.cli import families
from pocketrec.compress import recipe as recipes
from pocketrec.compress.recipe import RECIPES


@pytest.fixture
def one_row(monkeypatch: pytest.MonkeyPatch, tiny_road) -> families.Row:
    """The tiny model as the only checkpoint, and a default recipe that takes seconds."""
    row = families.Row(
        name="tiny-sasrec", family="SASRec", framework="ours", data_name="a circle", checkpoint=tiny_road.checkpoint.name,
        data=tiny_road.data.name, published=0.7, masks_history=False,
    )  # fmt: skip
    monkeypatch.setattr(families, "ROWS", (row,))
    monkeypatch.setattr(families, "ROUNDS", 30)
    monkeypatch.setitem(recipes.RECIPES, "balanced", RECIPES["lossless"])
    return row


@pytest.mark.usefixtures("export_once")
def test_a_row(one_row: families.Row, tiny_road, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, results = tiny_road.checkpoint.parent, tmp_path / "results"
    args = [
        "--checkpoints", str(folder), "--data", str(folder), "--out", str(tmp_path / "out"),
        "--json-dir", str(results / "families"),
    ]  # fmt: skip
    assert families.main(args) == 0
    said = capsys.readouterr().out
    assert "table " in said
    found = json.loads((results / "families/tiny-sasrec.json").read_text())
    assert found["ratio"] == found["checkpoint_bytes"] / found["size_bytes"]
    assert found["size_bytes"] == (tmp_path / "out/tiny-sasrec.pocket").stat().st_size
    assert found["teacher_bytes"] == (tmp_path / "out/tiny-sasrec.teacher.pocket").stat().st_size
    # nobody of the circle meets an item twice, so masking the history can only help
    assert found["reproduced"] <= found["accuracy"]["teacher"]["ndcg@10"]["value"]
    assert found["reproduced"] > 0.4
    assert found["kept"]["ndcg@10"]["value"] > 0.95
    assert (found["rerank"]["candidates"], found["rerank"]["n"]) == (50, 30)  # there are no more items
    assert set(found["rerank"]["p50_ms"]) == {"teacher", "bundle"}
    assert found["machine"]["cores"] >= 1
    assert str(folder) not in json.dumps(found)

    header, rule, line = families_table(read_results(results))
    assert header.count("|") == rule.count("|") == line.count("|")
    assert line.startswith("| SASRec | ours, a circle | 0.7000 | 0.")

    assert families.main(args) == 0  # the bundles are there: measured again, not made again
    assert "table " not in capsys.readouterr().out


def test_a_row_that_fails_is_said_and_the_exit_code_is_1(
    one_row: families.Row, tiny_road, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = [
        "--checkpoints",
        str(tmp_path),
        "--data",
        str(tiny_road.data.parent),
        "--out",
        str(tmp_path / "out"),
    ]
    assert families.main([*args, "--json-dir", str(tmp_path / "json")]) == 1
    assert "not measured: tiny-sasrec" in capsys.readouterr().err
    assert list((tmp_path / "json").iterdir()) == []


@pytest.mark.shared
def test_every_row_has_its_files(shared: Path) -> None:
    for row in families.ROWS:
        assert (shared / "checkpoints" / row.checkpoint).is_file(), row.name
        assert (shared / "data" / row.data).is_file(), row.name
    assert len({row.name for row in families.ROWS}) == len(families.ROWS)
