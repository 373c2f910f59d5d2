"""`pocketrec report`: exit codes, outputs, and what is no results file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pocketrec.cli.main import main

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "beauty-icsrec.json"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """The committed results, and the same with a bundle of twice the size."""
    run: dict[str, Any] = json.loads(RESULTS.read_text())
    run["systems"][1]["size_bytes"] *= 2
    after = tmp_path / "after.json"
    after.write_text(json.dumps(run))
    return RESULTS, after


def test_one_run_is_shown_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    markdown, html = tmp_path / "out.md", tmp_path / "out.html"
    assert main(["report", str(RESULTS), "--markdown", str(markdown), "--html", str(html)]) == 0
    assert "NDCG@10" in capsys.readouterr().out
    assert "| bundle |" in markdown.read_text()
    assert html.read_text().startswith("<!doctype html>")


def test_a_regression_is_exit_1_and_named(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", *map(str, files)]) == 1
    assert "1 of" in (error := capsys.readouterr().err)
    assert "bundle bytes -100.0%" in error
    assert main(["report", *map(str, reversed(files))]) == 0
    assert main(["report", *map(str, files), "--max-size", "100%"]) == 0


def test_markdown_alone_on_the_terminal(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    main(["report", *map(str, files), "--markdown", "-"])
    assert capsys.readouterr().out.startswith("### 1 regression")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[1]", "schema_version None"),
        ('{"schema_version": 99}', "schema_version 99, expected 1"),
        ('{"schema_version": 1}', "without systems, data"),
    ],
)
def test_what_is_no_results_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    assert main(["report", str(path)]) == 2
    assert said in (error := capsys.readouterr().err)
    assert error.count("\n") == 1


def test_three_runs_are_too_many(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", *[str(RESULTS)] * 3]) == 2
    assert "expected one run to show, or two to compare" in capsys.readouterr().err
