"""The step that fits what a bundle learns with: in the report, within the budget, and silent until the first feedback."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketrec.compress.adapt import MANIFEST_BYTES, AdaptationConfig, adapt, taste_bytes
from pocketrec.compress.pipeline import Budget, compress_model
from pocketrec.compress.recipe import RECIPES, Recipe, TableConfig, recipe_from_mapping
from pocketrec.compress.report import StepReport
from pocketrec.runtime import Engine, Reranker
from pocketrec.runtime.adaptation import OWN_EXPERTS, TASTE_EXPERTS
from pocketrec.runtime.bundle import Bundle
from pocketrec.runtime.errors import InputError

N_ITEMS = 50


def two_tastes(n_users: int = 600) -> list[np.ndarray]:
    """Even rows or odd rows: what no table of a random model knows."""
    rng = np.random.default_rng(0)
    return [user % 2 + 2 * rng.permutation(25)[:8] for user in range(n_users)]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load(Path(__file__).parent.parent / "runtime" / "data" / "tiny-range.pocket")


class TestAdapt:
    def test_the_taste_table_ships_where_it_pays(self, engine: Engine) -> None:
        found = adapt(engine, two_tastes(), AdaptationConfig(taste_width=8), seed=0)
        assert found is not None
        assert found.taste is not None
        assert (found.taste.width, found.taste.bits) == (8, 2)
        assert found.described["experts"] == [*OWN_EXPERTS, *TASTE_EXPERTS]
        gain, low, high = found.detail()["re_ranking_percent"]["popularity"]
        assert 0 < low < gain < high

    def test_without_room_the_taste_table_goes_first(self, engine: Engine) -> None:
        config = AdaptationConfig(taste_width=8)
        room = taste_bytes(N_ITEMS, 8, 2)
        for room_bytes, has_taste in ((room, True), (room - 1, False)):
            found = adapt(engine, two_tastes(), config, seed=0, room_bytes=room_bytes)
            assert (found is not None and found.taste is not None) == has_taste

    def test_no_width_is_no_taste_table(self, engine: Engine) -> None:
        found = adapt(engine, two_tastes(), AdaptationConfig(taste_width=0), seed=0)
        assert found is None or found.taste is None

    def test_too_few_users(self, engine: Engine) -> None:
        assert adapt(engine, two_tastes(20), AdaptationConfig(), seed=0) is None

    @pytest.mark.parametrize(
        "values", [{"taste_width": -1}, {"taste_bits": 5}, {"start": "oracle"}, {"max_users": 0}]
    )
    def test_values_that_make_no_sense(self, values: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=f"adaptation: {next(iter(values))}.*expected"):
            AdaptationConfig(**values)


class TestRecipes:
    def test_who_learns(self) -> None:
        learns = {name for name, recipe in RECIPES.items() if recipe.adaptation is not None}
        assert learns == {"balanced", "lossless", "tiny"}

    def test_from_a_file(self) -> None:
        recipe = recipe_from_mapping(
            {"adaptation": {"taste_bits": 3, "start": "mixture"}}, "mine", "mine.toml"
        )
        assert recipe.adaptation == AdaptationConfig(taste_bits=3, start="mixture")
        with pytest.raises(InputError, match="did you mean 'taste_bits'"):
            recipe_from_mapping({"adaptation": {"taste_bit": 3}}, "mine", "mine.toml")


@pytest.mark.usefixtures("export_once")
class TestOnTheRoad:
    def compress(self, tiny_road: Any, path: Path, budget: Budget) -> tuple[Path, list[StepReport]]:
        said: list[StepReport] = []
        recipe = Recipe(name="learns", table=TableConfig(bits=8), adaptation=AdaptationConfig(taste_width=8))
        compress_model(
            tiny_road.teacher, two_tastes(300), recipe, path, budget=budget, overwrite=True, say=said.append
        )
        return path, said

    def test_it_is_a_step_and_ranks_after_the_first_feedback(self, tiny_road: Any, tmp_path: Path) -> None:
        path, said = self.compress(tiny_road, tmp_path / "learns.pocket", Budget())
        step = said[-1]
        assert step.name == "adapt"
        manifest = Bundle.open(path).manifest
        assert manifest["steps"][-1]["name"] == "adapt"
        assert manifest["recipe"]["adaptation"] == dataclasses.asdict(AdaptationConfig(taste_width=8))
        assert step.after.ndcg10 == step.before.ndcg10
        assert step.after.size_bytes > step.before.size_bytes
        assert "NDCG@10 of re-ranking from the first feedback on: catalogue " in step.line()
        ranker = Reranker.load(path)
        assert ranker.prior is not None
        user = ranker.user()
        user.observe(5, 6)
        vector = ranker.engine.encode(np.array([[4, 5]]))
        scores = ranker.engine.score(vector, np.arange(N_ITEMS)[None])[0]
        ranked = [item.item_id for item in user.rerank(range(1, N_ITEMS + 1), k=N_ITEMS)]
        assert ranked == (np.argsort(-scores, kind="stable") + 1).tolist()
        user.feedback(7)
        vector = ranker.engine.encode(np.array([[4, 5, 6]]))
        scores = ranker.engine.score(vector, np.arange(N_ITEMS)[None])[0]
        ranked = [item.item_id for item in user.rerank(range(1, N_ITEMS + 1), k=N_ITEMS)]
        assert ranked != (np.argsort(-scores, kind="stable") + 1).tolist()

    def test_a_budget_without_room_leaves_it_out(self, tiny_road: Any, tmp_path: Path) -> None:
        path, _ = self.compress(tiny_road, tmp_path / "learns.pocket", Budget())
        most = path.stat().st_size
        path, said = self.compress(tiny_road, path, Budget(max_size_bytes=most))
        assert MANIFEST_BYTES > 1 << 10
        assert said[-1].detail == {"skipped": "no room for it within --max-size"}
        assert said[-1].line().startswith("adapt     skipped: no room")
        assert "adaptation" not in Bundle.open(path).manifest
