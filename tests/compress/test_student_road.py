"""Students on the whole road: a recipe with [student] in, a bundle that the runtime ranks with out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pocketrec.compress.distill_config import DistillConfig
from pocketrec.compress.pipeline import compress_model
from pocketrec.compress.prune import PruneConfig
from pocketrec.compress.recipe import EncoderConfig, Recipe, TableConfig
from pocketrec.compress.report import StepReport
from pocketrec.compress.student import StudentConfig
from pocketrec.runtime.bundle import Bundle
from pocketrec.runtime.engine import Engine

LEARN = DistillConfig(
    epochs=2,
    batch_size=32,
    least_histories=1,
    learning_rate=5e-3,
    table_learning_rate=1e-3,
    hidden_weight=0.5,
)


@pytest.mark.parametrize(
    ("student", "architecture"),
    [
        (StudentConfig(layers=(0,), width=12), "SASRec"),
        (StudentConfig(architecture="gru4rec", hidden_width=16), "GRU4Rec"),
        (StudentConfig(architecture="pooled", hidden_width=16, means=2), "Pooled"),
    ],
    ids=["narrower", "gru", "pooled"],
)
def test_a_student_goes_the_whole_road(
    tiny_road, tmp_path: Path, export_once, student: StudentConfig, architecture: str
) -> None:
    """Every draft is verified against torch through the runtime on the way (`export.bundle_writer`)."""
    said: list[StepReport] = []
    recipe = Recipe(
        name="student", student=student, distill=LEARN, table=TableConfig(bits=4), encoder=EncoderConfig(products="float32")
    )  # fmt: skip
    path = tmp_path / "student.pocket"
    compress_model(tiny_road.teacher, tiny_road.sequences, recipe, path, say=said.append)
    assert [step.name for step in said] == ["student", "distill", "table", "encoder"]
    made, learned = said[0].after, said[1].after
    assert learned.ndcg10 > made.ndcg10 or learned.ndcg10 > 0.9 * said[0].before.ndcg10
    manifest = Bundle.open(path).manifest
    assert manifest["model"]["architecture"] == architecture
    assert manifest["recipe"]["student"]["architecture"] == student.architecture
    assert ("encoder.onnx" in Bundle.open(path)) == (architecture != "Pooled")
    engine = Engine.load(path)
    users = engine.encode(np.array([[1, 2, 3], [7, 8, 9]]))
    assert users.shape == (2, engine.width)
    assert np.isfinite(users).all()


def test_what_pruning_spoils_goes_back_to_the_student(tiny_road, tmp_path: Path, export_once) -> None:
    """Not to the teacher, whose shape nobody asked for."""
    said: list[StepReport] = []
    recipe = Recipe(
        name="student", student=StudentConfig(width=12), table=TableConfig(bits=8),
        prune=PruneConfig(keep_heads=0.5, keep_inner=0.01, inner_multiple=1, calibration_batches=2, max_drop=0.0),
    )  # fmt: skip
    path = tmp_path / "student.pocket"
    compress_model(tiny_road.teacher, tiny_road.sequences, recipe, path, say=said.append)
    assert Engine.load(path).width == 12
    pruned = next(step for step in said if step.name == "prune")
    back = [step for step in said if step.name == "put back"]
    assert bool(back) == (pruned.after.ndcg10 < pruned.before.ndcg10)
    for step in back:
        assert step.after == pruned.before == said[0].after
