"""An encoder without a graph goes into a bundle, agrees with torch through the runtime, and is timed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pocketrec.compress.models.pooled import Pooled, PooledConfig, pooled_weights
from pocketrec.export.bundle_writer import export_bundle
from pocketrec.export.encoder_timing import pooled_times
from pocketrec.runtime.bundle import Bundle
from pocketrec.runtime.engine import Engine
from pocketrec.runtime.errors import GateError

from .conftest import mean_graph, random_table


@pytest.fixture(scope="module")
def pooled() -> Pooled:
    model = Pooled(PooledConfig(n_items=60, width=24, hidden_width=16, max_length=5), seed=0).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.empty_like(parameter).normal_(std=0.2, generator=generator)
    return model


@pytest.mark.parametrize("form", ["float32", "int8", "int4"])
def test_the_runtime_agrees_with_torch(
    tmp_path: Path, make_content, histories, pooled: Pooled, form: str
) -> None:
    path = tmp_path / "pooled.pocket"
    content = make_content(
        random_table(60, 24, 4), encoder=pooled, encoder_graph=pooled_weights(pooled), encoder_form=form
    )
    export_bundle(path, content, histories)  # which verifies it
    assert "encoder.onnx" not in Bundle.open(path)
    engine = Engine.load(path)
    assert engine.manifest["encoder"]["weights"] == form
    rows = np.array([[3, 9, 20]])
    with torch.no_grad():
        expected = pooled.encode(torch.from_numpy(engine.table.lookup(rows))).numpy()
    # 127 levels of each row's largest weight, over 72 of them; 7 of each block's
    tolerance = {"float32": 1e-4, "int8": 0.1, "int4": 0.6}[form]
    np.testing.assert_allclose(engine.encode(rows), expected, atol=tolerance)


def test_other_weights_than_torchs_are_not_written(
    tmp_path: Path, make_content, histories, pooled: Pooled
) -> None:
    other = pooled_weights(Pooled(pooled.config, seed=5))
    content = make_content(random_table(60, 24, 4), encoder=pooled, encoder_graph=other)
    with pytest.raises(GateError, match="differs from torch"):
        export_bundle(tmp_path / "x.pocket", content, histories)
    assert not list(tmp_path.iterdir())


def test_both_ways_are_timed(pooled: Pooled) -> None:
    times = pooled_times(pooled_weights(pooled), mean_graph(24), "int4", lengths=[2, 5], seed=0)
    assert set(times) == {"float32", "int4"}
    assert min(times.values()) > 0
