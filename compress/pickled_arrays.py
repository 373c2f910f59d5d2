"""NumPy arrays and SciPy sparse matrices out of an inert pickle: tensors, with nothing imported or called.

A pickled array is a call of `_reconstruct` whose state says (version, shape, dtype, Fortran order, bytes); a sparse matrix
is an object whose fields `_shape`, `indptr`, `indices` and `data` are a tuple and three arrays. What RecBole keeps beside
the state dict of models without gradients (EASE, ItemKNN) is of these kinds. Everything is checked against the bytes
that are there, and anything else (object arrays, lists of lists) is left where it is.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .inert_unpickler import MAX_AXES, MAX_ELEMENTS, Inert, MalformedPickleError

_RECONSTRUCT = re.compile(r"numpy\.(_core|core)\.multiarray\._reconstruct")
_FROM_BUFFER = re.compile(r"numpy\.(_core|core)\.numeric\._frombuffer")
_SPARSE = re.compile(r"scipy\.sparse\.(_?)(csr|csc)\.\2_(matrix|array)")
_DTYPE = re.compile(r"[<>|=]?([fiu][1248]|b1)")


def pickled_tensors(name: str, value: Any) -> dict[str, Tensor]:
    """The tensors of a pickled array (under `name`) or sparse matrix (`name.csr.indptr`, ...); of anything else, none.

    A sparse matrix gives `indptr`, `indices` and `data` as they are, and `shape`, int64 (2,).

    Raises:
        MalformedPickleError: sizes that do not fit the bytes.
    """
    if not isinstance(value, Inert):
        return {}
    array = _array(name, value)
    if array is not None:
        return {name: array}
    kind = _SPARSE.fullmatch(str(value.name))
    fields = value.state
    if kind is None or not isinstance(fields, dict):
        return {}
    shape = fields.get("_shape")
    found: dict[str, Tensor] = {}
    for part in ("indptr", "indices", "data"):
        array = _array(f"{name}.{part}", fields.get(part))
        if array is None:
            return {}
        found[f"{name}.{kind[2]}.{part}"] = array
    if not (isinstance(shape, tuple) and len(shape) == 2 and all(_is_size(n) for n in shape)):
        raise MalformedPickleError(f"{name} has the shape {shape!r:.40}, expected two sizes")
    found[f"{name}.{kind[2]}.shape"] = torch.tensor(shape, dtype=torch.int64)
    return found


def _array(name: str, value: Any) -> Tensor | None:
    """The tensor of a pickled array of numbers, None for anything else."""
    if not isinstance(value, Inert):
        return None
    made_by = str(value.name)
    if _RECONSTRUCT.fullmatch(made_by) and isinstance(value.state, tuple) and len(value.state) == 5:
        _, shape, dtype, is_fortran, raw = value.state
    elif _FROM_BUFFER.fullmatch(made_by) and len(value.args) == 4:
        raw, dtype, shape, order = value.args
        is_fortran = order == "F"
    else:
        return None
    kind = _dtype(dtype)
    if kind is None or not isinstance(raw, bytes | bytearray) or not isinstance(shape, tuple):
        return None
    if len(shape) > MAX_AXES or not all(_is_size(n) for n in shape):
        raise MalformedPickleError(f"{name} is an array of shape {shape!r:.60}")
    if math.prod(shape) * kind.itemsize != len(raw):
        raise MalformedPickleError(
            f"{name} is an array of {len(raw)} bytes, shape {shape} of {kind} needs {math.prod(shape) * kind.itemsize}"
        )
    array = np.frombuffer(raw, kind).reshape(shape, order="F" if is_fortran else "C")
    native = array.astype(
        kind.newbyteorder("="), order="C"
    )  # a copy: what is mapped read-only is not for torch
    if native.dtype.kind == "u" and native.dtype.itemsize > 1:
        native = native.astype(np.int64)  # torch computes little with unsigned ones
    return torch.from_numpy(native)


def _dtype(value: Any) -> np.dtype[Any] | None:
    """Of the records `numpy.dtype('f4', ...)` with the state (3, '<', ...); None for objects, texts and fields."""
    if not isinstance(value, Inert) or str(value.name) != "numpy.dtype":
        return None
    kind = value.args[0] if value.args else None
    order = value.state[1] if isinstance(value.state, tuple) and len(value.state) > 1 else "<"
    if not isinstance(kind, str) or _DTYPE.fullmatch(kind) is None or order not in ("<", ">", "|", "="):
        return None
    return np.dtype(kind).newbyteorder(order)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < MAX_ELEMENTS
