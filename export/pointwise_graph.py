"""A pointwise model without its tables -> one ONNX graph: looked-up vectors -> logits (B,), B and list lengths free.

    tokens    float32 (B, W)         vectors of the token fields' look-ups, where the layout has them (`runtime.field_tables`)
    list_n    float32 (B, n, D)      vectors of a token_seq field's look-up, zeros beyond the end of a list
    lengths   int64 (B, S)           tokens of each list, one column a token_seq field
    numeric   float32 (B, N)         normalized values of the float fields

Inputs that a model has no use for are left out. As `encoder_graph`: traced by torch, then without metadata and with
short names; standard operators only.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..runtime.features import FeatureSchema
from ..runtime.field_tables import TableLayout
from .encoder_graph import trace_graph


class Network(Protocol):
    """What is exported of a model: `compress.models.pointwise_protocol` has the whole."""

    def logits(self, vectors: Any, lengths: Tensor, numeric: Tensor) -> Tensor: ...


class PointwiseGraph(nn.Module):
    """The model's network, fed as the runtime feeds it."""

    def __init__(self, model: Network, schema: FeatureSchema, layout: TableLayout) -> None:
        super().__init__()
        self.model = model
        self.slots = {
            slot.lookup: (slot.start, group.width)
            for group in layout.groups
            for slot in (*group.shared, *group.own)
        }
        self.lists = {slot.lookup: n for n, slot in enumerate(layout.lists)}
        self.widths = [layout.groups[slot.group].width for slot in layout.lists]
        self.total_width = layout.total_width
        self.n_lookups = len(layout.lookups)
        self.n_float = len(schema.of("float"))

    def forward(
        self,
        tokens: Tensor | None = None,
        lists: list[Tensor] | None = None,
        lengths: Tensor | None = None,
        numeric: Tensor | None = None,
    ) -> Tensor:
        """See the module's docstring: (B,)."""
        given = next(x for x in (tokens, numeric, lengths) if x is not None)
        vectors = list[Tensor]()
        for lookup in range(self.n_lookups):
            if lookup in self.lists:
                assert lists is not None
                vectors.append(lists[self.lists[lookup]])
            else:
                assert tokens is not None
                start, width = self.slots[lookup]
                vectors.append(tokens[:, start : start + width])
        return self.model.logits(
            vectors,
            given.new_zeros(given.shape[0], 0, dtype=torch.int64) if lengths is None else lengths,
            given.new_zeros(given.shape[0], 0) if numeric is None else numeric,
        )

    def example(self, n_rows: int, length: int, seed: int = 0) -> dict[str, NDArray[Any]]:
        """Random inputs by name, lists of `length`."""
        random = np.random.default_rng(seed)
        inputs = dict[str, NDArray[Any]]()
        if self.total_width:
            inputs["tokens"] = random.standard_normal((n_rows, self.total_width)).astype(np.float32)
        for n, width in enumerate(self.widths):
            inputs[f"list_{n}"] = random.standard_normal((n_rows, length, width)).astype(np.float32)
        if self.lists:
            inputs["lengths"] = np.full((n_rows, len(self.lists)), length, np.int64)
        if self.n_float:
            inputs["numeric"] = random.random((n_rows, self.n_float)).astype(np.float32)
        return inputs


def export_pointwise(graph: PointwiseGraph) -> onnx.ModelProto:
    """Trace `graph`.

    Raises:
        torch.onnx.OnnxExporterError: the network has something that cannot be traced.
    """
    example = {name: torch.from_numpy(values) for name, values in graph.example(3, 4).items()}
    batch = torch.export.Dim("batch")
    shapes: dict[str, Any] = {name: {0: batch} for name in example}
    lists = [name for name in example if name.startswith("list_")]
    for name in lists:
        shapes[name] = {0: batch, 1: torch.export.Dim(f"length_{name}")}
    inputs = {name: values for name, values in example.items() if name not in lists}
    dynamic = {name: shapes[name] for name in inputs}
    if lists:
        inputs["lists"] = [example[name] for name in lists]  # type: ignore[assignment]
        dynamic["lists"] = [shapes[name] for name in lists]
    order = [name for name in ("tokens", "lists", "lengths", "numeric") if name in inputs]
    names = [name for group in order for name in (lists if group == "lists" else [group])]
    return trace_graph(
        graph,
        kwargs={name: inputs[name] for name in order},
        input_names=names,
        output_names=["logits"],
        dynamic_shapes={name: dynamic[name] for name in order},
    )
