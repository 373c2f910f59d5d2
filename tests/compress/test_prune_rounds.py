"""Rounds end where a single cut ends, learn in between, and each decides anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pocketrec.compress.distill_config import DistillConfig
from pocketrec.compress.models.gru4rec import GRU4Rec, GRU4RecConfig
from pocketrec.compress.models.protocol import SequenceModel
from pocketrec.compress.models.sasrec import SASRec, SASRecConfig
from pocketrec.compress.pipeline import compress_model
from pocketrec.compress.prune import PruneConfig, prune
from pocketrec.compress.prune_rounds import of_round, prune_in_rounds
from pocketrec.compress.recipe import Recipe
from pocketrec.compress.report import StepReport


@pytest.fixture
def sequences() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 50, 9) for _ in range(40)]


def left(model: SequenceModel, _: int) -> tuple[SequenceModel, dict[str, Any]]:
    """Learns nothing."""
    return model, {"epochs": []}


MODELS = [
    SASRec(SASRecConfig(n_items=50, width=16, n_layers=2, n_heads=4, inner_widths=(48, 64), max_length=10)),
    GRU4Rec(GRU4RecConfig(n_items=50, width=16, hidden_width=40, max_length=10)),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("rounds", [2, 3, 5])
def test_as_many_units_stay_as_of_a_single_cut(sequences, model: SequenceModel, rounds: int) -> None:
    config = PruneConfig(
        keep_heads=0.5, keep_inner=0.3, keep_hidden=0.5, inner_multiple=4, calibration_batches=2
    )
    once, _ = prune(model, sequences, config, seed=0)
    slowly, detail = prune_in_rounds(
        model, sequences, PruneConfig(
            keep_heads=0.5, keep_inner=0.3, keep_hidden=0.5, inner_multiple=4, calibration_batches=2, rounds=rounds,
        ), left, seed=0,
    )  # fmt: skip
    assert slowly.config == once.config
    assert len(detail["rounds"]) == rounds - 1
    vectors = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(slowly.encode(vectors)).all()


def test_one_round_is_a_single_cut(sequences) -> None:
    config = PruneConfig(calibration_batches=2)
    once, told = prune(MODELS[0], sequences, config, seed=0)
    same, detail = prune_in_rounds(MODELS[0], sequences, config, left, seed=0)
    assert detail == told
    vectors = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(once.encode(vectors), same.encode(vectors))


def test_rounds_cut_less_and_less() -> None:
    config = PruneConfig(keep_inner=0.2, rounds=4)
    kept = [of_round(config, n).keep_inner for n in range(5)]
    assert kept[0] == 1
    assert kept[4] == pytest.approx(0.2)
    steps = -np.diff(kept)
    assert (steps > 0).all()
    assert (np.diff(steps) < 0).all()


def test_each_round_learns_for_its_epochs_and_the_last_does_not(sequences) -> None:
    seen: list[tuple[int, tuple[int, ...]]] = []

    def recover(model: SequenceModel, epochs: int) -> tuple[SequenceModel, dict[str, Any]]:
        seen.append((epochs, model.config.inner_widths))
        return model, {"epochs": [{"epoch": 0}]}

    config = PruneConfig(keep_inner=0.25, rounds=3, round_epochs=2, inner_multiple=4, calibration_batches=1)
    pruned, detail = prune_in_rounds(MODELS[0], sequences, config, recover, seed=0)
    assert [epochs for epochs, _ in seen] == [2, 2]
    assert [widths for _, widths in seen] == [r["inner_widths"] if isinstance(r["inner_widths"], tuple) else tuple(r["inner_widths"]) for r in detail["rounds"]]  # fmt: skip
    assert seen[0][1] > seen[1][1] > pruned.config.inner_widths


def test_the_whole_road(tiny_road, tmp_path: Path, export_once) -> None:
    said: list[StepReport] = []
    learn = DistillConfig(epochs=1, batch_size=64, least_histories=1)
    prune_config = PruneConfig(
        keep_inner=0.25, rounds=2, inner_multiple=4, calibration_batches=1, max_drop=1.0
    )
    recipe = Recipe(name="rounds", prune=prune_config, distill=learn)
    compress_model(tiny_road.teacher, tiny_road.sequences, recipe, tmp_path / "x.pocket", say=said.append)
    assert [step.name for step in said] == ["prune", "distill"]
    (first,) = said[0].detail["rounds"]
    assert [epoch["epoch"] for epoch in first["epochs"]] == [0, 1]
    assert min(first["inner_widths"]) > max(said[0].detail["inner_widths"])
