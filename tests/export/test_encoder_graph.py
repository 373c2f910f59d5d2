"""The exported encoder equals torch for every batch and length, and carries nothing but operators and weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from google.protobuf.message import Message

from pocketrec.compress.models.sasrec import SASRec, SASRecConfig
from pocketrec.export.encoder_graph import OPSET, export_encoder, shortened

from .conftest import lively


def assert_equals_torch(model: SASRec, graph: onnx.ModelProto) -> None:
    """float32 of values near 1, summed in another order, through two layers at most."""
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    for batch in (1, 2, 5):
        for n in sorted({1, min(2, model.max_length), model.max_length // 2 + 1, model.max_length}):
            vectors = torch.randn(batch, n, model.width, generator=generator)
            with torch.no_grad():
                expected = model.encode(vectors).numpy()
            (got,) = session.run(["users"], {"history": vectors.numpy()})
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5, err_msg=f"B={batch}, n={n}")


def test_equals_torch_for_every_batch_and_length(
    transformer: SASRec, transformer_graph: onnx.ModelProto
) -> None:
    assert_equals_torch(transformer, transformer_graph)


@pytest.mark.parametrize(("max_length", "positions"), [(1, "end"), (2, "start")])
def test_the_shortest_models_too(max_length: int, positions: str, capfd: pytest.CaptureFixture[str]) -> None:
    """torch.export takes lengths 1 and 2 for constants if it may. And it says nothing while it works."""
    config = SASRecConfig(
        n_items=9, width=8, n_layers=1, n_heads=1, inner_widths=8, max_length=max_length, positions=positions
    )
    model = lively(config)
    graph = export_encoder(model, width=8, max_length=max_length)
    assert capfd.readouterr() == ("", "")
    assert_equals_torch(model, graph)


def strings(message: Message) -> Iterator[str]:
    """Every text in a protobuf message, at any depth; weights are bytes and no text."""
    for field, value in message.ListFields():
        for item in value if field.is_repeated else [value]:
            if isinstance(item, Message):
                yield from strings(item)
            elif isinstance(item, str):
                yield item
            elif isinstance(item, bytes) and field.name != "raw_data":
                yield item.decode()


def test_nothing_of_the_machine_is_in_it(transformer_graph: onnx.ModelProto) -> None:
    found = set(strings(transformer_graph))
    assert {"history", "users", "pocketrec", "LayerNormalization"} <= found  # the walk sees names
    assert [text for text in found if "/" in text or "\\" in text or ".py" in text or "torch" in text] == []
    assert max(map(len, found)) <= len("LayerNormalization")
    graph = transformer_graph.graph
    for holder in (transformer_graph, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        assert not holder.metadata_props
        assert not holder.doc_string
    assert not graph.value_info
    assert not transformer_graph.functions


def test_standard_operators_and_no_more_bytes_than_needed(
    transformer: SASRec, transformer_graph: onnx.ModelProto
) -> None:
    assert [(o.domain, o.version) for o in transformer_graph.opset_import] == [("", OPSET)]
    onnx.checker.check_model(transformer_graph, full_check=True)
    weights = sum(p.nbytes for name, p in transformer.named_parameters() if name != "item_table")
    assert (
        weights < transformer_graph.ByteSize() < weights + 10_000
    )  # some 80 operators of 60 bytes, and constants
    shapes = [tuple(tensor.dims) for tensor in transformer_graph.graph.initializer]
    assert (50, 32) not in shapes  # the item table is no part of it


def test_shapes_say_which_axes_are_free(transformer_graph: onnx.ModelProto) -> None:
    (history,), (users,) = transformer_graph.graph.input, transformer_graph.graph.output
    names = [d.dim_param or d.dim_value for d in history.type.tensor_type.shape.dim]
    assert names == ["batch", "length", 32]
    assert [d.dim_param or d.dim_value for d in users.type.tensor_type.shape.dim] == ["batch", 32]


def test_shortening_again_changes_nothing_that_runs(
    transformer: SASRec, transformer_graph: onnx.ModelProto
) -> None:
    again = onnx.ModelProto()
    again.CopyFrom(transformer_graph)
    again.graph.node[0].doc_string = "/home/someone/model.py"
    again.graph.node[0].name = "node_of_a_long_name"
    again.metadata_props.add(key="trace", value="File /home/someone/model.py")
    assert shortened(again).ByteSize() <= transformer_graph.ByteSize()
    assert not any("someone" in text for text in strings(again))
    assert_equals_torch(transformer, again)
