"""int8 for the encoder: every product with a weight matrix becomes an integer product.

    y = x W  ->  scale_x * scale_W[column] * (uint8(x) int8(W)),   activations quantized per call (dynamic)

done by onnxruntime's `quantize_dynamic`, with what is needed so that the result is smaller *and* not slower, and right
on every processor:

- one scale per output column (`per_channel`),
- 7 bits for weights (`reduce_range`): without VNNI the uint8 x int8 kernels of x86 saturate at 16 bits and silently
  return wrong sums (measured: correlation with float .998 instead of .9999 on AVX2),
- only products with a constant (`MatMulConstBOnly`): attention's own products stay in float,
- LayerNorm, Softmax, biases stay in float32; the position table becomes int8 with a scale a row.

Refused: a graph that is quantized already, which onnxruntime would accept silently.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Generator
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from .encoder_graph import shortened

WEIGHT_LEVELS = 64
"""Integers run from -WEIGHT_LEVELS to WEIGHT_LEVELS: 7 bits, see above."""
_QUANTIZED = {
    "MatMulInteger",
    "DynamicQuantizeLinear",
    "QuantizeLinear",
    "DequantizeLinear",
    "MatMulNBits",
    "QLinearMatMul",
}


def quantize_encoder(model: onnx.ModelProto) -> onnx.ModelProto:
    """The int8 form of an encoder graph; the input is left alone.

    Raises:
        ValueError: the graph is quantized already.
    """
    already = sorted({node.op_type for node in model.graph.node} & _QUANTIZED)
    if already:
        raise ValueError(
            f"encoder: has {', '.join(already)}, so it is quantized already; start from the float model"
        )
    with tempfile.TemporaryDirectory() as folder, _quiet():
        target = Path(folder) / "encoder.onnx"
        source = onnx.ModelProto()
        source.CopyFrom(model)
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True, "WeightSymmetric": True},
        )
        quantized = onnx.load(target)
    _quantize_tables_(quantized)
    return shortened(quantized)


def _quantize_tables_(model: onnx.ModelProto) -> None:
    """Float matrices that are left (the position table): int8 rows and a scale a row, restored in the graph."""
    for initializer in list(model.graph.initializer):
        values = numpy_helper.to_array(initializer)
        if values.dtype != np.float32 or values.ndim != 2 or min(values.shape) < 8:
            continue
        scales = np.maximum(np.abs(values).max(axis=1) / 127, np.finfo(np.float32).tiny).astype(np.float32)
        codes = np.rint(values / scales[:, None]).astype(np.int8)
        name = initializer.name
        model.graph.initializer.remove(initializer)
        model.graph.initializer.append(numpy_helper.from_array(codes, f"{name}_codes"))
        model.graph.initializer.append(numpy_helper.from_array(scales, f"{name}_scales"))
        restore = helper.make_node("DequantizeLinear", [f"{name}_codes", f"{name}_scales"], [name], axis=0)
        model.graph.node.insert(0, restore)


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """onnxruntime advises shape inference on its root logger; our graphs do not need it."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(previous)
