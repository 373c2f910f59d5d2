"""int8 encoders: smaller, close to float, in either form, and never quantized twice."""

from __future__ import annotations

import logging
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from pocketrec.compress.models.sasrec import SASRec
from pocketrec.export.encoder_int8 import quantize_encoder
from pocketrec.runtime.engine import session_options

Form = Literal["int8", "int8-products"]
FORMS: tuple[Form, ...] = ("int8", "int8-products")


@pytest.fixture(scope="module")
def quantized(transformer_graph: onnx.ModelProto) -> dict[str, onnx.ModelProto]:
    return {form: quantize_encoder(transformer_graph, form) for form in FORMS}


def run(graph: onnx.ModelProto, vectors: np.ndarray) -> np.ndarray:
    options = session_options(threads=1)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(["users"], {"history": vectors})[0]  # type: ignore[return-value]


def operators(graph: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in graph.graph.node]


@pytest.mark.parametrize("form", FORMS)
def test_smaller_and_close(
    transformer: SASRec, transformer_graph: onnx.ModelProto, quantized: dict[str, onnx.ModelProto], form: Form
) -> None:
    """A LayerNorm makes user vectors of length sqrt(32): 7 bit weights and 8 bit activations leave 3% of it, restored
    weights of 8 bits 1%; kernels that saturate, or scales of the wrong axis, leave a correlation below .99."""
    assert quantized[form].ByteSize() < 0.6 * transformer_graph.ByteSize()
    for n in (1, 2, 20):
        vectors = torch.randn(1, n, 32, generator=torch.Generator().manual_seed(n))
        with torch.no_grad():
            expected = transformer.encode(vectors).numpy()
        got = run(quantized[form], vectors.numpy())
        assert np.corrcoef(got[0], expected[0])[0, 1] > 0.999
        error = np.linalg.norm(got - expected) / np.linalg.norm(expected)
        assert error < (0.015 if form == "int8" else 0.04)


@pytest.mark.parametrize("form", FORMS)
def test_any_batch_and_length(quantized: dict[str, onnx.ModelProto], form: Form) -> None:
    vectors = np.random.default_rng(0).standard_normal((3, 7, 32)).astype(np.float32)
    assert run(quantized[form], vectors).shape == (3, 32)
    assert run(quantized[form], vectors[:1, :1]).shape == (1, 32)


def test_what_is_stored_are_rounded_weights_with_a_scale_a_column(
    transformer_graph: onnx.ModelProto, quantized: dict[str, onnx.ModelProto]
) -> None:
    """Every matrix of the float graph is there again, each number within half a step of its column's."""
    floats = [numpy_helper.to_array(t) for t in transformer_graph.graph.initializer if len(t.dims) == 2]
    stored = {t.name: numpy_helper.to_array(t) for t in quantized["int8"].graph.initializer}
    nodes = [node for node in quantized["int8"].graph.node if node.op_type == "DequantizeLinear"]
    assert (
        len(nodes) == len(floats) == 2 * 6 + 1
    )  # q, k, v, out and two of the feed-forward, and the positions
    left = list(range(len(floats)))
    for node in nodes:
        codes, scales = (stored[name] for name in node.input)
        (axis,) = (attribute.i for attribute in node.attribute if attribute.name == "axis")
        assert codes.dtype == np.int8
        assert scales.shape == (codes.shape[axis],)
        step = np.expand_dims(scales, 1 - axis)
        (match,) = [
            i for i in left
            if floats[i].shape == codes.shape and (np.abs(codes * step - floats[i]) <= 0.501 * step).all()
        ]  # fmt: skip
        left.remove(match)
        assert np.abs(codes).max(axis=1 - axis).min() == 127  # each scale is as small as it can be
    assert left == []


def test_only_products_with_weights_are_integer_products(
    transformer_graph: onnx.ModelProto, quantized: dict[str, onnx.ModelProto]
) -> None:
    floats, products = operators(transformer_graph), operators(quantized["int8-products"])
    n_linear = 2 * 6
    assert products.count("MatMulInteger") == n_linear
    assert products.count("MatMul") == floats.count("MatMul") + floats.count("Gemm") - n_linear == 2 * 2
    restored = operators(quantized["int8"])
    assert "MatMulInteger" not in restored
    for kept in ("MatMul", "Gemm", "LayerNormalization", "Softmax", "Gelu"):
        assert restored.count(kept) == floats.count(kept)
        if kept not in ("MatMul", "Gemm"):
            assert products.count(kept) == floats.count(kept)


def test_integer_weights_have_seven_bits(quantized: dict[str, onnx.ModelProto]) -> None:
    """So that 16 bit sums of x86 without VNNI cannot saturate: 2 * 255 * 64 < 2**15."""
    graph = quantized["int8-products"].graph
    weights = {node.input[1] for node in graph.node if node.op_type == "MatMulInteger"}
    for tensor in graph.initializer:
        if tensor.name in weights:
            assert np.abs(numpy_helper.to_array(tensor).astype(int)).max() <= 64


@pytest.mark.parametrize("form", FORMS)
def test_the_float_graph_is_left_alone(transformer_graph: onnx.ModelProto, form: Form) -> None:
    before, disabled = transformer_graph.SerializeToString(), logging.root.manager.disable
    quantize_encoder(transformer_graph, form)
    assert transformer_graph.SerializeToString() == before
    assert logging.root.manager.disable == disabled


@pytest.mark.parametrize("form", FORMS)
def test_no_metadata(quantized: dict[str, onnx.ModelProto], form: Form) -> None:
    model = quantized[form]
    assert not model.metadata_props
    assert {domain.domain for domain in model.opset_import} == {""}
    for node in model.graph.node:
        assert not node.name
        assert all("/" not in name and len(name) <= 7 for name in (*node.input, *node.output))


@pytest.mark.parametrize("first", FORMS)
@pytest.mark.parametrize("second", FORMS)
def test_a_quantized_graph_is_refused(
    quantized: dict[str, onnx.ModelProto], first: Form, second: Form
) -> None:
    with pytest.raises(
        ValueError, match=r"encoder: has D\w+Linear.*, so it is quantized already; start from the float model"
    ):
        quantize_encoder(quantized[first], second)


def test_an_unknown_form_is_refused(transformer_graph: onnx.ModelProto) -> None:
    form: Any = "int3"
    with pytest.raises(
        ValueError,
        match="encoder form 'int3'; expected int8, int8-products, int8-static, int4 or int4-products",
    ):
        quantize_encoder(transformer_graph, form)
