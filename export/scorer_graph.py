"""The catalogue's scorer: user vectors (B, D) -> scores of all N items (B, N), over the bundle's one item table.

The graph holds no weights. Its table is named as external and handed over by the runtime, which maps the very bytes
that the lookup reads (`runtime/engine.py`). Quantized rows are scored by onnxruntime's `MatMulNBits` with
`accuracy_level=4` (the user's vector is rounded to int8 per block); without that attribute the same operator is tens
of times slower, so it is never left out.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ..runtime.item_table import ItemTable, QuantizedRows, padded_width

_IR_VERSION = 10
_MAX_BLOCK = 256


def scorer_graph(table: ItemTable) -> onnx.ModelProto:
    """The scorer of a table of either format; the initializers' names are those that the engine hands over."""
    users = helper.make_tensor_value_info("users", TensorProto.FLOAT, ["batch", table.width])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", table.n_items])
    opsets = [helper.make_opsetid("", 20)]
    if isinstance(table, QuantizedRows):
        block = scoring_block(table.width)
        width, n_blocks = padded_width(table.width), padded_width(table.width) // block
        source = "users"
        nodes = []
        initializers = []
        if width != table.width:
            pads = helper.make_tensor("pads", TensorProto.INT64, [4], [0, 0, 0, width - table.width])
            initializers.append(pads)
            nodes.append(helper.make_node("Pad", ["users", "pads"], ["padded"]))
            source = "padded"
        nodes.append(
            helper.make_node(
                "MatMulNBits", [source, "codes", "scales"], ["scores"], domain="com.microsoft",
                K=width, N=table.n_items, bits=max(table.bits, 4), block_size=block, accuracy_level=4,
            )
        )  # fmt: skip
        opsets.append(helper.make_opsetid("com.microsoft", 1))
        initializers.append(
            _external("codes", TensorProto.UINT8, [table.n_items, n_blocks, block * max(table.bits, 4) // 8])
        )
        initializers.append(_external("scales", TensorProto.FLOAT, [table.n_items, n_blocks]))
    else:
        nodes = [helper.make_node("Gemm", ["users", "values"], ["scores"], transB=1)]
        initializers = [_external("values", TensorProto.FLOAT, [table.n_items, table.width])]
    graph = helper.make_graph(nodes, "scorer", [users], [scores], initializers)
    return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="pocketrec")


def scoring_block(width: int) -> int:
    """The largest block of MatMulNBits (a power of two) that divides the stored width: fewest scales."""
    block = 16
    while block * 2 <= _MAX_BLOCK and padded_width(width) % (block * 2) == 0:
        block *= 2
    return block


def scoring_error(
    table: ItemTable, user: NDArray[np.float32], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """How far the graph's scores of some items may be from exact ones: float32 (D,), int64 (C,) -> float32 (C,).

    Zero for floats. For quantized rows, the user's vector is rounded to a 127th of each block's largest value:

        |error| <= sum over blocks of  max |user| / 254 * sum |row|
    """
    if not isinstance(table, QuantizedRows):
        return np.zeros(len(rows), np.float32)
    block, padding = scoring_block(table.width), padded_width(table.width) - table.width
    users = np.pad(np.abs(user), (0, padding)).reshape(-1, block)  # (D / block, block)
    items = np.pad(np.abs(table.lookup(rows)), ((0, 0), (0, padding))).reshape(len(rows), -1, block)
    return items.sum(2) @ (users.max(1) / np.float32(254))


def _external(name: str, data_type: int, shape: list[int]) -> TensorProto:
    """An initializer without content, which the session must be given."""
    tensor = TensorProto(name=name, data_type=data_type, dims=shape, data_location=TensorProto.EXTERNAL)
    location = tensor.external_data.add()
    location.key, location.value = "location", name
    return tensor
