"""Small ONNX models written by hand: a device that measures has no `onnx`.

Only what the measured graphs need of the format: nodes with integer attributes, initializers, inputs and outputs of one
type. Weights stay outside: they are named as external, and given to the session (`session_of`).

Source: onnx/onnx.proto3 of the ONNX repository, IR version 10; the wire format is that of Protocol Buffers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnxruntime
from numpy.typing import NDArray

_IR_VERSION = 10
_OPSETS = {"": 20, "com.microsoft": 1}
_DATA_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operator."""

    op: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    domain: str = ""
    attributes: Mapping[str, int] = field(default_factory=dict)


def model_bytes(
    nodes: Sequence[Node],
    inputs: Mapping[str, tuple[str, Sequence[int | str]]],
    outputs: Mapping[str, tuple[str, Sequence[int | str]]],
    constants: Mapping[str, NDArray[Any]],
    weights: Mapping[str, NDArray[Any]],
) -> bytes:
    """A model; inputs and outputs by name are (dtype, shape), constants are stored, weights are external."""
    graph = b"".join(
        [
            *(_message(1, _node(node)) for node in nodes),
            _text(2, "graph"),
            *(_message(5, _tensor(name, value, external=False)) for name, value in constants.items()),
            *(_message(5, _tensor(name, value, external=True)) for name, value in weights.items()),
            *(_message(11, _value_info(name, *of)) for name, of in inputs.items()),
            *(_message(12, _value_info(name, *of)) for name, of in outputs.items()),
        ]
    )
    opsets = (_text(1, domain) + _number(2, version) for domain, version in _OPSETS.items())
    return _number(1, _IR_VERSION) + _message(7, graph) + b"".join(_message(8, opset) for opset in opsets)


def session_of(
    model: bytes, weights: Mapping[str, NDArray[Any]], threads: int = 1
) -> onnxruntime.InferenceSession:
    """A session of a model and its weights, with onnxruntime's defaults otherwise."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
    options.add_external_initializers(list(weights), values)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _node(node: Node) -> bytes:
    attributes = (
        _message(5, _text(1, name) + _number(3, value) + _number(20, 2))
        for name, value in sorted(node.attributes.items())
    )
    return b"".join(
        [
            *(_text(1, name) for name in node.inputs),
            *(_text(2, name) for name in node.outputs),
            _text(4, node.op),
            *attributes,
            _text(7, node.domain),
        ]
    )


def _tensor(name: str, value: NDArray[Any], *, external: bool) -> bytes:
    described = b"".join(_number(1, size) for size in value.shape) + _number(2, _DATA_TYPES[value.dtype.name])
    if not external:
        return described + _text(8, name) + _message(9, value.tobytes())
    return described + _text(8, name) + _message(13, _text(1, "location") + _text(2, name)) + _number(14, 1)


def _value_info(name: str, dtype: str, shape: Sequence[int | str]) -> bytes:
    sizes = (_number(1, size) if isinstance(size, int) else _text(2, size) for size in shape)
    tensor = _number(1, _DATA_TYPES[dtype]) + _message(2, b"".join(_message(1, size) for size in sizes))
    return _text(1, name) + _message(2, _message(1, tensor))


def _text(number: int, value: str) -> bytes:
    return _message(number, value.encode())


def _message(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    """Seven bits a byte, lowest first.

    >>> _varint(300).hex()
    'ac02'
    """
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])
