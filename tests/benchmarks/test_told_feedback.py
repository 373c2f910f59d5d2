"""Feedback told in different ways, and with a server: on a tiny bundle, where every system must be what it says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pocketrec.benchmarks.replay import Stream
from pocketrec.benchmarks.told_feedback import main, served_systems, told_lines, told_systems
from pocketrec.runtime import InputError, Reranker

TINY = Path(__file__).parent.parent / "runtime" / "data" / "tiny-taste.pocket"


@pytest.fixture(scope="module")
def ranker() -> Reranker:
    return Reranker.load(TINY, candidates="popularity")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    rows = [
        f"{user}\t{item}\t{rng.integers(1, 6)}\t{t}"
        for user in range(10)
        for t, item in enumerate(rng.permutation(np.arange(1, 51))[:16].tolist())
    ]
    path = tmp_path_factory.mktemp("told") / "data.inter"
    path.write_text("user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + "\n".join(rows) + "\n")
    return path


def test_a_run(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "told.json"
    arguments = [str(TINY), "--data", str(data), "--quantile", "0.5", "--max-events", "6"]
    assert main([*arguments, "--json", str(target)]) == 0
    result = json.loads(target.read_text(encoding="utf-8"))
    assert capsys.readouterr().out == "\n".join(told_lines(result)) + "\n"
    assert [row["system"] for row in result["told"]] == [
        "clicks",
        "ratings",
        "rejections",
        "best as purchases",
    ]
    assert set(result["served"]) == {"stale", "live", "noise"}
    for rows in (result["told"], *result["served"].values()):
        assert "ndcg@10_percent" not in rows[0]
        assert all(0 <= row["ndcg@10"] <= 1 and 0 <= row["ndcg@10_good"] <= 1 for row in rows)
    assert result["users"] == 10


def test_systems_are_told_what_they_say(ranker: Reranker) -> None:
    stream = Stream(0, np.array([3, 4]), np.arange(10, 22))
    stars = {(0, item_id): float(1 + (item_id % 5)) for item_id in range(1, 51)}
    histories = {}
    for name, start in told_systems(ranker, stars).items():
        system = start(stream)
        for row in stream.events.tolist():
            system.score(np.arange(50))
            system.chosen(row)
        histories[name] = system.user.history  # type: ignore[attr-defined]
    everything = [4, 5, *range(11, 23)]
    assert histories["clicks"] == histories["ratings"] == histories["best as purchases"] == everything
    assert len(histories["rejections"]) < len(everything)


def test_a_fixed_server_stays_and_a_learned_one_moves(ranker: Reranker) -> None:
    stream = Stream(0, np.array([3, 4]), np.arange(10, 22))
    moved = {}
    for name, start in served_systems(ranker, "noise").items():
        system = start(stream)
        for row in stream.events.tolist():
            assert np.isfinite(system.score(np.arange(50))).all()
            system.chosen(row)
        moved[name] = abs(system.user._model.server.delta)  # type: ignore[attr-defined]
    assert moved["server fixed"] < 1e-9
    assert moved["server learned"] > 1e-3
    assert moved["device"] == 0


def test_data_without_ratings(tmp_path: Path) -> None:
    path = tmp_path / "data.inter"
    path.write_text("user_id:token\titem_id:token\ttimestamp:float\n1\t2\t3\n1\t3\t4\n")
    with pytest.raises(InputError, match="events without a rating"):
        main([str(TINY), "--data", str(path)])
