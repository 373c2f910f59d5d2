"""The README says what is true: its tables are those of the committed results, its code runs."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from pocketrec.benchmarks.readme_tables import TABLES, main, read_results, render


@pytest.fixture(scope="module")
def readme(repository: Path) -> str:
    return (repository / "README.md").read_text(encoding="utf-8")


def test_tables_are_those_of_the_results(repository: Path, readme: str):
    results = read_results(repository / "benchmarks" / "results")
    pages = readme
    for page in ("README.md", "docs/adaptation.md", "docs/scale.md", "docs/students.md"):
        text = (repository / page).read_text(encoding="utf-8")
        assert render(text, results) == text, (
            f"run `python -m pocketrec.benchmarks.readme_tables {page} benchmarks/results`"
        )
        pages += text
    assert {name for name in TABLES if re.search(rf"<!-- results:{name} -->\n[|M-]", pages)} | {
        "families"
    } == set(TABLES)  # which stands there once its rows are measured


def test_a_changed_figure_is_noticed(repository: Path, readme: str, tmp_path: Path):
    edited = tmp_path / "README.md"
    edited.write_text(re.sub(r"\*\*(\d+\.\d)x\*\*", "**99.9x**", readme), encoding="utf-8")
    assert main([str(edited), str(repository / "benchmarks" / "results"), "--check"]) == 1
    assert main([str(edited), str(repository / "benchmarks" / "results")]) == 0
    assert edited.read_text(encoding="utf-8") == readme


def test_the_snippet_runs(repository: Path, readme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    snippet = next(
        code for code in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "Reranker" in code
    )
    shutil.copy(repository / "tests" / "runtime" / "data" / "tiny-range.pocket", tmp_path / "beauty.pocket")
    monkeypatch.chdir(tmp_path)
    found: dict[str, object] = {}
    exec(compile(snippet, "README.md", "exec"), found)  # noqa: S102 -- our own README
    assert [item.item_id for item in found["ranked"]] != []  # type: ignore[attr-defined]
    assert len(found["top"]) == 10  # type: ignore[arg-type]
    assert (tmp_path / "state.bin").stat().st_size > 0


def test_the_recipe_is_one(readme: str):
    from pocketrec.compress.recipe import RECIPES, recipe_from_mapping

    text = re.search(r"```toml\n(.*?)```", readme, re.DOTALL)
    assert text is not None
    recipe = recipe_from_mapping(tomllib.loads(text[1]), "balanced", "README.md")
    assert recipe == RECIPES["balanced"], "the README shows the default recipe"
