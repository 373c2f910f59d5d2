"""One user's state: one small file, checked before it is believed.

Layout of a state file, version 2 (little endian)::

    0   8 bytes   magic  b"\\x93PKUSER\\n"
    8   uint32    format version
    12  uint32    length of the text, M bytes
    16  32 bytes  sha256 of the text
    48  M bytes   JSON, UTF-8; the file ends with it

The JSON is an object: `history` and `dismissed`, lists of item ids, oldest first; `bundle`, the fingerprint of the bundle
that the rest was learned with; `learned`, small arrays by name, each `{"dtype", "shape", "base64"}`; `counters`, integers
by name; `extra`, anything else by name: logs of what was shown, ids of events.

Ids, not rows: history and dismissals go on with another bundle, whose items have other rows. Vectors mean something to
the model they were learned with only, so the arrays are for the same bundle alone.

Bounded for life: at most `HISTORY_KEPT` and `DISMISSED_KEPT` ids, and of those the newest whose text fits `ID_BYTES`, so
a file never exceeds about 40 KB. Written atomically: a crash at any moment leaves the old state or the new one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .atomic_file import write_atomically
from .errors import StateError
from .item_ids import ItemId

MAGIC = b"\x93PKUSER\n"
FORMAT_VERSION = 2
HISTORY_KEPT = 512
"""Events remembered: the history of any model so far, and what `exclude_seen` knows of."""
DISMISSED_KEPT = 256
ID_BYTES = 24 << 10
"""Text of all ids in a file; integers up to 10**9 need about 8 KB."""
EXTRA_BYTES = 8 << 10
"""Text of `extra` in a file."""
MAX_FILE_BYTES = 1 << 20
"""A larger file is not read: no state of ours is."""
_HEADER = struct.Struct("<8sII32s")

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]

_DTYPES = ("<f4", "<f8")


@dataclass(frozen=True, slots=True, eq=False)
class UserState:
    """What a state file says."""

    history: Sequence[ItemId] = ()
    """Chosen items, oldest first."""
    dismissed: Sequence[ItemId] = ()
    """Oldest first."""
    bundle: str = ""
    """`Bundle.fingerprint` of the bundle that `learned` belongs to."""
    learned: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """float32 or float64 arrays by name, all finite."""
    counters: Mapping[str, int] = field(default_factory=dict)
    extra: Mapping[str, Json] = field(default_factory=dict)
    """Anything else by name. A list is a log, oldest first: where the text exceeds `EXTRA_BYTES`, the longest lose their
    oldest entries until it fits."""


def write_state(path: str | os.PathLike[str], state: UserState) -> int:
    """Write a state atomically; returns its size in bytes.

    Raises:
        OSError: the folder is missing or cannot be written, or the disk is full; the old state is untouched.
    """
    raw = to_bytes(state)
    return write_atomically(path, [raw])


def read_state(path: str | os.PathLike[str]) -> UserState:
    """Read a state.

    Raises:
        FileNotFoundError, IsADirectoryError: as the system says.
        StateError: not a state, truncated, edited, or of a newer version.
    """
    path = Path(path)
    with path.open("rb") as file:
        raw = file.read(MAX_FILE_BYTES + 1)
    return from_bytes(raw, os.fspath(path))


def to_bytes(state: UserState) -> bytes:
    """The file's bytes; ids and `extra` are cut to the bounds of the format.

    Raises:
        TypeError, ValueError: `extra` is no JSON, has a number that is none, or does not fit even without its lists.
    """
    history = _newest(state.history, HISTORY_KEPT, ID_BYTES * 2 // 3)
    dismissed = _newest(state.dismissed, DISMISSED_KEPT, ID_BYTES // 3)
    content = {
        "history": history,
        "dismissed": dismissed,
        "bundle": state.bundle,
        "learned": {name: _described(values) for name, values in state.learned.items()},
        "counters": dict(state.counters),
        "extra": _bounded(state.extra),
    }
    text = _json(content)
    return _HEADER.pack(MAGIC, FORMAT_VERSION, len(text), hashlib.sha256(text).digest()) + text


def from_bytes(raw: bytes, name: str = "state") -> UserState:
    """The inverse of `to_bytes`; `name` is what an error calls it.

    >>> from_bytes(to_bytes(UserState(history=[3, "a"]))).history
    [3, 'a']

    Raises:
        StateError: as `read_state`.
    """
    if len(raw) > MAX_FILE_BYTES:
        raise StateError(f"{name}: more than {MAX_FILE_BYTES} bytes; not a user's state")
    if len(raw) < _HEADER.size or not raw.startswith(MAGIC):
        raise StateError(
            f"{name}: not a user's state (its first bytes are {raw[:8]!r}); delete it to start the user anew"
        )
    _, version, length, digest = _HEADER.unpack_from(raw)
    if version != FORMAT_VERSION:
        raise StateError(
            f"{name}: state format {version}, this pocketrec reads {FORMAT_VERSION}; upgrade pocketrec, or delete the file to start the user anew"
        )
    text = raw[_HEADER.size :]
    if len(text) != length:
        what = "truncated" if len(text) < length else "longer than it should be"
        raise StateError(
            f"{name}: {len(raw)} bytes, its header says {_HEADER.size + length}; the state is {what}, delete it to start the user anew"
        )
    if hashlib.sha256(text).digest() != digest:
        raise StateError(
            f"{name}: the content does not have the sha256 in the header; the state was edited or damaged, delete it to start the user anew"
        )
    try:
        return _parsed(json.loads(text.decode("utf-8", "surrogatepass")))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        raise StateError(
            f"{name}: not a state that pocketrec writes ({error}); delete it to start the user anew"
        ) from None


def _parsed(content: dict[str, Any]) -> UserState:
    learned = {str(name): _array(described) for name, described in content["learned"].items()}
    if not all(np.isfinite(values).all() for values in learned.values()):
        learned = {}  # the history is good all the same
    counters = {str(name): value for name, value in content["counters"].items()}
    if not all(type(value) is int for value in counters.values()):
        raise ValueError("a counter is no integer")
    return UserState(
        history=_ids(content["history"]),
        dismissed=_ids(content["dismissed"]),
        bundle=str(content["bundle"]),
        learned=learned,
        counters=counters,
        extra={str(name): value for name, value in content["extra"].items()},
    )


def _ids(listed: list[Any]) -> list[ItemId]:
    if type(listed) is not list or not all(type(value) in (int, str) for value in listed):
        raise ValueError("an item id is neither an integer nor a string")
    return listed


def _newest(ids: Sequence[ItemId], count: int, size_bytes: int) -> list[ItemId]:
    """The last ids, at most `count` of them, and only such that their JSON text fits `size_bytes`."""
    kept = list(ids)[-count:]
    sizes = np.cumsum([len(str(value).encode("utf-8", "surrogatepass")) + 3 for value in reversed(kept)])
    n_fitting = int(np.searchsorted(sizes, size_bytes, side="right"))
    return kept[len(kept) - n_fitting :]


def _bounded(extra: Mapping[str, Json]) -> dict[str, Json]:
    """`extra`, its longest lists without their oldest entries, so that its text fits `EXTRA_BYTES`."""
    kept = dict(extra)
    logs = {name: value for name, value in kept.items() if isinstance(value, list)}
    sizes = {name: len(_json(log)) for name, log in logs.items()}
    rest = len(_json(kept | dict.fromkeys(logs))) - len("null") * len(logs)
    while (excess := rest + sum(sizes.values()) - EXTRA_BYTES) > 0:
        longest = max(sizes, key=sizes.__getitem__, default="")
        if not logs.get(longest):
            raise ValueError(
                f"extra: {EXTRA_BYTES + excess} bytes without its lists, at most {EXTRA_BYTES} fit"
            )
        runner_up = max((size for name, size in sizes.items() if name != longest), default=0)
        surplus = min(excess, max(sizes[longest] - runner_up, excess / len(logs)))
        log = logs[longest]
        log = log[
            math.ceil(len(log) * min(surplus / sizes[longest], 1.0)) :
        ]  # entries are of about the same size
        kept[longest], logs[longest], sizes[longest] = log, log, len(_json(log))
    return kept


def _json(value: Any) -> bytes:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "surrogatepass")


def _described(values: NDArray[Any]) -> dict[str, Any]:
    values = np.ascontiguousarray(values)
    dtype = values.dtype.newbyteorder("<").str
    return {
        "dtype": dtype,
        "shape": list(values.shape),
        "base64": base64.b64encode(values.tobytes()).decode(),
    }


def _array(described: dict[str, Any]) -> NDArray[Any]:
    if described["dtype"] not in _DTYPES:
        raise ValueError(f"dtype {described['dtype']!r}")
    raw = base64.b64decode(described["base64"], validate=True)
    return np.frombuffer(raw, described["dtype"]).reshape(described["shape"]).copy()
