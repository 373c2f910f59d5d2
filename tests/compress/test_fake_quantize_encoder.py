"""An encoder that learns around its rounding learns what the bundle stores, and its exact weights survive the steps."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from pocketrec.compress.distill import distill
from pocketrec.compress.distill_config import DistillConfig
from pocketrec.compress.fake_quantize_encoder import EncoderRounding, matrices_of, merged_for_rounding
from pocketrec.compress.models.sasrec import SASRec, SASRecConfig
from pocketrec.compress.pipeline import compress_model
from pocketrec.compress.prune import PruneConfig
from pocketrec.compress.recipe import EncoderConfig, Recipe, TableConfig
from pocketrec.compress.student import StudentConfig
from pocketrec.runtime.bundle import Bundle
from pocketrec.runtime.engine import Engine
from pocketrec.runtime.weight_blocks import restored, round_blocks


@pytest.fixture
def model() -> SASRec:
    config = SASRecConfig(n_items=40, width=32, n_layers=1, n_heads=1, head_width=16, max_length=20)
    model = SASRec(config, seed=0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return model


def test_what_is_rounded(model: SASRec) -> None:
    names = set(matrices_of(model))
    linear = {f"layers.0.attention.{name}.weight" for name in ("q", "k", "v", "out")}
    assert names == {*linear, "layers.0.dense_1.weight", "layers.0.dense_2.weight", "position_table"}


def test_inside_they_are_what_the_file_stores_and_outside_they_are_exact(model: SASRec) -> None:
    before = {name: matrix.detach().clone() for name, matrix in matrices_of(model).items()}
    rounding = EncoderRounding(model, 4)
    with rounding.applied():
        for name, matrix in matrices_of(model).items():
            values = before[name].numpy()
            stored = restored(*round_blocks(values), values.shape[1])
            # scales have 11 bits there: a number between two levels may go to the other one
            assert (np.abs(matrix.detach().numpy() - stored) < 1e-3).mean() > 0.98
            assert len(np.unique(matrix.detach().numpy()[0, :32])) <= 15
    for name, matrix in matrices_of(model).items():
        assert torch.equal(matrix, before[name])


def test_gradients_of_the_rounded_move_the_exact(model: SASRec) -> None:
    rounding = EncoderRounding(model, 4)
    vectors = torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(2))
    with rounding.applied():
        model.encode(vectors).square().sum().backward()
        inside = model.layers[0].dense_1.weight.detach().clone()
    weight = model.layers[0].dense_1.weight
    assert weight.grad is not None
    settled = copy.deepcopy(model)
    rounding.settle_(settled)
    assert torch.allclose(settled.layers[0].dense_1.weight, inside)
    settled.zero_grad()
    settled.encode(vectors).square().sum().backward()
    expected = settled.layers[0].dense_1.weight.grad
    assert expected is not None
    assert torch.allclose(weight.grad, expected, atol=1e-5)


def test_an_error_inside_leaves_the_exact_ones(model: SASRec) -> None:
    before = model.layers[0].dense_1.weight.detach().clone()
    with pytest.raises(KeyError), EncoderRounding(model, 4).applied():
        raise KeyError
    assert torch.equal(model.layers[0].dense_1.weight, before)


@pytest.mark.parametrize("bits", [None, 8])
def test_other_bits_leave_it_alone(model: SASRec, bits: int | None) -> None:
    before = copy.deepcopy(model.state_dict())
    rounding = EncoderRounding(model, bits)
    with rounding.applied():
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    rounding.settle_(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_one_head_learns_with_its_matrices_merged(model: SASRec) -> None:
    merged = merged_for_rounding(model)
    names = {name.rpartition("attention.")[2] for name in matrices_of(merged) if "attention" in name}
    assert names == {"query.weight", "out.weight"}
    vectors = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert torch.allclose(merged.encode(vectors), model.encode(vectors), atol=1e-4)


def test_a_student_is_returned_as_it_will_be_stored(model: SASRec) -> None:
    sequences = [np.random.default_rng(n).integers(0, 40, 8) for n in range(30)]
    config = DistillConfig(epochs=1, batch_size=16, least_histories=1)
    seen: list[float] = []

    def validate(student) -> float:
        weight = student.layers[0].dense_1.weight.detach().numpy()
        seen.append(float(np.abs(restored(*round_blocks(weight), 32) - weight).max()))
        return float(len(seen))

    best, _ = distill(model, model, sequences, config, bits=None, validate=validate, encoder_bits=4, seed=0)
    assert len(seen) == 2
    assert max(seen) < 1e-3  # of weights of up to .5: the bits of a scale
    assert isinstance(best, SASRec)


@pytest.mark.parametrize("architecture", ["same", "pooled"])
def test_the_whole_road(tiny_road, tmp_path: Path, export_once, architecture) -> None:
    recipe = Recipe(
        name="int4", student=StudentConfig(architecture=architecture), table=TableConfig(bits=8),
        prune=PruneConfig(keep_heads=0.5, calibration_batches=1, max_drop=1.0),
        distill=DistillConfig(epochs=1, batch_size=64, least_histories=1), encoder=EncoderConfig(bits=4),
    )  # fmt: skip
    path = tmp_path / "int4.pocket"
    compress_model(tiny_road.teacher, tiny_road.sequences, recipe, path)
    manifest = Bundle.open(path).manifest
    assert manifest["encoder"]["weights"] == "int4"
    assert manifest["recipe"]["encoder"]["bits"] == 4
    assert np.isfinite(Engine.load(path).encode(np.array([[1, 2, 3]]))).all()
