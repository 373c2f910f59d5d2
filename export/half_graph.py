"""A graph's copy in float16, for devices that multiply those faster; inputs and outputs stay float32.

By onnxruntime's own converter (`onnxruntime.transformers.float16`), which leaves operators without a float16 form as they are
and puts casts around them. Integer weights and their arithmetic are not touched.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import onnx

KEPT = (
    "DynamicQuantizeLinear",
    "QuantizeLinear",
    "DequantizeLinear",
    "MatMulInteger",
    "DynamicQuantizeMatMul",
    "MatMulNBits",
)
"""Operators of integer weights: their scales stay float32, with casts around."""


def half_graph(graph: bytes) -> bytes:
    """The same graph, serialized, with float16 weights and arithmetic; values beyond float16's range become its largest."""
    converter: Any = import_module("onnxruntime.transformers.float16")
    made: onnx.ModelProto = converter.convert_float_to_float16(
        onnx.load_from_string(graph),
        keep_io_types=True,
        op_block_list=[*converter.DEFAULT_OP_BLOCK_LIST, *KEPT],
    )
    return made.SerializeToString()
