"""An encoder that takes the mean of the history, with its graph written by hand: bundles of it cost no tracing; and a
traced transformer, once for all tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from pocketrec.compress.models.sasrec import SASRec, SASRecConfig
from pocketrec.export.bundle_writer import BundleContent, export_bundle
from pocketrec.export.encoder_graph import export_encoder
from pocketrec.runtime.engine import Engine
from pocketrec.runtime.item_ids import ItemIds
from pocketrec.runtime.item_table import FloatRows, ItemTable, quantize_rows


def lively(config: SASRecConfig, seed: int = 1) -> SASRec:
    """Every parameter matters: fresh ones, of 0.02 and zero biases, would hide mistakes."""
    model = SASRec(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.empty_like(parameter).normal_(std=0.2, generator=generator)
    return model


@pytest.fixture(scope="session")
def transformer() -> SASRec:
    """Of two layers, so that one computes all positions and one the last; its matrices are worth storing in int8."""
    return lively(
        SASRecConfig(n_items=50, width=32, n_layers=2, n_heads=2, inner_widths=64, max_length=20, dropout=0.5)
    )


@pytest.fixture(scope="session")
def transformer_graph(transformer: SASRec) -> onnx.ModelProto:
    return export_encoder(transformer, width=32, max_length=20)


class Mean(nn.Module):
    """(B, n, D) -> (B, D)."""

    def forward(self, history: torch.Tensor) -> torch.Tensor:
        return history.mean(1)


def mean_graph(width: int, scale: float = 1.0) -> onnx.ModelProto:
    """What `Mean` exports to, times `scale`: 1 is right."""
    nodes = [
        helper.make_node("ReduceMean", ["history", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "scale"], ["users"]),
    ]
    initializers = [
        numpy_helper.from_array(np.array([1]), "axes"),
        numpy_helper.from_array(np.array(scale, np.float32), "scale"),
    ]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("history", TensorProto.FLOAT, ["batch", "length", width])],
        [helper.make_tensor_value_info("users", TensorProto.FLOAT, ["batch", width])],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def random_table(n_items: int, width: int, bits: int | None, seed: int = 0) -> ItemTable:
    """bits=None: floats."""
    values = np.random.default_rng(seed).standard_normal((n_items, width)).astype(np.float32)
    return FloatRows(values) if bits is None else quantize_rows(values, bits)


@pytest.fixture
def make_content() -> Callable[..., BundleContent]:
    """`make_content(table, **what_differs)`: a bundle of `Mean`."""

    def make(table: ItemTable, **changes: Any) -> BundleContent:
        content = BundleContent(
            name="mean",
            encoder=Mean(),
            encoder_graph=mean_graph(table.width),
            max_length=5,
            table=table,
            item_ids=ItemIds.from_sequence(range(1, table.n_items + 1)),
            prior_user=np.arange(table.width, dtype=np.float32),
            encoder_form="float32",
            manifest={},
        )
        return dataclasses.replace(content, **changes)

    return make


@pytest.fixture
def histories() -> list[np.ndarray]:
    """Of rows that every table here has, some longer than 5."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 20, n) for n in (1, 2, 5, 9)]


@pytest.fixture
def make_engine(
    tmp_path: Path, make_content: Callable[..., BundleContent], histories: list[np.ndarray]
) -> Callable[[ItemTable], Engine]:
    """The engine of a bundle with this table."""

    def make(table: ItemTable) -> Engine:
        path = tmp_path / "table.pocket"
        within = [history % table.n_items for history in histories]
        export_bundle(path, make_content(table), within, overwrite=True)
        return Engine.load(path)

    return make
