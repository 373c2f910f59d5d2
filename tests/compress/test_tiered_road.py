"""A table in tiers all the way: distilled around its codebooks, written, and ranked with on the device."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketrec.benchmarks.popularity import item_counts
from pocketrec.benchmarks.protocols import training_sequences
from pocketrec.compress.distill_config import DistillConfig
from pocketrec.compress.pipeline import compress_model
from pocketrec.compress.recipe import EncoderConfig, Recipe
from pocketrec.compress.table_form import TableConfig
from pocketrec.runtime import Reranker
from pocketrec.runtime.codebook_rows import CodebookRows
from pocketrec.runtime.engine import Engine
from pocketrec.runtime.tiered_rows import TieredRows

from ..tiny_road import TinyRoad

TIERED = Recipe(
    name="tiered",
    distill=DistillConfig(epochs=2, batch_size=64, least_histories=1),
    table=TableConfig(bits=3, head_share=0.2, head_bits=8, tail_share=0.5, tail_codes=4),
    encoder=EncoderConfig(products="int8"),
)


@pytest.mark.usefixtures("export_once")
@pytest.mark.parametrize(
    ("table", "kind"), [(TIERED.table, TieredRows), (TableConfig(tail_share=1.0, tail_codes=8), CodebookRows)]
)
def test_tiers_go_from_the_recipe_to_the_device(
    tiny_road: TinyRoad, tmp_path: Path, table: TableConfig, kind: type[Any]
) -> None:
    recipe = dataclasses.replace(TIERED, table=table)
    done = compress_model(tiny_road.teacher, tiny_road.sequences, recipe, tmp_path / "tiered.pocket")
    engine = Engine.load(done.path)
    assert isinstance(engine.table, kind)
    steps = {step.name: step for step in done.steps}
    assert [tier["items"] for tier in steps["table"].detail["tiers"]] == (
        [10, 15, 25] if kind is TieredRows else [50]
    )
    # 50 rows are their own codebooks: what is lost is the rounding of the entries
    assert steps["table"].after.ndcg10 == pytest.approx(steps["distill"].after.ndcg10, rel=0.02)
    assert steps["encoder"].after.ndcg10 > 0.9 * steps["distill"].before.ndcg10
    if isinstance(engine.table, TieredRows):
        counts = item_counts(training_sequences(tiny_road.sequences), 50)
        head = engine.table.tier_of == 0
        assert counts[head].min() >= counts[~head].max()
    rows, scores = engine.top_k(engine.encode(np.array([[2, 3, 4, 5]]))[0], 50)
    exact = engine.score(engine.encode(np.array([[2, 3, 4, 5]])), rows[None])[0]
    np.testing.assert_allclose(scores, exact, atol=0.02 * np.abs(exact).max())
    user = Reranker.load(done.path).user()
    user.observe(3, 4, 5, 6)
    assert user.rerank([20, 7, 40], k=3)[0].item_id == 7
    assert 7 in [ranked.item_id for ranked in user.recommend(k=5)]
