"""Zeros where they were asked for, nothing else touched, and a report that promises no speed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pocketrec.compress.models.sasrec import SASRec, SASRecConfig
from pocketrec.compress.pipeline import compress_model
from pocketrec.compress.recipe import Recipe, TableConfig
from pocketrec.compress.report import StepReport
from pocketrec.compress.sparsify import SparsifyConfig, kept, sparsify

CONFIG = SASRecConfig(n_items=50, width=16, n_layers=1, n_heads=2, inner_widths=20, max_length=6)


@pytest.mark.parametrize(("pattern", "n", "m"), [("2:4", 2, 4), ("4:8", 4, 8)])
def test_of_every_m_the_n_largest_stay(pattern: str, n: int, m: int) -> None:
    weight = torch.randn(6, 16, generator=torch.Generator().manual_seed(0))
    mask = kept(weight, SparsifyConfig(pattern=pattern)).reshape(-1, m)  # type: ignore[arg-type]
    groups = weight.abs().reshape(-1, m)
    assert (mask.sum(1) == m - n).all()
    for group, ones in zip(groups, mask.bool(), strict=True):
        assert float(group[ones].min()) >= float(group[~ones].max())


def test_the_smallest_share_goes_and_the_table_stays() -> None:
    model = SASRec(CONFIG).eval()
    sparse, told = sparsify(model, SparsifyConfig(pattern="unstructured", share=0.25))
    for ours, theirs in zip(sparse.layers, model.layers, strict=True):
        weight, dense = ours.dense_1.weight, theirs.dense_1.weight
        assert int((weight == 0).sum()) == weight.numel() // 4
        assert torch.equal(weight[weight != 0], dense[weight != 0])
    assert torch.equal(sparse.item_table, model.item_table)
    assert 0.2 < told["zeros"] < 0.6  # fresh biases are zero as well


def test_a_width_that_m_does_not_divide_stays_whole() -> None:
    sparse, _ = sparsify(SASRec(CONFIG).eval(), SparsifyConfig(pattern="4:8"))  # 20 inner units
    assert not (sparse.layers[0].dense_2.weight == 0).any()
    assert (sparse.layers[0].dense_1.weight == 0).any()


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"pattern": "3:4"}, "expected unstructured, 2:4 or 4:8"), ({"share": 1.0}, "below 1")],
)
def test_what_is_no_pattern_is_refused(settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SparsifyConfig(**settings)


def test_the_step_says_what_zeros_bring(tiny_road, tmp_path: Path, export_once) -> None:
    """As many numbers and bytes as before, less what the teacher's manifest says of where it came from, and both times."""
    said: list[StepReport] = []
    recipe = Recipe(name="sparse", sparsify=SparsifyConfig(), table=TableConfig(bits=8))
    compress_model(tiny_road.teacher, tiny_road.sequences, recipe, tmp_path / "x.pocket", say=said.append)
    step = next(step for step in said if step.name == "sparsify")
    assert step.after.parameters == step.before.parameters
    assert step.after.size_bytes > 0.95 * step.before.size_bytes
    assert set(step.detail["encode_us"]) == {"before", "after"}
    assert step.detail["zeros"] > 0.3
