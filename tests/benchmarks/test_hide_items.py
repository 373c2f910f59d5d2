from __future__ import annotations

from pathlib import Path

import pytest

from pocketrec.benchmarks.hide_items import hidden_items, main
from pocketrec.benchmarks.interactions import read_interactions

ITEMS = [f"i{n}" for n in range(10)]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    rows = [f"u{user}\t{item}\t{1000 - 7 * n}" for user in range(3) for n, item in enumerate(ITEMS)]
    (tmp_path / "all.tsv").write_text("user_id\titem_id\ttimestamp\n" + "\n".join(rows) + "\n", "utf-8")
    titles = [f"{item}\tTitle of {item}" for item in ITEMS[:8]]  # two have none, and are never hidden
    (tmp_path / "items.tsv").write_text("item_id\ttitle\n" + "\n".join(titles) + "\n", "utf-8")
    return tmp_path / "all.tsv", tmp_path / "items.tsv"


def test_what_is_left_is_everything_else_in_order(files: tuple[Path, Path], tmp_path: Path) -> None:
    data, titles = files
    arguments = [data, "--items", titles, "--share", "0.25", "--seed", "3", "-o", tmp_path / "warm.tsv"]
    assert main([str(argument) for argument in arguments]) == 0
    before, after = read_interactions(data), read_interactions(tmp_path / "warm.tsv")
    hidden = set(before.item_ids) - set(after.item_ids)
    assert len(hidden) == 2
    assert hidden <= set(ITEMS[:8])
    for u in range(3):
        met = [before.item_ids[row] for row in before.history(u)]
        assert [after.item_ids[row] for row in after.history(u)] == [
            item for item in met if item not in hidden
        ]
    assert after.times is not None


def test_the_seed_decides() -> None:
    assert hidden_items(ITEMS, 0.3, seed=1) == hidden_items(ITEMS, 0.3, seed=1)
    assert len({frozenset(hidden_items(ITEMS, 0.3, seed=seed)) for seed in range(20)}) > 10
    assert hidden_items(ITEMS, 0.0, seed=0) == set()


def test_mistakes_are_told_in_a_line(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, titles = map(str, files)
    output = str(tmp_path / "warm.tsv")
    assert main([data, "--items", titles, "--share", "2", "-o", output]) == 2
    assert main([str(tmp_path / "none"), "--items", titles, "-o", output]) == 2
    assert main([data, "--items", titles, "-o", data]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["hide_items"] * 3
    assert "already exists" in lines[2]
    assert not Path(output).exists()
