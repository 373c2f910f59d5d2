"""The guard: what loses too much is replaced by the rounded teacher, and what does not is left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from pocketrec.compress.fallback import Candidate, GuardConfig, fall_back, margin
from pocketrec.compress.models.protocol import SequenceModel
from pocketrec.compress.pipeline import compress_model
from pocketrec.compress.prune import PruneConfig
from pocketrec.compress.recipe import Recipe, TableConfig
from pocketrec.compress.report import Measure
from pocketrec.runtime.bundle import Bundle

TEACHER = np.random.default_rng(0).random(1000)


def candidate(name: str, kept: float, noise: float = 0.0, n_users: int = 1000) -> Candidate:
    """One that keeps so much of the teacher on average, each user differing by `noise`."""
    gains = kept * TEACHER[:n_users] + noise * np.resize([1.0, -1.0], n_users)
    measure = Measure(size_bytes=1, parameters=1, ndcg10=float(gains.mean()))
    model = cast(SequenceModel, None)
    return Candidate(name=name, model=model, bits=3, form="int8", measure=measure, gains=gains)


def chosen(own: Candidate, *rounded: Candidate) -> tuple[str, dict[str, Any]]:
    waiting = list(rounded)
    found, detail = fall_back(own, TEACHER, GuardConfig(), lambda bits: waiting.pop(0))
    assert found.name == detail["chosen"]
    assert len(waiting) == len(rounded) + 1 - len(detail["tried"])
    return found.name, detail


def test_what_passes_is_taken_and_nothing_else_is_tried() -> None:
    name, detail = chosen(candidate("own", 0.999), candidate("4", 1.0), candidate("8", 1.0))
    assert (name, detail["passed"], len(detail["tried"])) == ("own", True, 1)
    assert detail["tried"][0]["kept"] == pytest.approx(0.999)


def test_the_first_that_passes_is_taken() -> None:
    name, detail = chosen(candidate("own", 0.98), candidate("4", 0.995), candidate("8", 1.0))
    assert (name, detail["passed"]) == ("4", True)
    assert [one["name"] for one in detail["tried"]] == ["own", "4"]


def test_where_none_passes_the_best_is_taken_and_said_to_fail() -> None:
    name, detail = chosen(candidate("own", 0.9), candidate("4", 0.98), candidate("8", 0.97))
    assert (name, detail["passed"], len(detail["tried"])) == ("4", False, 3)


def test_a_gain_that_may_be_luck_does_not_pass_until_there_are_users_enough() -> None:
    """The same mean and the same noise a user: 1.2 standard errors above the limit of 1000 users, .4 of 100."""
    few, many = candidate("", 1.0, 0.15, 100), candidate("", 1.0, 0.15)
    assert margin(few.gains, TEACHER[:100], 0.01) < 0 < margin(many.gains, TEACHER, 0.01)


def test_config() -> None:
    for max_drop in (-0.1, 1.0):
        with pytest.raises(ValueError, match=f"guard: max_drop {max_drop}, expected 0 to below 1"):
            GuardConfig(max_drop=max_drop)


@pytest.mark.usefixtures("export_once")
def test_on_the_road(tiny_road, tmp_path: Path) -> None:
    """Two bits and one feed-forward unit cost the tiny model 5%; the bundle is the teacher's, and says why."""
    ruinous = Recipe(
        name="ruinous",
        prune=PruneConfig(keep_heads=0.1, keep_inner=0.01, inner_multiple=1),
        table=TableConfig(bits=2),
    )
    said: list[Any] = []
    guarded = Recipe(name="guarded", prune=ruinous.prune, table=ruinous.table, guard=GuardConfig())
    done = compress_model(
        tiny_road.teacher, tiny_road.sequences, guarded, tmp_path / "a.pocket", say=said.append
    )
    assert [step.name for step in said] == ["prune", "table", "fall back"]
    before, ruined, after = said[0].before, said[1].after, said[2].after
    assert ruined.ndcg10 < 0.98 * before.ndcg10
    assert after.ndcg10 > 0.97 * before.ndcg10
    manifest = Bundle.open(done.path).manifest
    step = manifest["steps"][2]["detail"]
    assert step["chosen"] in ("the teacher in 4 bits", "the teacher in 8 bits")
    assert str(manifest["item_table"]["bits"]) in step["chosen"]
    assert manifest["model"]["inner_widths"] == [32]
    assert after.size_bytes > ruined.size_bytes

    said.clear()
    compress_model(tiny_road.teacher, tiny_road.sequences, ruinous, tmp_path / "b.pocket", say=said.append)
    assert [step.name for step in said] == ["prune", "table"]
