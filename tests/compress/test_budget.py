"""Budgets: what is broken is told, by which metric, and what is tried where the default recipe breaks one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from pocketrec.compress.budget import Budget, breaches, label_metric, ranking_metric
from pocketrec.compress.ladder import LADDER, Rungs, rungs_around
from pocketrec.compress.recipe import RECIPES, Recipe
from pocketrec.compress.report import LOG_LOSS, Measure
from pocketrec.compress.road import Built, Outputs, take_road
from pocketrec.runtime.errors import GateError, InputError

TEACHER = Measure(size_bytes=1000, parameters=1, ndcg10=0.5)


def measure(size_bytes: int, ndcg10: float, rerank_ms: float | None = None) -> Measure:
    return Measure(size_bytes=size_bytes, parameters=1, ndcg10=ndcg10, rerank_ms=rerank_ms)


class FakeRoad:
    """Recipes become what a table says of them; what was built, tested and written is remembered."""

    def __init__(self, folder: Path, made: dict[str, Measure]) -> None:
        self.folder, self.made = folder, made
        self.before, self.original = TEACHER, folder / "teacher.draft"
        self.original.write_bytes(b"teacher")
        self.built, self.tested = list[str](), list[str]()

    def build(self, recipe: Recipe) -> Built:
        self.built.append(recipe.name)
        return Built(recipe=recipe, steps=(), measure=self.made[recipe.name], made=None)

    def test(self, built: Built) -> dict[str, Any]:
        self.tested.append(built.recipe.name)
        return {"of": built.recipe.name}

    def write(self, built: Built, metrics: dict[str, Any] | None) -> Path:
        path = self.folder / "final.draft"
        path.write_bytes(b"x" * built.measure.size_bytes)
        return path

    def place(self, recipe: Recipe) -> object:
        return recipe.name


GENTLE, OWN, HARSH, TINIEST = (Recipe(name=name) for name in ("gentle", "own", "harsh", "tiniest"))
RUNGS = Rungs(gentler=(GENTLE,), harsher=(HARSH, TINIEST))
MADE = {
    "gentle": measure(800, 0.5, 4.0),
    "own": measure(400, 0.48, 2.0),
    "harsh": measure(200, 0.45, 1.0),
    "tiniest": measure(100, 0.3, 0.5),
}


@pytest.mark.parametrize(
    ("budget", "built", "chosen"),
    [
        (Budget(), ["own"], "own"),
        (Budget(max_drop=0.05), ["own"], "own"),
        (Budget(max_drop=0.01), ["own", "gentle"], "gentle"),
        (Budget(max_size_bytes=250), ["own", "harsh"], "harsh"),
        (Budget(max_size_bytes=100), ["own", "harsh", "tiniest"], "tiniest"),
        (Budget(max_latency_ms=1.0, max_drop=0.1), ["own", "harsh"], "harsh"),
    ],
)
def test_what_is_tried_and_taken(tmp_path: Path, budget: Budget, built: list[str], chosen: str) -> None:
    road, said = FakeRoad(tmp_path, MADE), list[str]()
    outputs = Outputs(path=tmp_path / "x.pocket", teacher=tmp_path / "teacher.pocket")
    found, metrics, size_bytes = take_road(road, OWN, outputs, budget=budget, rungs=RUNGS, note=said.append)
    assert (road.built, found.recipe.name, metrics) == (built, chosen, {"of": chosen})
    assert road.tested == [chosen], "the test items are looked at once"
    assert outputs.path.stat().st_size == size_bytes == MADE[chosen].size_bytes
    assert (tmp_path / "teacher.pocket").read_bytes() == b"teacher"
    assert len(said) == len(built) - 1
    assert all(line.startswith("budget: ") and "trying" in line for line in said)


@pytest.mark.parametrize(
    ("budget", "built", "nearest"),
    [
        # gentler ones are larger: the size that held breaks, and nothing further on can mend both
        (Budget(max_drop=0.01, max_size_bytes=500), ["own", "gentle"], "own"),
        # the size is broken, and where it holds, the loss is
        (Budget(max_drop=0.05, max_size_bytes=250), ["own", "harsh"], "harsh"),
        (Budget(max_size_bytes=50), ["own", "harsh", "tiniest"], "tiniest"),
        (Budget(max_latency_ms=0.1), ["own", "harsh", "tiniest"], "tiniest"),
    ],
)
@pytest.mark.parametrize("keep", [False, True])
def test_a_budget_that_nothing_meets(
    tmp_path: Path, budget: Budget, built: list[str], nearest: str, keep: bool
) -> None:
    road = FakeRoad(tmp_path, MADE)
    kept = tmp_path / "nearest.pocket" if keep else None
    outputs = Outputs(path=tmp_path / "x.pocket", teacher=tmp_path / "teacher.pocket", nearest=kept)
    with pytest.raises(
        GateError, match=rf"; nearest: {nearest} \(\d+ bytes, NDCG@10 [+-]\d+\.\d\d%, "
    ) as refused:
        take_road(road, OWN, outputs, budget=budget, rungs=RUNGS)
    assert road.built == built
    assert not outputs.path.exists()
    assert not (tmp_path / "teacher.pocket").exists()
    if kept is None:
        assert str(refused.value).endswith("; --keep-nearest FILE keeps it")
        assert road.tested == []
    else:
        assert f"kept in {kept}" in str(refused.value)
        assert kept.stat().st_size == MADE[nearest].size_bytes
        assert road.tested == [nearest]


def test_a_recipe_of_the_users_own_is_not_exchanged(tmp_path: Path) -> None:
    road = FakeRoad(tmp_path, MADE)
    with pytest.raises(GateError, match="400 bytes, --max-size allows 250"):
        take_road(
            road, OWN, Outputs(path=tmp_path / "x.pocket"), budget=Budget(max_size_bytes=250), rungs=Rungs()
        )
    assert road.built == ["own"]


def test_rungs_that_mean_nothing_to_the_family_are_not_built_twice(tmp_path: Path) -> None:
    road = FakeRoad(tmp_path, MADE)
    road.place = lambda recipe: "the same"  # type: ignore[method-assign]
    with pytest.raises(GateError):
        take_road(
            road, OWN, Outputs(path=tmp_path / "x.pocket"), budget=Budget(max_size_bytes=50), rungs=RUNGS
        )
    assert road.built == ["own"]


def test_less_of_a_log_loss_is_better() -> None:
    def loss(value: float) -> Measure:
        return dataclasses.replace(TEACHER, other=(LOG_LOSS, value))

    budget = Budget(max_drop=0.01)
    assert breaches(budget, loss(0.5), loss(0.4)) == []
    broken = breaches(budget, loss(0.5), loss(0.51))
    assert [breach.limit for breach in broken] == ["drop"]
    assert broken[0].text == "validation log loss rose from 0.5000 to 0.5100 (2.00%), --max-drop allows 1.00%"
    assert broken[0].excess == pytest.approx(0.01)


def test_every_limit_is_told() -> None:
    budget = Budget(max_drop=0.01, max_size_bytes=100, max_latency_ms=0.25)
    texts = [breach.text for breach in breaches(budget, TEACHER, measure(2000, 0.25, 0.5))]
    assert texts == [
        "validation NDCG@10 fell from 0.5000 to 0.2500 (50.00%), --max-drop allows 1.00%",
        "2,000 bytes, --max-size allows 100",
        "re-ranking 100 candidates takes 0.5 ms, --max-latency allows 0.25 ms",
    ]
    assert breaches(budget, measure(1, 0.0), measure(100, 0.0, 0.25)) == [], "nothing to lose is no loss"


def test_which_metric() -> None:
    assert [ranking_metric(Budget(metric=name)) for name in (None, "hr@5", "recall@20", "mrr@10")] == [
        "ndcg@10", "hr@5", "hr@20", "mrr@10",
    ]  # fmt: skip
    assert [label_metric(Budget(metric=name)) for name in (None, "auc", "logloss")] == [
        "auc",
        "auc",
        "logloss",
    ]
    for name in ("auc", "ndcg", "ndcg@0", "hr@x", "precision@10"):
        with pytest.raises(
            InputError, match=rf"--metric {name}: this model ranks by a history; expected ndcg@k"
        ):
            ranking_metric(Budget(metric=name))
    with pytest.raises(
        InputError, match=r"--metric hr@10: this model scores rows of features; expected auc or"
    ):
        label_metric(Budget(metric="hr@10"))


def test_the_ladder_goes_from_gentle_to_harsh() -> None:
    names = [recipe.name for recipe in LADDER]
    assert [name for name in names if name in RECIPES] == ["lossless", "balanced", "tiny"]
    around = rungs_around(dataclasses.replace(RECIPES["balanced"], seed=7))
    assert around.gentler[0].name == "lossless"
    assert around.harsher[-1].name == "tiny"
    assert {recipe.seed for recipe in (*around.gentler, *around.harsher)} == {7}
