"""The past of a file is what a replay of the whole file calls the past."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketrec.benchmarks.interactions import read_interactions
from pocketrec.benchmarks.past_events import main
from pocketrec.benchmarks.replay import replay_from_time, replay_last_share


def test_by_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        f"{user}\t{rng.integers(1, 30)}\t{rng.integers(0, 400)}" for user in range(1, 9) for _ in range(20)
    ]
    whole = tmp_path / "whole.inter"
    whole.write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *rows, ""]))
    assert main([str(whole), "--quantile", "0.7", "-o", str(tmp_path / "past.inter")]) == 0
    data = read_interactions(whole)
    sequences = np.split(data.items, data.indptr[1:-1])
    assert data.times is not None
    replay = replay_from_time(sequences, np.split(data.times, data.indptr[1:-1]), quantile=0.7)
    assert read_interactions(tmp_path / "past.inter").n_interactions == sum(map(len, replay.training))


def test_by_share(tmp_path: Path) -> None:
    (tmp_path / "whole.txt").write_text("1 5 6 7 8 9\n2 5 6 7\n")
    assert main([str(tmp_path / "whole.txt"), "--share", "0.4", "-o", str(tmp_path / "past.txt")]) == 0
    assert (tmp_path / "past.txt").read_text() == "1 5 6 7\n2 5 6\n"
    kept = replay_last_share([np.arange(5), np.arange(3)], share=0.4).training
    assert [len(sequence) for sequence in kept] == [3, 2]


@pytest.mark.parametrize(
    ("content", "arguments", "text"),
    [
        ("1 2 3\n", ("--share", "1.5"), "share=1.5"),
        ("user_id:token\titem_id:token\n1\t2\n", ("--quantile", "0.5"), "no column of times"),
        ("a\n", ("--quantile", "2"), "quantile=2"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, capsys: Any, content: str, arguments: tuple[str, str], text: str
) -> None:
    (tmp_path / "data").write_text(content)
    assert main([str(tmp_path / "data"), *arguments, "-o", str(tmp_path / "past")]) == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "past").exists()
