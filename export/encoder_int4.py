"""Four bits for the encoder's graph, packed, with a scale for each block of 32 numbers (`runtime.weight_blocks`). Two forms:

`int4`: standard operators. The codes are of ONNX's INT4 type, and blocks are restored to float32 once, on loading
(`DequantizeLinear`, which onnxruntime folds): an eighth of the bytes at exactly the speed of float.

`int4-products`: every product with a weight matrix is onnxruntime's `MatMulNBits`, which reads the packed codes and rounds
activations to 8 bits (`accuracy_level` 4). It pays where a matrix does not fit into the caches, which the matrices of most
recommenders do: so it is measured (`encoder_timing.py`).

What is no matrix of a product (positions, recurrent weights, kernels) is restored on loading in both, and vectors
(biases, norms) are float16. Matrices of fewer inputs than half a block have int8 instead: their scales would cost more.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ..runtime.weight_blocks import BLOCK, levels_of, round_blocks
from .weight_products import LEAST_SIZE, import_contrib_, is_transposed, replace_, weight_products

LEAST_VECTOR = 32  # numbers: below it the node that restores a vector costs more than float16 saves
OPSET = 21  # the first with INT4 and blocks of DequantizeLinear
IR_VERSION = 10  # of that opset


def store_in_int4_(model: onnx.ModelProto) -> None:
    """Matrices that are restored on loading: form `int4`; what `with_int4_products_` left of them, too."""
    graph = model.graph
    turned = {
        node.input[1]: not is_transposed(node) for node in graph.node if node.op_type in ("MatMul", "Gemm")
    }
    for initializer in list(graph.initializer):
        values = numpy_helper.to_array(initializer)
        if values.dtype != np.float32 or values.ndim < 2 or values.size < LEAST_SIZE:
            continue
        by_column = values.ndim == 2 and turned.get(initializer.name, False)
        rows = values.T if by_column else values.reshape(-1, values.shape[-1])  # (outputs, inputs)
        if rows.shape[1] < BLOCK // 2:
            continue
        codes, scales = round_blocks(rows)
        levels = levels_of(codes, rows.shape[1])
        if by_column:
            levels, scales = levels.T, scales.T
        else:
            levels, scales = levels.reshape(values.shape), scales.reshape(*values.shape[:-1], -1)
        name = initializer.name
        graph.initializer.remove(initializer)
        graph.initializer.extend([_int4_tensor(levels, f"{name}_codes"), _half(scales, f"{name}_scales")])
        restored = [
            helper.make_node("Cast", [f"{name}_scales"], [f"{name}_floats"], to=TensorProto.FLOAT),
            helper.make_node(
                "DequantizeLinear", [f"{name}_codes", f"{name}_floats"], [name],
                axis=0 if by_column else values.ndim - 1, block_size=BLOCK,
            ),
        ]  # fmt: skip
        _first_(model, restored)
    _raise_opset_(model)


def with_int4_products_(model: onnx.ModelProto) -> None:
    """Products with a matrix of weights become `MatMulNBits`."""
    graph = model.graph
    for product in weight_products(graph, with_bias=False):
        name, (n_outputs, n_inputs) = product.name, product.matrix.shape
        cast = list[onnx.NodeProto]()
        if not any(tensor.name == f"{name}_blocks" for tensor in graph.initializer):
            codes, scales = round_blocks(np.ascontiguousarray(product.matrix))
            halves = _half(scales.reshape(-1), f"{name}_block_scales")
            graph.initializer.extend([numpy_helper.from_array(codes, f"{name}_blocks"), halves])
            cast.append(
                helper.make_node(
                    "Cast", [f"{name}_block_scales"], [f"{name}_block_floats"], to=TensorProto.FLOAT
                )
            )
        made = f"{product.made}_product" if product.bias else product.made
        inputs = [product.given, f"{name}_blocks", f"{name}_block_floats"]
        put = helper.make_node(
            "MatMulNBits", inputs, [made], domain="com.microsoft",
            K=n_inputs, N=n_outputs, bits=4, block_size=BLOCK, accuracy_level=4,
        )  # fmt: skip
        add = [helper.make_node("Add", [made, product.bias], [product.made])] if product.bias else []
        replace_(graph, product, [*cast, put, *add])
    import_contrib_(model)


def halve_vectors_(model: onnx.ModelProto) -> None:
    """Vectors of float32 are stored in float16 where none of their numbers is too large for it."""
    graph = model.graph
    for initializer in list(graph.initializer):
        values = numpy_helper.to_array(initializer)
        if values.dtype != np.float32 or values.size < LEAST_VECTOR or not (np.abs(values) < 6e4).all():
            continue
        name = initializer.name
        graph.initializer.remove(initializer)
        graph.initializer.append(_half(values, f"{name}_half"))
        _first_(model, [helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT)])


def _half(values: NDArray[np.floating], name: str) -> TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(values, np.float16), name)


def _int4_tensor(levels: NDArray[np.int8], name: str) -> TensorProto:
    """ONNX's INT4: two numbers a byte, the first in the low half."""
    flat = np.ascontiguousarray(levels).reshape(-1).view(np.uint8) & 15
    flat = np.pad(flat, (0, len(flat) % 2))
    return TensorProto(
        name=name,
        data_type=TensorProto.INT4,
        dims=levels.shape,
        raw_data=(flat[0::2] | (flat[1::2] << 4)).tobytes(),
    )


def _first_(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    for node in reversed(nodes):
        model.graph.node.insert(0, node)


def _raise_opset_(model: onnx.ModelProto) -> None:
    """Operators of opset 20 mean the same in 21, which only takes more types."""
    for one in model.opset_import:
        if one.domain == "" and one.version < OPSET:
            one.version = OPSET
    model.ir_version = max(model.ir_version, IR_VERSION)
