"""Rounded forms of the encoder's graph. The two first forms store each weight matrix in int8 with a scale a column.

`int8`: the runtime restores the matrices to float32 once, when it loads them (onnxruntime folds the node), and products
are float32: a quarter of the bytes in the file at exactly the speed of float.

`int8-products`: every product with a weight matrix becomes an integer product,

    y = x W  ->  scale_x * scale_W[column] * (uint8(x) int8(W)),   activations rounded per call (dynamic)

by onnxruntime's `quantize_dynamic`, with what is needed so that the result is right on every processor: one scale per
output column (`per_channel`); 7 bits for weights (`reduce_range`), since without VNNI the uint8 x int8 kernels of x86
saturate at 16 bits and silently return wrong sums (measured on AVX2: correlation with float .998 instead of .9999); only
products with a constant (`MatMulConstBOnly`), attention's own stay in float.

`int8-static` knows the ranges of activations beforehand: `encoder_static.py`. Four bits: `encoder_int4.py`.

Which one is faster depends on the processor and on the length of histories: rounding the activations costs a pass over
them, which small matrices do not earn back (measured on AVX2, width 64: 7% slower for 7 items, 5% faster for 50). So it
is measured, not assumed: `encoder_timing.py`. LayerNorm, Softmax and biases stay in float32 in both.

Refused: a graph that is quantized already, which onnxruntime would accept silently.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from .encoder_graph import shortened
from .encoder_int4 import halve_vectors_, store_in_int4_, with_int4_products_
from .encoder_static import Ranges, with_static_products_
from .weight_products import LEAST_SIZE

EncoderForm = Literal["float32", "int8", "int8-products", "int8-static", "int4", "int4-products"]
"""How the encoder is stored and multiplied; see above, `encoder_static` and `encoder_int4`."""
Products = Literal["float32", "int8", "static"]
"""Of restored weights, of rounded ones with ranges of activations found in each call, or known beforehand."""
_QUANTIZED = {
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "DynamicQuantizeLinear",
    "QuantizeLinear",
    "DequantizeLinear",
    "MatMulNBits",
    "QLinearMatMul",
}


def quantize_encoder(
    model: onnx.ModelProto, form: EncoderForm, ranges: Ranges | None = None
) -> onnx.ModelProto:
    """One of the rounded forms of an encoder graph; the input is left alone.

    Args:
        ranges: of activations, for `int8-static`.

    Raises:
        ValueError: the graph is quantized already, the form is unknown, or it needs ranges.
    """
    already = sorted({node.op_type for node in model.graph.node} & _QUANTIZED)
    if already:
        raise ValueError(
            f"encoder: has {', '.join(already)}, so it is quantized already; start from the float model"
        )
    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    match form:
        case "int8":
            _store_matrices_in_int8_(quantized)
        case "int8-products":
            quantized = _with_integer_products(model)
            _store_matrices_in_int8_(quantized)
        case "int8-static":
            if ranges is None:
                raise ValueError(
                    "encoder form int8-static needs ranges of activations; see activation_ranges"
                )
            with_static_products_(quantized, ranges)
            _store_matrices_in_int8_(quantized)
        case "int4" | "int4-products":
            if form == "int4-products":
                with_int4_products_(quantized)
            store_in_int4_(quantized)
            _store_matrices_in_int8_(quantized)  # those with few inputs
            halve_vectors_(quantized)
        case unknown:
            raise ValueError(
                f"encoder form {unknown!r}; expected int8, int8-products, int8-static, int4 or int4-products"
            )
    return shortened(quantized)


def form_of(bits: int, products: Products) -> EncoderForm:
    """The form of weights in 4 or 8 bits that are multiplied so."""
    forms: dict[tuple[int, str], EncoderForm] = {
        (8, "float32"): "int8",
        (8, "int8"): "int8-products",
        (8, "static"): "int8-static",
        (4, "float32"): "int4",
        (4, "int8"): "int4-products",
    }
    if (bits, products) not in forms:
        raise ValueError(f"encoder: no form of {bits} bits and {products} products")
    return forms[bits, products]


def describe_form(form: EncoderForm) -> dict[str, str]:
    """What the manifest says of it: how `weights` are stored and what `products` with them are made of."""
    weights, _, how = form.partition("-")
    return {"weights": weights, "products": {"": "float32", "products": "int8", "static": "int8-static"}[how]}


def _with_integer_products(model: onnx.ModelProto) -> onnx.ModelProto:
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
        return onnx.load(target)


def _store_matrices_in_int8_(model: onnx.ModelProto) -> None:
    """Float matrices and kernels become int8 codes and a scale for each output: a column, a kernel, or a row where
    nothing is multiplied."""
    axes = {
        node.input[1]: 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
        for node in model.graph.node
        if node.op_type in ("MatMul", "Gemm")
    }
    for initializer in list(model.graph.initializer):
        values = numpy_helper.to_array(initializer)
        if values.dtype != np.float32 or values.ndim < 2 or values.size < LEAST_SIZE:
            continue
        axis = axes.get(initializer.name, 0)
        others = tuple(a for a in range(values.ndim) if a != axis)
        largest = np.abs(values).max(axis=others, keepdims=True)
        scales = np.maximum(largest / 127, np.finfo(np.float32).tiny).astype(np.float32)
        codes = np.rint(values / scales).astype(np.int8)
        name = initializer.name
        model.graph.initializer.remove(initializer)
        model.graph.initializer.append(numpy_helper.from_array(codes, f"{name}_codes"))
        model.graph.initializer.append(numpy_helper.from_array(scales.reshape(-1), f"{name}_scales"))
        inputs = [f"{name}_codes", f"{name}_scales"]
        model.graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, [name], axis=axis))


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """onnxruntime advises shape inference on its root logger; our graphs do not need it."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(previous)
