"""Integer products with calibrated ranges: close to float on what looks like the calibration, the same in any batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pocketrec.compress.models.sasrec import SASRec
from pocketrec.export.bundle_writer import export_bundle
from pocketrec.export.encoder_int8 import quantize_encoder
from pocketrec.export.encoder_static import Ranges, activation_ranges
from pocketrec.export.encoder_timing import faster_encoders
from pocketrec.runtime.engine import Engine

from .conftest import mean_graph, random_table
from .test_encoder_int8 import operators, run

N_LINEAR = 2 * 6


def calls(n: int) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(n)
    return [{"history": random.standard_normal((1, 1 + i % 20, 32)).astype(np.float32)} for i in range(n)]


@pytest.fixture(scope="module")
def ranges(transformer_graph: onnx.ModelProto) -> Ranges:
    return activation_ranges(transformer_graph, calls(64))


@pytest.fixture(scope="module")
def quantized(transformer_graph: onnx.ModelProto, ranges: Ranges) -> onnx.ModelProto:
    return quantize_encoder(transformer_graph, "int8-static", ranges)


def test_every_activation_that_weights_multiply_has_a_range(
    transformer_graph: onnx.ModelProto, ranges: Ranges
) -> None:
    """q, k and v of the first layer share one; the last layer's queries are other rows than its keys; out and two of the
    feed-forward have their own."""
    assert len(ranges) == 4 + 5
    assert all(low <= 0 <= high and low < high for low, high in ranges.values())
    assert ranges == activation_ranges(transformer_graph, calls(64))


def test_close_to_float(transformer_graph: onnx.ModelProto, quantized: onnx.ModelProto) -> None:
    """7 bit weights and 8 bit activations leave 4% of the vector, as with ranges found in each call."""
    for call in calls(7)[3:]:
        expected, got = run(transformer_graph, call["history"]), run(quantized, call["history"])
        assert np.linalg.norm(got - expected) / np.linalg.norm(expected) < 0.05


def test_people_of_a_batch_do_not_share_ranges(quantized: onnx.ModelProto) -> None:
    """Which they do where ranges are found in each call; sums of a batch may differ in the last bits of a float."""
    vectors = np.random.default_rng(0).standard_normal((5, 6, 32)).astype(np.float32)
    vectors[4] *= 3
    alone = np.concatenate([run(quantized, one[None]) for one in vectors])
    np.testing.assert_allclose(run(quantized, vectors), alone, atol=1e-5)


def test_what_it_is_made_of(transformer_graph: onnx.ModelProto, quantized: onnx.ModelProto) -> None:
    made, floats = operators(quantized), operators(transformer_graph)
    assert made.count("MatMulIntegerToFloat") == N_LINEAR
    assert made.count("QuantizeLinear") == 9
    assert "DynamicQuantizeLinear" not in made
    assert (
        made.count("MatMul") + made.count("Gemm") == floats.count("MatMul") + floats.count("Gemm") - N_LINEAR
    )
    weights = {node.input[1] for node in quantized.graph.node if node.op_type == "MatMulIntegerToFloat"}
    for tensor in quantized.graph.initializer:
        if tensor.name in weights:
            assert np.abs(numpy_helper.to_array(tensor).astype(int)).max() == 64  # 2 * 255 * 64 < 2**15


def test_a_range_is_what_was_seen_and_nought() -> None:
    given = [{"history": np.full((1, 2, 32), value, np.float32)} for value in (1.5, 4.0, 0.5)]
    assert activation_ranges(mean_then_linear(), given) == {"history": (0.0, 4.0)}


def mean_then_linear() -> onnx.ModelProto:
    """history -> a product with weights, straight."""
    model = mean_graph(32)
    model.graph.initializer.append(numpy_helper.from_array(np.eye(32, dtype=np.float32), "weights"))
    model.graph.node[0].input[0] = "turned"
    model.graph.node.insert(0, onnx.helper.make_node("MatMul", ["history", "weights"], ["turned"]))
    return model


def test_without_ranges_or_histories_it_is_refused(transformer_graph: onnx.ModelProto) -> None:
    with pytest.raises(ValueError, match="int8-static needs ranges of activations"):
        quantize_encoder(transformer_graph, "int8-static")
    with pytest.raises(ValueError, match="no histories to calibrate ranges on"):
        activation_ranges(transformer_graph, [])


def test_never_twice(quantized: onnx.ModelProto) -> None:
    with pytest.raises(
        ValueError, match=r"has .*MatMulIntegerToFloat, QuantizeLinear, so it is quantized already"
    ):
        quantize_encoder(quantized, "int8")


def test_an_encoder_without_products_has_no_ranges() -> None:
    assert activation_ranges(mean_graph(32), calls(2)) == {}


def test_a_bundle_of_it(
    tmp_path: Path, make_content, histories, transformer: SASRec, transformer_graph: onnx.ModelProto, ranges: Ranges
) -> None:  # fmt: skip
    content = make_content(
        random_table(60, 32, 8), encoder=transformer, encoder_graph=transformer_graph, encoder_form="int8-static",
        encoder_ranges=ranges,
    )  # fmt: skip
    export_bundle(tmp_path / "static.pocket", content, histories)  # which verifies it
    engine = Engine.load(tmp_path / "static.pocket")
    assert engine.manifest["encoder"] == {"weights": "int8", "products": "int8-static"}


def test_it_is_timed_where_ranges_are_known(transformer_graph: onnx.ModelProto, ranges: Ranges) -> None:
    forms, times = faster_encoders(transformer_graph, width=32, lengths=[3], bits=8, seed=0, ranges=ranges)
    assert set(times) == {"float32", "int8", "int8-products", "int8-static"}
    assert forms[-1] == "int8"
    assert sorted(forms, key=lambda form: times[form])[:-1] == forms[:-1]
