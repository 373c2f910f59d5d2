"""Encoders in four bits: an eighth of the bytes, close to float, in either form; deflated in a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper

from pocketrec.compress.models.gru4rec import GRU4Rec, GRU4RecConfig
from pocketrec.compress.models.sasrec import SASRec
from pocketrec.export.bundle_writer import export_bundle
from pocketrec.export.encoder_graph import export_encoder
from pocketrec.export.encoder_int8 import EncoderForm, describe_form, form_of, quantize_encoder
from pocketrec.export.encoder_timing import faster_encoders
from pocketrec.runtime.bundle import Bundle
from pocketrec.runtime.engine import Engine
from pocketrec.runtime.weight_blocks import restored, round_blocks

from .conftest import random_table
from .test_encoder_int8 import operators, run

FORMS: tuple[EncoderForm, ...] = ("int4", "int4-products")


@pytest.fixture(scope="module")
def quantized(transformer_graph: onnx.ModelProto) -> dict[str, onnx.ModelProto]:
    return {form: quantize_encoder(transformer_graph, form) for form in FORMS}


@pytest.mark.parametrize("form", FORMS)
def test_close_to_float(
    transformer: SASRec, quantized: dict[str, onnx.ModelProto], form: EncoderForm
) -> None:
    """Seven levels leave a relative error of about a tenth; a wrong order or scale leaves no correlation."""
    for n in (1, 2, 20):
        vectors = torch.randn(1, n, 32, generator=torch.Generator().manual_seed(n))
        with torch.no_grad():
            expected = transformer.encode(vectors).numpy()
        got = run(quantized[form], vectors.numpy())
        assert np.corrcoef(got[0], expected[0])[0, 1] > 0.97
        assert np.linalg.norm(got - expected) / np.linalg.norm(expected) < 0.25


def test_restored_products_are_exactly_those_of_the_rounded_weights(
    transformer: SASRec, quantized: dict[str, onnx.ModelProto]
) -> None:
    """Vectors are of float16, hence the tolerance of 2**-11, a few times over."""
    rounded = SASRec(transformer.config).eval()
    rounded.load_state_dict(transformer.state_dict())
    with torch.no_grad():
        for name, parameter in rounded.named_parameters():
            if parameter.dim() == 2 and name != "item_table":
                values = parameter.numpy()
                parameter.copy_(torch.from_numpy(restored(*round_blocks(values), values.shape[1])))
        vectors = torch.randn(1, 9, 32, generator=torch.Generator().manual_seed(0))
        expected = rounded.encode(vectors).numpy()
    np.testing.assert_allclose(run(quantized["int4"], vectors.numpy()), expected, atol=5e-3)


@pytest.mark.parametrize("form", FORMS)
def test_a_seventh_of_the_bytes(
    transformer_graph: onnx.ModelProto, quantized: dict[str, onnx.ModelProto], form: EncoderForm
) -> None:
    """4.5 bits a number; biases and norms, which have 16, are a twentieth of this model."""
    weights = sum(t.ByteSize() for t in quantized[form].graph.initializer)
    floats = sum(t.ByteSize() for t in transformer_graph.graph.initializer)
    assert weights < floats / 5.5
    assert quantized[form].ByteSize() < 0.8 * quantize_encoder(transformer_graph, "int8").ByteSize()


def test_what_each_form_is_made_of(
    transformer_graph: onnx.ModelProto, quantized: dict[str, onnx.ModelProto]
) -> None:
    n_linear = 2 * 6
    floats = operators(transformer_graph)
    n_products = floats.count("MatMul") + floats.count("Gemm")
    int4 = quantized["int4"]
    assert operators(int4).count("DequantizeLinear") == n_linear + 1  # and the positions
    assert operators(int4).count("MatMul") + operators(int4).count("Gemm") == n_products
    assert {one.domain for one in int4.opset_import} == {""}
    packed = [t for t in int4.graph.initializer if t.data_type == TensorProto.INT4]
    assert len(packed) == n_linear + 1
    assert all(len(t.raw_data) == np.prod(t.dims) / 2 for t in packed)
    products = operators(quantized["int4-products"])
    assert products.count("MatMulNBits") == n_linear
    assert products.count("MatMul") + products.count("Gemm") == n_products - n_linear
    for kept in ("LayerNormalization", "Softmax", "Gelu"):
        assert products.count(kept) == operators(int4).count(kept) == floats.count(kept)


@pytest.mark.parametrize("form", FORMS)
def test_recurrent_weights(form: EncoderForm) -> None:
    """Of ONNX's GRU, which takes them as three-dimensional."""
    model = GRU4Rec(GRU4RecConfig(n_items=50, width=32, hidden_width=40, max_length=20), seed=0).eval()
    graph = export_encoder(model, width=32, max_length=20)
    stored = quantize_encoder(graph, form)
    assert sum(t.data_type == TensorProto.INT4 for t in stored.graph.initializer) >= 2
    vectors = np.random.default_rng(0).standard_normal((2, 6, 32)).astype(np.float32)
    expected = run(graph, vectors)
    assert np.corrcoef(run(stored, vectors).ravel(), expected.ravel())[0, 1] > 0.98


def test_numbers_too_large_for_float16_stay(transformer_graph: onnx.ModelProto) -> None:
    graph = onnx.ModelProto()
    graph.CopyFrom(transformer_graph)
    vector = next(t for t in graph.graph.initializer if t.data_type == TensorProto.FLOAT and t.dims == [32])
    vector.CopyFrom(numpy_helper.from_array(np.full(32, 1e6, np.float32), vector.name))
    stored = quantize_encoder(graph, "int4")
    assert [t for t in stored.graph.initializer if t.data_type == TensorProto.FLOAT and t.dims == [32]]


@pytest.mark.parametrize("form", FORMS)
def test_the_float_graph_is_left_alone(transformer_graph: onnx.ModelProto, form: EncoderForm) -> None:
    before = transformer_graph.SerializeToString()
    quantize_encoder(transformer_graph, form)
    assert transformer_graph.SerializeToString() == before


@pytest.mark.parametrize("form", FORMS)
def test_never_twice(quantized: dict[str, onnx.ModelProto], form: EncoderForm) -> None:
    with pytest.raises(ValueError, match="so it is quantized already"):
        quantize_encoder(quantized[form], "int8")


@pytest.mark.parametrize("form", FORMS)
def test_a_bundle_of_it(
    tmp_path: Path, make_content, histories, transformer: SASRec, transformer_graph: onnx.ModelProto, form: EncoderForm
) -> None:  # fmt: skip
    """Deflated, and verified through the runtime on the way."""
    content = make_content(
        random_table(60, 32, 8), encoder=transformer, encoder_graph=transformer_graph, encoder_form=form
    )
    path = tmp_path / "int4.pocket"
    export_bundle(path, content, histories)
    bundle = Bundle.open(path)
    graph = quantize_encoder(transformer_graph, form).SerializeToString()
    described = {"weights": "int4", "products": "int8" if form == "int4-products" else "float32"}
    assert bundle.manifest["encoder"] == {**described, "bytes": len(graph)}
    assert len(bundle.part("encoder.onnx")) < 0.95 * len(graph)
    rows = np.array([[3, 9, 20]])
    engine = Engine.load(path)
    expected = run(onnx.load_from_string(graph), engine.table.lookup(rows))
    np.testing.assert_array_equal(engine.encode(rows), expected)


def test_forms_and_their_names() -> None:
    assert form_of(4, "float32") == "int4"
    assert form_of(4, "int8") == "int4-products"
    assert describe_form("float32") == {"weights": "float32", "products": "float32"}
    with pytest.raises(ValueError, match="no form of 5 bits and int8 products"):
        form_of(5, "int8")


def test_both_forms_are_timed_beside_float(transformer_graph: onnx.ModelProto) -> None:
    forms, times = faster_encoders(transformer_graph, width=32, lengths=[3, 9], bits=4, seed=0)
    assert forms[-1] == "int4"
    assert set(forms) <= set(FORMS)
    assert set(times) == {"float32", *FORMS}
    assert all(times[form] < times["float32"] for form in forms[:-1])
