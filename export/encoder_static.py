"""int8 products with ranges that are known beforehand, `int8-static`: activations are rounded by constants.

    y = x W + b  ->  s_x * s_W[column] * (uint8(x) int8(W)) + b        uint8(x) = round(x / s_x) + z_x

s_x and z_x come from calibration: the float encoder runs over histories of the user's own people, and the range of each x is
what was seen, nought always in it; in 8 bits cutting off the rare large numbers loses more than it gains. So a call looks
for no ranges (`int8-products` does), and people in a batch do not share one.

Each product is onnxruntime's `MatMulIntegerToFloat`, which takes the bias too, and what several products read is rounded
once. Weights have 7 bits, for the reason that `encoder_int8` gives. `quantize_static` was tried: it also rounds what each
product returns, and was slower than float32 on AVX2 at every length (1.45 times the time on 7 items, 1.25 on 50; this 0.95 and
0.80, ICSRec's SASRec).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ..runtime.engine import session_options
from .weight_products import import_contrib_, replace_, weight_products

Ranges = Mapping[str, tuple[float, float]]
"""Lowest and highest value of each activation that is rounded, by its name in the graph."""
LARGEST_WEIGHT = 64
"""So that 16 bit sums of x86 without VNNI cannot saturate: 2 * 255 * 64 < 2**15."""
CALIBRATED_HISTORIES = 256


def activation_ranges(model: onnx.ModelProto, calls: Sequence[Mapping[str, NDArray[Any]]]) -> Ranges:
    """What products with weights read, over calls of the float graph.

    Args:
        calls: inputs by name, as the encoder will get them.

    Raises:
        ValueError: there are no calls.
    """
    if not calls:
        raise ValueError("encoder: no histories to calibrate ranges on; give at least one")
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = list(dict.fromkeys(product.given for product in weight_products(watched.graph)))
    inputs = {value.name for value in watched.graph.input}
    made = [name for name in names if name not in inputs]
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in made)
    session = onnxruntime.InferenceSession(
        watched.SerializeToString(), session_options(threads=1), providers=["CPUExecutionProvider"]
    )
    lows, highs = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for call in calls:
        found = session.run(made, dict(call)) if made else []  # of no names it would return everything
        values = dict(zip(made, found, strict=True)) | dict(call)
        for name in names:
            given = np.asarray(values[name], np.float32)
            lows[name] = min(lows[name], float(given.min()))
            highs[name] = max(highs[name], float(given.max()))
    return {name: (lows[name], highs[name]) for name in names}


def with_static_products_(model: onnx.ModelProto, ranges: Ranges) -> None:
    """Products with a matrix of weights become integer products with constant ranges."""
    graph = model.graph
    rounded: set[str] = set()
    for product in weight_products(graph):
        x, name, nodes = product.given, product.name, list[onnx.NodeProto]()
        if x not in rounded:
            scale, zero = _scale_and_zero(*ranges[x])
            constants = (np.array(scale, np.float32), f"{x}_scale"), (np.array(zero, np.uint8), f"{x}_zero")
            graph.initializer.extend(numpy_helper.from_array(*constant) for constant in constants)
            nodes.append(helper.make_node("QuantizeLinear", [x, f"{x}_scale", f"{x}_zero"], [f"{x}_rounded"]))
            rounded.add(x)
        if not any(tensor.name == f"{name}_codes" for tensor in graph.initializer):
            largest = np.abs(product.matrix).max(axis=1)
            scales = np.maximum(largest / LARGEST_WEIGHT, np.finfo(np.float32).tiny).astype(np.float32)
            codes = np.rint(product.matrix / scales[:, None]).astype(np.int8)
            graph.initializer.extend(
                [
                    numpy_helper.from_array(np.ascontiguousarray(codes.T), f"{name}_codes"),
                    numpy_helper.from_array(scales, f"{name}_scales"),
                ]
            )
        inputs = [
            f"{x}_rounded",
            f"{name}_codes",
            f"{x}_scale",
            f"{name}_scales",
            f"{x}_zero",
            "",
            product.bias,
        ]
        nodes.append(helper.make_node("MatMulIntegerToFloat", inputs, [product.made], domain="com.microsoft"))
        replace_(graph, product, nodes)
    import_contrib_(model)


def _scale_and_zero(low: float, high: float) -> tuple[float, int]:
    scale = float(np.float32(max((high - low) / 255, np.finfo(np.float32).tiny)))
    return scale, int(np.clip(np.rint(-low / scale), 0, 255))
