"""What the options of a list cost and bring, on a tiny bundle: every option asks for what its measure sees."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pocketrec.benchmarks.list_options import MEASURES, PLAIN, main, option_lines
from pocketrec.runtime import InputError

TINY = Path(__file__).parent.parent / "runtime" / "data" / "tiny-range.pocket"
N_ITEMS = 50


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Interactions with times, and a table of items: each of one or two of four genres."""
    folder = tmp_path_factory.mktemp("list_options")
    rng = np.random.default_rng(0)
    events = [
        f"{user}\t{item}\t{t}"
        for user in range(12)
        for t, item in enumerate(rng.permutation(np.arange(1, N_ITEMS + 1))[:14].tolist())
    ]
    data, items = folder / "data.inter", folder / "data.item"
    data.write_text("user_id:token\titem_id:token\ttimestamp:float\n" + "\n".join(events) + "\n")
    genres = [
        f"{n}\ttitle {n}\t{' '.join(rng.choice(list('abcd'), 1 + n % 2, replace=False))}"
        for n in range(1, 51)
    ]
    items.write_text("item_id:token\tmovie_title:token_seq\tclass:token_seq\n" + "\n".join(genres) + "\n")
    return data, items


def test_a_run(files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, items = files
    target = tmp_path / "options.json"
    arguments = [
        str(TINY),
        "--data",
        str(data),
        "--items",
        str(items),
        "--quantile",
        "0.6",
        "--max-events",
        "3",
    ]
    assert main([*arguments, "--max-users", "6", "--json", str(target)]) == 0
    result = json.loads(target.read_text(encoding="utf-8"))
    assert capsys.readouterr().out == "\n".join(option_lines(result)) + "\n"
    assert result["command"].startswith("python -m pocketrec.benchmarks.list_options ")
    rows = {row["option"]: row for row in result["options"]}
    assert result["users"] == 6
    assert result["events"] == 18
    plain = rows[PLAIN]
    assert "ndcg_ratio" not in plain
    for name, row in rows.items():
        assert all(np.isfinite(row[measure]) for measure in MEASURES)
        assert (name == PLAIN) != ("ndcg_ratio" in row)
    assert rows["mmr 0.5"]["diversity"] > plain["diversity"]
    assert rows["dpp 0.5"]["diversity"] > plain["diversity"]
    assert rows["calibration 0.5"]["miscalibration"] < plain["miscalibration"]
    assert rows["2 of a category"]["genres"] == 4


def test_a_column_that_is_not_there(files: tuple[Path, Path]) -> None:
    data, items = files
    with pytest.raises(InputError, match="no column 'genre'"):
        main([str(TINY), "--data", str(data), "--items", str(items), "--column", "genre"])
