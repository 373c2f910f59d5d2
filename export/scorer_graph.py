"""The catalogue's scorer: user vectors (B, D) -> scores of all N items (B, N), over the bundle's one item table.

The graph holds no weights. Its table is named as external and handed over by the runtime, which maps the very bytes
that the lookup reads (`runtime/engine.py`). Quantized rows are scored by onnxruntime's `MatMulNBits` with
`accuracy_level=4` (the user's vector is rounded to int8 per block); without that attribute the same operator is tens
of times slower, so it is never left out.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ..runtime.item_table import FloatRows, ItemTable, QuantizedRows, padded_width
from ..runtime.tiered_rows import TieredRows

_IR_VERSION = 10
_MAX_BLOCK = 256


def scorer_graph(table: QuantizedRows | FloatRows | TieredRows) -> onnx.ModelProto:
    """The scorer of a table; the initializers' names are those that the engine hands over.

    Of a table in tiers it scores the quantized rows, as one table or tier by tier; the runtime does the rest
    (`runtime.tiered_rows`).
    """
    users = helper.make_tensor_value_info("users", TensorProto.FLOAT, ["batch", table.width])
    nodes: list[onnx.NodeProto] = []
    initializers: list[TensorProto] = []
    n_scores = table.n_items
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    match table:
        case QuantizedRows():
            _add_products_(nodes, initializers, table.width, {"": (table.n_items, table.bits)})
        case TieredRows():
            n_scores = sum(rows.n_items for rows in table.quantized)
            tiers = {str(n): (rows.n_items, rows.bits) for n, rows in enumerate(table.quantized)}
            if table.is_scored_as_one:
                tiers = {"": (n_scores, 4)}
            _add_products_(nodes, initializers, table.width, tiers)
        case FloatRows():
            nodes = [helper.make_node("Gemm", ["users", "values"], ["scores"], transB=1)]
            initializers = [_external("values", TensorProto.FLOAT, [table.n_items, table.width])]
            opsets = opsets[:1]
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", n_scores])
    graph = helper.make_graph(nodes, "scorer", [users], [scores], initializers)
    return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="pocketrec")


def _add_products_(
    nodes: list[onnx.NodeProto],
    initializers: list[TensorProto],
    width: int,
    tables: Mapping[str, tuple[int, int]],
) -> None:
    """A product for each of some tables of one width, and their scores side by side.

    Args:
        tables: rows and bits, by the number that the names of its initializers end in.
    """
    block, stored = scoring_block(width), padded_width(width)
    source = "users"
    if stored != width:
        initializers.append(helper.make_tensor("pads", TensorProto.INT64, [4], [0, 0, 0, stored - width]))
        nodes.append(helper.make_node("Pad", ["users", "pads"], ["padded"]))
        source = "padded"
    results = ["scores"] if len(tables) == 1 else [f"scores{number}" for number in tables]
    for result, (number, (n_rows, bits)) in zip(results, tables.items(), strict=True):
        bits, n_blocks = max(bits, 4), stored // block
        nodes.append(
            helper.make_node(
                "MatMulNBits", [source, f"codes{number}", f"scales{number}"], [result], domain="com.microsoft",
                K=stored, N=n_rows, bits=bits, block_size=block, accuracy_level=4,
            )
        )  # fmt: skip
        initializers.append(
            _external(f"codes{number}", TensorProto.UINT8, [n_rows, n_blocks, block * bits // 8])
        )
        initializers.append(_external(f"scales{number}", TensorProto.FLOAT, [n_rows, n_blocks]))
    if len(tables) > 1:
        nodes.append(helper.make_node("Concat", results, ["scores"], axis=1))


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

    Zero for floats and codebooks. For quantized rows, the user's vector is rounded to a 127th of each block's largest value:

        |error| <= sum over blocks of  max |user| / 254 * sum |row|
    """
    if not isinstance(table, QuantizedRows | TieredRows):
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
