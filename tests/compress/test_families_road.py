"""The whole road for every family: the same recipe, a bundle that the runtime ranks with, and steps that say why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketrec.compress.checkpoint import Checkpoint
from pocketrec.compress.distill import DistillConfig
from pocketrec.compress.layouts import Teacher
from pocketrec.compress.pipeline import compress_model
from pocketrec.compress.prune import PruneConfig
from pocketrec.compress.recipe import EncoderConfig, Recipe, TableConfig
from pocketrec.runtime.engine import Engine
from pocketrec.runtime.item_ids import ItemIds

from .models.families import MAX_LENGTH, N_ITEMS, lively

RECIPE = Recipe(
    name="all steps",
    prune=PruneConfig(inner_multiple=8, calibration_batches=2),
    distill=DistillConfig(epochs=1, batch_size=32, least_histories=1),
    table=TableConfig(bits=8),
    encoder=EncoderConfig(products="float32"),
)
PRUNABLE = ("sasrec",)


def sequences() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(N_ITEMS, size=random.integers(4, 10)) for _ in range(40)]


@pytest.mark.parametrize(
    "family", ["sasrec", "gru4rec, padded on the left", "pmixer", "bert4rec", "narm", "caser", "lightsans"]
)
def test_the_road(family: str, tmp_path: Path) -> None:
    model = lively(family)
    source = Checkpoint(path=tmp_path / "x.pt", sha256="0" * 64, size_bytes=1, tensors=model.state_dict())
    ids = ItemIds.from_sequence(range(1, N_ITEMS + 1))
    teacher = Teacher(model=model, item_ids=ids, layout="test", source=source)
    said: list[Any] = []
    done = compress_model(teacher, sequences(), RECIPE, tmp_path / "x.pocket", say=said.append)
    assert [step.name for step in said] == ["prune", "distill", "table", "encoder"]
    prune = said[0]
    if family in PRUNABLE:
        assert prune.after.parameters < prune.before.parameters
    else:
        assert prune.after == prune.before
        assert prune.line().startswith("prune     skipped: only SASRec's heads and feed-forward can be cut")
        assert prune.line().endswith(f"this is a {type(model).__name__}")
    engine = Engine.load(done.path)
    assert engine.manifest["model"]["architecture"] == type(model).__name__
    assert engine.manifest["model"]["max_length"] == MAX_LENGTH
    assert engine.manifest["steps"][0]["detail"] == prune.detail
    for n in (1, 3, MAX_LENGTH, MAX_LENGTH + 4):
        users = engine.encode(np.arange(n)[None] % N_ITEMS)
        rows, scores = engine.top_k(users[0], 5)
        assert len(set(rows.tolist())) == 5
        assert np.isfinite(scores).all()
