"""docs/runtime.md says what is true: its examples run, one after the other."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "runtime.md"
DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def text() -> str:
    return DOCS.read_text(encoding="utf-8")


def test_the_examples_run(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(DATA / "tiny-taste.pocket", tmp_path / "model.pocket")
    shutil.copy(DATA / "tiny-range.pocket", tmp_path / "newer.pocket")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = list(re.finditer(r"```python\n(.*?)```", text, re.DOTALL))
    for block in blocks:
        first_line = text.count("\n", 0, block.start()) + 2
        source = "\n" * (first_line - 1) + block[1]  # so that a traceback has the lines of the page
        exec(compile(source, str(DOCS), "exec"), names)  # noqa: S102 -- our own page
    assert len(blocks) >= 15
    assert names["late"].history == [9, 5]
    assert {path.name for path in tmp_path.iterdir()} >= {"state.bin", "users.db", "states-of-alice"}
    assert not (tmp_path / "alice.bin").exists()


def test_its_links_lead_somewhere(text: str) -> None:
    headings = {
        re.sub(r"[^\w -]", "", line[3:]).lower().replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("## ")
    }
    assert {*re.findall(r"\]\(#([\w-]+)\)", text)} <= headings
