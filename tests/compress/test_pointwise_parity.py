"""Real checkpoints of pointwise models give the probabilities and the figures of their framework, which is not installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from pocketrec.benchmarks.ranking_metrics import per_user
from pocketrec.compress.layouts import PointwiseTeacher, load_pointwise_teacher
from pocketrec.compress.models.autoint import AutoIntConfig
from pocketrec.compress.models.dcnv2 import DCNv2Config
from pocketrec.compress.models.deepfm import DeepFMConfig
from pocketrec.compress.models.din import DINConfig
from pocketrec.compress.models.neumf import NeuMFConfig
from pocketrec.compress.models.wide_deep import WideDeepConfig

from .pointwise_rows import probabilities

# AUC and log loss of RecBole's own evaluator on its test rows, printed with four digits.
FIGURES = {
    "DeepFM": (0.7838, 0.5674),
    "DCNV2": (0.7750, 0.5925),
    "AutoInt": (0.7802, 0.5594),
    "WideDeep": (0.7801, 0.5731),
    "DIN": (0.7086, 0.6380),
}
LAYOUTS = {"WideDeep": "recbole-wide-deep"} | {
    name: f"recbole-{name.lower()}" for name in ("DeepFM", "DCNV2", "AutoInt", "DIN", "NeuMF")
}
CONFIGS: dict[str, Any] = {
    "DeepFM": lambda schema: DeepFMConfig(
        schema=schema, width=10, hidden_widths=(128, 128, 128), dropout=0.2
    ),
    "WideDeep": lambda schema: WideDeepConfig(
        schema=schema, width=10, hidden_widths=(32, 16, 8), dropout=0.1
    ),
    "DCNV2": lambda schema: DCNv2Config(schema=schema, width=16, n_cross_layers=3, hidden_widths=(768, 768)),
    "AutoInt": lambda schema: AutoIntConfig(
        schema=schema,
        width=10,
        attention_width=16,
        n_layers=3,
        n_heads=2,
        hidden_widths=(128, 128),
        dropout=0.2,
    ),
    "DIN": lambda schema: DINConfig(
        schema=schema, width=32, attention_widths=(64, 32), hidden_widths=(64, 32)
    ),
    "NeuMF": lambda schema: NeuMFConfig(schema=schema, hidden_widths=(128, 64), dropout=0.1),
}
# RecBole ran the same float32 weights; sums in another order differ in the 6th digit.
TOLERANCE = 1e-5


@pytest.fixture(params=LAYOUTS, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def teacher(name: str, shared: Path) -> PointwiseTeacher:
    path = shared / "checkpoints" / "recbole" / f"{name}-ml100k.pth"
    return load_pointwise_teacher(path, data=shared / "data" / "ml-100k" / "ml-100k.inter")


@pytest.fixture(scope="module")
def reference(name: str, shared: Path) -> dict[str, NDArray[Any]]:
    with np.load(
        shared / "checkpoints" / "recbole" / f"{name}-ml100k.reference.npz", allow_pickle=False
    ) as file:
        return dict(file)


def auc(probability: NDArray[np.float32], label: NDArray[np.float32]) -> float:
    """The share of pairs of a positive and a negative in the right order, ties half."""
    distinct, rank = np.unique(probability, return_inverse=True)
    positives, negatives = (np.bincount(rank[label == y], minlength=len(distinct)) for y in (1, 0))
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / positives.sum() / negatives.sum())


def log_loss(probability: NDArray[np.float32], label: NDArray[np.float32]) -> float:
    p = np.clip(probability.astype(np.float64), 1e-15, 1 - 1e-15)
    return float(-(label * np.log(p) + (1 - label) * np.log(1 - p)).mean())


def inputs(teacher: PointwiseTeacher, reference: dict[str, Any], prefix: str) -> dict[str, NDArray[Any]]:
    return {field.name: reference[prefix + field.name] for field in teacher.model.schema.fields}


@pytest.mark.shared
def test_the_layout_and_the_architecture(name: str, teacher: PointwiseTeacher) -> None:
    assert teacher.layout == LAYOUTS[name]
    assert teacher.model.config == CONFIGS[name](teacher.model.schema)
    assert not teacher.model.training  # type: ignore[attr-defined]
    assert teacher.threshold == (None if name == "NeuMF" else 4.0)


@pytest.mark.shared
def test_the_vocabularies_are_recboles(teacher: PointwiseTeacher, reference: dict[str, Any]) -> None:
    for field in teacher.model.schema.fields:
        known = f"tokens_{field.name.removesuffix('_list')}"
        tokens = reference[known if known in reference else f"{field.name.removesuffix('_id')}_tokens"]
        ids = teacher.vocabularies[field.name]
        assert field.size == len(ids) + 1 == len(tokens)
        assert [str(token) for token in ids.ids(range(len(ids)))] == tokens[1:].tolist()


@pytest.mark.shared
@pytest.mark.parametrize("name", FIGURES, scope="module", indirect=True)
def test_recboles_own_probabilities(teacher: PointwiseTeacher, reference: dict[str, Any]) -> None:
    got = probabilities(teacher.model, inputs(teacher, reference, "in_"))
    np.testing.assert_allclose(got, reference["prob"], rtol=0, atol=TOLERANCE)


@pytest.mark.shared
@pytest.mark.parametrize("name", FIGURES, scope="module", indirect=True)
def test_recboles_own_figures(name: str, teacher: PointwiseTeacher, reference: dict[str, Any]) -> None:
    got = probabilities(teacher.model, inputs(teacher, reference, "all_"))
    np.testing.assert_allclose(got, reference["all_prob"], rtol=0, atol=TOLERANCE)
    label = reference["all_label"]
    assert (auc(got, label), log_loss(got, label)) == pytest.approx(FIGURES[name], abs=1e-4)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["NeuMF"], scope="module", indirect=True)
def test_neumfs_own_scores_and_figures(teacher: PointwiseTeacher, reference: dict[str, Any]) -> None:
    n_items = reference["scores"].shape[1]
    for user, scores in zip(reference["user_id"][::4], reference["scores"][::4], strict=True):
        rows = {"user_id": np.full(n_items, user), "item_id": np.arange(n_items)}
        np.testing.assert_allclose(probabilities(teacher.model, rows), scores, rtol=0, atol=TOLERANCE)
    # Of all users, the ten that RecBole ranked first and the target: the same order, so the same figures.
    users, targets, top = reference["all_user_id"], reference["all_target"], reference["all_top10"]
    items = np.concatenate([top, targets[:, None]], 1)  # (943, 11)
    rows = {"user_id": np.repeat(users, 11), "item_id": items.ravel()}
    scores = probabilities(teacher.model, rows).reshape(items.shape)
    assert (np.diff(scores[:, :10]) <= TOLERANCE).all()
    inside = (top == targets[:, None]).any(1)
    assert (scores[~inside, 10] <= scores[~inside, 9] + TOLERANCE).all()
    ranks = np.where(inside, (scores[:, :10] > scores[:, 10:]).sum(1) + 1, 11)
    got = tuple(float(per_user(ranks, metric).mean()) for metric in ("hr@10", "ndcg@10"))
    assert got == pytest.approx((0.1230, 0.0606), abs=1e-4)


# AUC on the training, validation and test rows: what an independent forward pass measured; AutoInt's validation and
# test figures are those that FuxiCTR printed when it was trained.
FUXICTR = {
    "deepfm": (0.894, 0.641, 0.635),
    "fm": (0.860, 0.521, 0.493),
    "autoint": (None, 0.6378, 0.6420),
}


@pytest.mark.shared
@pytest.mark.parametrize("name", FUXICTR)
def test_fuxictrs_figures(shared: Path, name: str) -> None:
    folder = shared / "data" / "avazu-tiny"
    path = shared / "checkpoints" / f"fuxictr-{name}-avazu.model"
    teacher = load_pointwise_teacher(path, data=folder / "train.parquet")
    assert teacher.layout == f"fuxictr-{name}"
    assert teacher.rows_in_data
    fields = teacher.model.schema.fields
    assert len(fields) == 24
    for split, expected in zip(("train", "valid", "test"), FUXICTR[name], strict=True):
        frame = pl.read_parquet(folder / f"{split}.parquet")
        rows = {field.name: frame[field.name].to_numpy() for field in fields}
        rows = {field.name: np.where(rows[field.name] == field.size, 0, rows[field.name]) for field in fields}
        got = auc(probabilities(teacher.model, rows), frame[teacher.model.schema.label].to_numpy())
        assert expected is None or got == pytest.approx(expected, abs=0.001)
