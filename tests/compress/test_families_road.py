"""The whole road for every layout: a file in, the same recipe, and a bundle that the runtime ranks with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketrec.compress.distill_config import DistillConfig
from pocketrec.compress.layouts import Teacher, load_teacher
from pocketrec.compress.pipeline import compress_model
from pocketrec.compress.prune import PruneConfig
from pocketrec.compress.recipe import EncoderConfig, Recipe, TableConfig
from pocketrec.runtime.engine import Engine

from .hostile_checkpoints import saved
from .layout_checkpoints import N_ITEMS, RECORDED

RECIPE = Recipe(
    name="all steps",
    prune=PruneConfig(inner_multiple=1, calibration_batches=2, max_drop=1.0),
    distill=DistillConfig(epochs=1, batch_size=32, least_histories=1),
    table=TableConfig(bits=8),
    encoder=EncoderConfig(products="float32"),
)


def sequences() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(N_ITEMS, size=random.integers(4, 10)) for _ in range(40)]


SAME_ROAD = {"pocketrec": "s3-rec", "recbole-sasrec": "s3-rec", "recbole-lightgcn": "recbole-bpr"}
"""Layouts of an architecture that goes the road under another one's name: once is enough."""


def load(layout: str, tmp_path: Path) -> Teacher:
    made, checkpoint = RECORDED[layout].file(), tmp_path / f"{layout}.pth"
    checkpoint.write_bytes(made if isinstance(made, bytes) else saved(made))
    return load_teacher(checkpoint)


@pytest.mark.parametrize("layout", SAME_ROAD)
def test_the_same_road(layout: str, tmp_path: Path) -> None:
    teacher, other = load(layout, tmp_path), load(SAME_ROAD[layout], tmp_path)
    assert type(teacher.model) is type(other.model)
    assert (teacher.user_vectors is None) == (other.user_vectors is None)


@pytest.mark.parametrize("layout", [name for name in RECORDED if name not in SAME_ROAD])
def test_the_road(layout: str, tmp_path: Path) -> None:
    teacher = load(layout, tmp_path)
    said: list[Any] = []
    done = compress_model(teacher, sequences(), RECIPE, tmp_path / "x.pocket", say=said.append)
    folds_in = teacher.user_vectors is not None
    steps = ["fold in"] * folds_in + ["prune", "distill", "table", "encoder"]
    assert [step.name for step in said] == steps
    assert ("own_users" in done.metrics) == folds_in
    prune = said[-4]
    if "skipped" in prune.detail:
        assert folds_in  # a matrix and a bias: no part of it can be left out
    else:
        assert prune.after.parameters < prune.before.parameters
        assert prune.after.size_bytes < prune.before.size_bytes
    engine = Engine.load(done.path)
    assert engine.manifest["model"]["architecture"] == type(teacher.model).__name__
    max_length = engine.manifest["model"]["max_length"]
    assert max_length == teacher.model.max_length
    assert engine.manifest["steps"][-4]["detail"] == prune.detail
    for n in (1, 3, max_length, max_length + 4):
        users = engine.encode(np.arange(n)[None] % N_ITEMS)
        rows, scores = engine.top_k(users[0], 5)
        assert len(set(rows.tolist())) == 5
        assert np.isfinite(scores).all()
