"""The guard: what loses too much is replaced by the rounded teacher, and what does not is left alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from pocketrec.compress.distill_config import DistillConfig
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
    return Candidate(
        name=name, model=model, bits=3, form="int8", for_users=False, measure=measure, gains=gains
    )


def chosen(own: Candidate, *rounded: Candidate) -> tuple[str, dict[str, Any]]:
    made: list[Candidate] = []

    def make(one: Candidate) -> Callable[[], Candidate]:
        return lambda: made.append(one) or one

    found, detail = fall_back(own, TEACHER, GuardConfig(), [make(one) for one in rounded])
    assert found.name == detail["chosen"]
    assert [one["name"] for one in detail["tried"]] == [one.name for one in (own, *made)]
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
        prune=PruneConfig(keep_heads=0.1, keep_inner=0.01, inner_multiple=1, max_drop=1.0),
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


@pytest.mark.usefixtures("export_once")
def test_distilled_without_being_cut_where_rounding_does_not_pass(
    tiny_road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every candidate is made, in order, where none is good enough."""
    monkeypatch.setattr("pocketrec.compress.fallback.margin", lambda *_: -1.0)
    recipe = Recipe(
        name="guarded",
        distill=DistillConfig(epochs=1, batch_size=64, least_histories=1),
        table=TableConfig(bits=2),
        guard=GuardConfig(),
    )
    said: list[Any] = []
    compress_model(tiny_road.teacher, tiny_road.sequences, recipe, tmp_path / "a.pocket", say=said.append)
    assert [one["name"] for one in said[-1].detail["tried"]] == [
        "the recipe's own", "the teacher in 4 bits", "the teacher distilled into 4 bits", "the teacher in 8 bits",
    ]  # fmt: skip
    assert said[-1].detail["passed"] is False


@pytest.mark.usefixtures("export_once")
def test_what_costs_too_much_is_put_back(tiny_road, tmp_path: Path) -> None:
    prune = PruneConfig(keep_heads=0.1, keep_inner=0.01, inner_multiple=1, max_drop=0.0)
    recipe = Recipe(name="careful", prune=prune, table=TableConfig(bits=8))
    said: list[Any] = []
    done = compress_model(
        tiny_road.teacher, tiny_road.sequences, recipe, tmp_path / "a.pocket", say=said.append
    )
    assert [step.name for step in said] == ["prune", "put back", "table"]
    cut, back, _ = said
    assert cut.after.ndcg10 < cut.before.ndcg10
    assert (back.before, back.after) == (cut.after, cut.before)
    assert back.detail["reason"].endswith("more than max_drop of 0%")
    assert Bundle.open(done.path).manifest["model"]["inner_widths"] == [32]
    with pytest.raises(ValueError, match=r"prune: max_drop 1.5; expected 0 to 1"):
        dataclasses.replace(prune, max_drop=1.5)
