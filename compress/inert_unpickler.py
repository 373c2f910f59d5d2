"""Reads a pickle as data. Nothing that it names is imported, nothing in it is called.

A pickle is a program for a small stack machine, and unpickling runs it: GLOBAL imports what the file names,
REDUCE calls it. This is the same machine without those two powers, so there is nothing to escape to:

- GLOBAL pushes a `Name(module, name)`: two strings.
- REDUCE, NEWOBJ, INST, OBJ push an `Inert` record of the name and its arguments; BUILD stores its state.
- The few names in `MEANINGS` (how torch, numpy and the standard library spell plain data) become that
  data by functions of ours: a tensor becomes a `StoredTensor`, which says where its bytes lie.

The work is bounded by `MAX_BYTES` and `MAX_OPCODES`. There is no recursion, and shared references stay shared, so
nested or self-referring structures cost no more than their bytes. Protocols 0 to 5, without out-of-band buffers and
the extension registry. Source: `pickletools` and PEP 3154.
"""

from __future__ import annotations

import io
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

MAX_BYTES = 64 << 20
"""Of one pickle. RecBole's are 20 kB; a million item ids take 20 MB; weights lie outside the pickle."""
MAX_OPCODES = 6_000_000
"""Of one pickle, about ten seconds of work: enough for two million item ids."""
MAX_AXES = 8
"""Of a tensor; convolutions have 5."""
MAX_ELEMENTS = 1 << 40
"""In each size of a tensor: what lies above is nonsense, whatever the file's own size says."""
MAX_INTEGER_BITS = 4096
"""Larger ones cannot be printed in an error (Python limits the digits), and no checkpoint has them."""


class MalformedPickleError(ValueError):
    """The bytes are no pickle that this machine reads; the message has no file name yet."""


@dataclass(frozen=True, slots=True, eq=False)
class Name:
    """A global that the pickle names, as two strings."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False)
class Inert:
    """An object of a class, or a call's result, that was not made: what it would have been made from."""

    name: Name
    args: tuple[Any, ...]
    state: Any = None
    items: list[Any] = field(default_factory=list)
    """What the pickle would have appended, or set as (key, value) pairs."""


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """Bytes of the file that tensors share. `device` tags are ignored."""

    dtype: str
    """torch's name of the storage class, such as `FloatStorage`."""
    key: str
    n_elements: int


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """A view of a storage, in elements; not checked against its bounds yet."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def unpickle(
    source: bytes | BinaryIO, storages: dict[str, Storage] | None = None, *, max_bytes: int | None = None
) -> Any:
    """The value of the pickle at the current position of `source`, which is left just behind it.

    `storages` is filled with those that the pickle refers to, by their keys. `max_bytes` is `MAX_BYTES` where it is None.

    Example:
        >>> import os, pickle
        >>> unpickle(pickle.dumps({"run": os.system, "n": [1, 2.5, None]}))
        {'run': Name(module='posix', name='system'), 'n': [1, 2.5, None]}

    Raises:
        MalformedPickleError: damaged, too large, or of a kind that no checkpoint needs.
    """
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    start = stream.tell()
    limit = MAX_BYTES if max_bytes is None else max_bytes
    window = io.BytesIO(stream.read(limit + 1))
    try:
        value = _run(window, {} if storages is None else storages)
    except MalformedPickleError:
        raise
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, MemoryError) as error:
        if window.tell() > limit:
            raise MalformedPickleError(f"the pickle is longer than {limit >> 20} MB") from error
        message = " ".join(str(error).split())[:120]
        raise MalformedPickleError(f"the pickle is damaged ({type(error).__name__}: {message})") from error
    stream.seek(start + window.tell())
    return value


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
# Opcodes that push their argument as pickletools decoded it.
# fmt: off
_LITERALS = frozenset((
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
))
# fmt: on


def _run(window: BinaryIO, storages: dict[str, Storage]) -> Any:
    stack: list[Any] = []
    below: list[list[Any]] = []  # the stacks under each open mark
    memo: dict[int, Any] = {}

    def pop_mark() -> list[Any]:
        nonlocal stack
        values, stack = stack, below.pop()
        return values

    def pop(n: int) -> list[Any]:
        if len(stack) < n:
            raise MalformedPickleError("the pickle takes more values than there are")
        values = stack[-n:]
        del stack[-n:]
        return values

    argument: Any
    for count, (opcode, argument, _) in enumerate(pickletools.genops(window)):
        if count >= MAX_OPCODES:
            raise MalformedPickleError(f"the pickle has more than {MAX_OPCODES} instructions")
        name: str = opcode.name
        if name in _LITERALS:
            if isinstance(argument, int) and argument.bit_length() > MAX_INTEGER_BITS:
                raise MalformedPickleError(f"the pickle has an integer of {argument.bit_length()} bits")
            stack.append(argument)
            continue
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
            continue
        match name:
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "MARK":
                below.append(stack)
                stack = []
            case "TUPLE":
                values = pop_mark()
                stack.append(tuple(values))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(pop(int(name[-1]))))
            case "STACK_GLOBAL":
                stack.append(Name(*_texts(pop(2))))
            case "GLOBAL":
                stack.append(Name(*_texts(argument.split(" ", 1))))
            case "BINPERSID":
                storage = _storage(*pop(1))
                storages[storage.key] = storage
                stack.append(storage)
            case "REDUCE" | "NEWOBJ":
                stack.append(_made(*pop(2)))
            case "NEWOBJ_EX":  # keyword arguments are kept behind the others, as a dict
                made_of, args, keywords = pop(3)
                stack.append(_made(made_of, (*args, keywords)))
            case "OBJ":
                values = pop_mark()
                stack.append(_made(values[0], tuple(values[1:])))
            case "INST":
                values = pop_mark()
                stack.append(_made(Name(*_texts(argument.split(" ", 1))), tuple(values)))
            case "BUILD":
                (state,) = pop(1)
                _set_state(stack[-1], state)
            case "APPEND":
                values = pop(1)
                _append(stack[-1], values)
            case "APPENDS" | "ADDITEMS":
                values = pop_mark()
                _append(stack[-1], values)
            case "SETITEM":
                values = pop(2)
                _set_items(stack[-1], values)
            case "SETITEMS":
                values = pop_mark()
                _set_items(stack[-1], values)
            case "LIST":
                values = pop_mark()
                stack.append(values)
            case "DICT":
                values, made = pop_mark(), {}
                _set_items(made, values)
                stack.append(made)
            case "FROZENSET":
                values = pop_mark()
                stack.append(frozenset(map(_key, values)))
            case "POP":
                pop(1)
            case "POP_MARK":
                pop_mark()
            case "DUP":
                stack.append(stack[-1])
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return pop(1)[0]
            case _:
                raise MalformedPickleError(f"the pickle uses {name}, which no checkpoint needs")
    raise MalformedPickleError("the pickle ends before its STOP")


def _texts(values: list[Any]) -> tuple[str, str]:
    module, name = values
    if not isinstance(module, str) or not isinstance(name, str):
        raise MalformedPickleError(f"the pickle names a global by a {type(module).__name__}")
    return module, name


def _key(value: Any) -> Any:
    """A key of a dict or a set. Deeply nested tuples would overflow the C stack when hashed: flat ones only."""
    flat = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(v, str | int | float | bytes | Name | Inert | None) for v in flat):
        raise MalformedPickleError(f"the pickle uses a {type(value).__name__} as a key")
    return value


def _append(target: Any, values: list[Any]) -> None:
    match target:
        case list():
            target.extend(values)
        case set():
            target.update(map(_key, values))
        case Inert():
            target.items.extend(values)
        case _:
            raise MalformedPickleError(f"the pickle appends to a {type(target).__name__}")


def _set_items(target: Any, values: list[Any]) -> None:
    pairs = list(zip(values[::2], values[1::2], strict=True))
    match target:
        case dict():
            target.update((_key(key), value) for key, value in pairs)
        case Inert():
            target.items.extend(pairs)
        case _:
            raise MalformedPickleError(f"the pickle sets items of a {type(target).__name__}")


def _set_state(target: Any, state: Any) -> None:
    match target:
        case Inert():
            target.state = state
        case dict() | StoredTensor():
            pass  # an OrderedDict's `_metadata`, a parameter's attributes: nothing that weights need
        case _:
            raise MalformedPickleError(f"the pickle sets the state of a {type(target).__name__}")


def _made(of: Any, args: Any) -> Any:
    """What stands for `of(*args)`."""
    if not isinstance(of, Name) or not isinstance(args, tuple):
        raise MalformedPickleError(f"the pickle calls a {type(of).__name__}")
    meaning = MEANINGS.get(str(of))
    return Inert(of, args) if meaning is None else meaning(*args)


def _storage(persistent_id: Any) -> Storage:
    """torch's ('storage', class, key, device, elements), and legacy files' sixth, the view it is of: always None."""
    match persistent_id:
        case (
            "storage",
            Name(module="torch" | "torch.storage", name=dtype),
            str(key),
            str(),
            int(n),
            *rest,
        ) if n >= 0:
            if rest not in ([], [None]):
                raise MalformedPickleError("storages that are views of others (torch before 0.4)")
            return Storage(dtype, key, n)
        case _:
            raise MalformedPickleError("the pickle refers to something outside it that is no torch storage")


# Meanings: what a call of this name makes, as plain data.


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> StoredTensor:
    numbers = (offset, *shape, *stride)
    if not isinstance(storage, Storage) or not len(shape) == len(stride) <= MAX_AXES:
        raise MalformedPickleError(f"a tensor without storage, or of more than {MAX_AXES} axes")
    if not all(type(n) is int and 0 <= n < MAX_ELEMENTS for n in numbers):
        raise MalformedPickleError("a tensor with a size that is no natural number")
    return StoredTensor(storage, offset, tuple(shape), tuple(stride))


def _from_type(rebuild: Any, _type: Any, args: Any, _state: Any) -> Any:
    return _made(rebuild, args)  # a tensor's subclass or attributes, around the tensor itself


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    for key, value in pairs:
        made[_key(key)] = value
    return made


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise MalformedPickleError(f"bytes encoded as {encoding!r}, expected latin1")
    return text.encode("latin1")  # how protocols 0 to 2 spell bytes


def _set(values: Any = ()) -> set[Any]:
    return set(map(_key, values))


def _bytes(raw: Any = b"") -> bytes:
    if not isinstance(raw, bytes | bytearray):  # of an integer, it would be that many bytes
        raise MalformedPickleError(f"bytes made from a {type(raw).__name__}")
    return bytes(raw)


def _numpy_scalar(dtype: Any, raw: Any = b"") -> Any:
    """A Python number, where it is one: `numpy.dtype('f8')` with the state (3, '<', ...), and its bytes."""
    if isinstance(dtype, Inert) and dtype.args and isinstance(raw, bytes):
        kind = dtype.args[0]
        order = dtype.state[1] if isinstance(dtype.state, tuple) and len(dtype.state) > 1 else "<"
        if isinstance(kind, str) and re.fullmatch(r"[fiu][1248]|b1", kind) and order in ("<", ">", "|", "="):
            return np.frombuffer(raw, np.dtype(order + kind), 1)[0].item()
    return None


MEANINGS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "torch._utils._rebuild_parameter_with_state": lambda tensor, *_: tensor,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch.Size": lambda shape: tuple(shape),
    "torch.device": lambda *parts: ":".join(map(str, parts)),
    "collections.OrderedDict": _ordered_dict,
    "collections.defaultdict": lambda *_: {},
    "numpy.core.multiarray.scalar": _numpy_scalar,
    "numpy._core.multiarray.scalar": _numpy_scalar,
    "_codecs.encode": _encode,
    # Protocols 0 to 2 spell these types as calls, and `builtins` as in Python 2.
    **{
        f"{builtins}.{kind}": _set
        for builtins in ("builtins", "__builtin__")
        for kind in ("set", "frozenset")
    },
    **{
        f"{builtins}.{kind}": _bytes
        for builtins in ("builtins", "__builtin__")
        for kind in ("bytes", "bytearray")
    },
}
"""Everything that a pickle can make beside literals and `Inert` records. All of it is our own code, and pure."""
