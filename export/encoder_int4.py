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

LEAST_SIZE = 512
"""Numbers of a matrix: below it scales and nodes cost more than rounding saves."""
LEAST_VECTOR = 32  # numbers: below it the node that restores a vector costs more than float16 saves
OPSET = 21  # the first with INT4 and blocks of DequantizeLinear
IR_VERSION = 10  # of that opset


def store_in_int4_(model: onnx.ModelProto) -> None:
    """Matrices that are restored on loading: form `int4`; what `with_int4_products_` left of them, too."""
    graph = model.graph
    turned = {
        node.input[1]: not _transposed(node) for node in graph.node if node.op_type in ("MatMul", "Gemm")
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
    values = {tensor.name: tensor for tensor in graph.initializer}
    readers = [name for node in graph.node for name in node.input]
    for node in list(graph.node):
        if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in values:
            continue
        matrix = numpy_helper.to_array(values[node.input[1]])
        plain = node.op_type == "MatMul" or _is_plain_gemm(node)
        if matrix.dtype != np.float32 or matrix.ndim != 2 or matrix.size < LEAST_SIZE or not plain:
            continue
        rows = matrix if _transposed(node) else matrix.T  # (outputs, inputs)
        name, n_outputs, n_inputs = node.input[1], *rows.shape
        codes, scales = round_blocks(rows)
        graph.initializer.extend(
            [
                numpy_helper.from_array(codes, f"{name}_blocks"),
                _half(scales.reshape(-1), f"{name}_block_scales"),
            ]
        )
        bias = list(node.input[2:])
        product = helper.make_node(
            "MatMulNBits", [node.input[0], f"{name}_blocks", f"{name}_block_floats"],
            [f"{node.output[0]}_product"] if bias else [node.output[0]], domain="com.microsoft",
            K=n_inputs, N=n_outputs, bits=4, block_size=BLOCK, accuracy_level=4,
        )  # fmt: skip
        cast = helper.make_node(
            "Cast", [f"{name}_block_scales"], [f"{name}_block_floats"], to=TensorProto.FLOAT
        )
        put = [cast, product]
        if bias:
            put.append(helper.make_node("Add", [f"{node.output[0]}_product", bias[0]], [node.output[0]]))
        _replace_(model, node, put)
        readers.remove(name)
        if name not in readers:
            graph.initializer.remove(values.pop(name))
    if not any(one.domain == "com.microsoft" for one in model.opset_import):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


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


def _transposed(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "transB" and attribute.i for attribute in node.attribute)


def _is_plain_gemm(node: onnx.NodeProto) -> bool:
    """y = x W + b, which is what linear layers become."""
    found = {
        one.name: one.f if one.type == onnx.AttributeProto.FLOAT else float(one.i) for one in node.attribute
    }
    return found.get("alpha", 1) == found.get("beta", 1) == 1 and not found.get("transA")


def _first_(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    for node in reversed(nodes):
        model.graph.node.insert(0, node)


def _replace_(model: onnx.ModelProto, old: onnx.NodeProto, new: list[onnx.NodeProto]) -> None:
    place = list(model.graph.node).index(old)
    model.graph.node.remove(old)
    for node in reversed(new):
        model.graph.node.insert(place, node)


def _raise_opset_(model: onnx.ModelProto) -> None:
    """Operators of opset 20 mean the same in 21, which only takes more types."""
    for one in model.opset_import:
        if one.domain == "" and one.version < OPSET:
            one.version = OPSET
    model.ir_version = max(model.ir_version, IR_VERSION)
