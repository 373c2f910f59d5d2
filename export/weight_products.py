"""Products of an encoder's graph with a matrix of weights, and how one is replaced by another operator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

LEAST_SIZE = 512
"""Numbers of a matrix: below it scales and nodes cost more than rounding saves."""


@dataclass(frozen=True, slots=True)
class WeightProduct:
    """y = x W, or y = x W + b."""

    nodes: tuple[onnx.NodeProto, ...]
    """What computes it: MatMul or Gemm, and the Add of its bias where that is another node."""
    given: str
    """x."""
    name: str
    """Of the initializer."""
    matrix: NDArray[np.float32]
    """float32 (outputs, inputs)."""
    bias: str
    """An initializer (outputs,); empty where there is none."""
    made: str
    """y."""


def weight_products(graph: onnx.GraphProto, *, with_bias: bool = True) -> Iterator[WeightProduct]:
    """Those whose matrix is worth rounding, in order. Replace one before you ask for the next.

    Args:
        with_bias: take the Add after a MatMul into the product.
    """
    values = {tensor.name: tensor for tensor in graph.initializer}
    for node in list(graph.node):
        if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in values:
            continue
        matrix = numpy_helper.to_array(values[node.input[1]])
        if matrix.dtype != np.float32 or matrix.ndim != 2 or matrix.size < LEAST_SIZE:
            continue
        if node.op_type == "Gemm" and not _is_linear_layer(node):
            continue
        nodes, bias, made = (node,), node.input[2] if len(node.input) > 2 else "", node.output[0]
        if with_bias and not bias:
            readers = [other for other in graph.node if made in other.input]
            if len(readers) == 1 and readers[0].op_type == "Add":
                others = [name for name in readers[0].input if name in values]
                if others and list(values[others[0]].dims) == [matrix.shape[1]]:
                    nodes, bias, made = (node, readers[0]), others[0], readers[0].output[0]
        rows = matrix if is_transposed(node) else matrix.T
        yield WeightProduct(nodes, node.input[0], node.input[1], rows, bias, made)


def replace_(graph: onnx.GraphProto, product: WeightProduct, new: Sequence[onnx.NodeProto]) -> None:
    """Put nodes in the place of a product; its matrix goes when nobody reads it any more."""
    place = list(graph.node).index(product.nodes[0])
    for node in product.nodes:
        graph.node.remove(node)
    for node in reversed(new):
        graph.node.insert(place, node)
    if not any(product.name in node.input for node in graph.node):
        graph.initializer.remove(next(t for t in graph.initializer if t.name == product.name))


def import_contrib_(model: onnx.ModelProto) -> None:
    """Operators of onnxruntime's own may be used."""
    if not any(one.domain == "com.microsoft" for one in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))


def is_transposed(node: onnx.NodeProto) -> bool:
    """Whether the second factor of a Gemm is (outputs, inputs)."""
    return any(attribute.name == "transB" and attribute.i for attribute in node.attribute)


def _is_linear_layer(node: onnx.NodeProto) -> bool:
    found = {
        one.name: one.f if one.type == onnx.AttributeProto.FLOAT else float(one.i) for one in node.attribute
    }
    return found.get("alpha", 1) == found.get("beta", 1) == 1 and not found.get("transA")
