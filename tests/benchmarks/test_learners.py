"""What learning costs: every operation is timed, and a library that is not there is named, not needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from pocketrec.benchmarks import learners
from pocketrec.benchmarks.learners import learners_lines, main, measure_learners, without_taste
from pocketrec.runtime import Reranker

TINY = Path(__file__).parent.parent / "runtime" / "data" / "tiny-taste.pocket"


class Slow:
    """A library that counts what it is asked."""

    asked: ClassVar[list[str]] = []

    def __init__(self, n_items: int, width: int) -> None:
        assert n_items == 50
        assert width > 0

    def rank(self, rows: np.ndarray, items: np.ndarray) -> None:
        self.asked.append("rank")

    def learn(self, rows: np.ndarray, items: np.ndarray, chosen: int) -> None:
        assert 0 <= chosen < len(rows) == len(items)
        self.asked.append("learn")


def test_ours_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learners, "OTHERS", {"no_such_library": Slow})
    result = measure_learners(Reranker.load(TINY), n_events=12)
    ours = {"rerank", "feedback", "rerank over model"}
    assert {*result["operations"]} == {"model", *ours, *(f"{name} without taste" for name in ours)}
    assert all(found["n"] == 12 for found in result["operations"].values())
    assert result["operations"]["feedback"]["p50_us"]["value"] > 0
    assert learners_lines(result)[-1] == "not installed, and left out: no_such_library"


def test_without_taste_ranks_by_the_other_experts() -> None:
    ranker = Reranker.load(TINY)
    cut = without_taste(ranker)
    assert ranker.prior is not None
    assert cut.prior is not None
    assert (cut.prior.has_taste, len(cut.tables)) == (False, 1)
    own = len(cut.prior.variances)
    np.testing.assert_array_equal(cut.prior.weights["catalogue"], ranker.prior.weights["catalogue"][:own])
    user, plain = cut.user(), ranker.user()
    for one in (user, plain):
        one.observe(7, 9, 11)
        one.feedback(3)
    assert user.rerank(range(1, 51)) != plain.rerank(range(1, 51))


def test_beside_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learners, "OTHERS", {"numpy": Slow})  # something that is installed
    monkeypatch.setattr(learners, "N_CANDIDATES", 50)
    result = measure_learners(Reranker.load(TINY), n_events=5)
    assert result["operations"]["numpy rank"]["n"] == 5
    assert Slow.asked[:2] == ["rank", "learn"]
    assert set(result["times_as_long"]["numpy"]) == {"rank", "learn"}
    assert result["versions"] == {"numpy": np.__version__}


def test_the_command(capsys: Any, tmp_path: Path) -> None:
    assert main([str(TINY), "--events", "5", "--json", str(tmp_path / "learners.json")]) == 0
    assert "rerank over model" in capsys.readouterr().out
    assert "taste_fast" in json.loads((tmp_path / "learners.json").read_text())["experts"]
