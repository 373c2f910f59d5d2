"""The two containers of `torch.save`: a pickle that says what the tensors are, and storages with their bytes.

- zip (torch 1.6 and later): `<root>/data.pkl`, and each storage uncompressed as `<root>/data/<key>`.
- legacy: five pickles one after the other (magic number, protocol, system, the object, the storage keys), then for
  each key an int64 count of elements and the bytes.

`torch.load(weights_only=True)` refuses files that people have (protocol 4, RecBole's pickled `Config`), so one
reader of our own reads them all, with the same checks. Every size is compared with what the file really has before
anything is allocated: a tensor fits in its storage, a storage is exactly its record, a record lies within the file.
"""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..runtime.errors import InputError
from .inert_unpickler import MAX_ELEMENTS, MalformedPickleError, Storage, StoredTensor, unpickle

MAX_ZIPPED_PICKLE = 1 << 30
"""Bytes: RecBole pickles the matrix of EASE into it, 4 bytes a pair of items. A record lies within its file, so nobody
can claim more than there is."""
ZIP_MAGIC = b"PK\x03\x04"
LEGACY_MAGIC = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""The integer 0x1950A86A20F9469CFC6C, pickled; two bytes (or eleven, in protocol 4) come before it."""

DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}

# What zipfile and struct raise for bytes that make no sense.
_DAMAGED = (zipfile.BadZipFile, EOFError, OSError, struct.error, UnicodeError, NotImplementedError)

Materialize = Callable[[str, StoredTensor], Tensor]


def is_torch_file(head: bytes) -> bool:
    """Whether a file that begins with `head` (32 bytes) is of one of the two containers."""
    return head.startswith(ZIP_MAGIC) or (head.startswith(b"\x80") and LEGACY_MAGIC in head)


@contextmanager
def open_torch_file(path: Path) -> Generator[tuple[Any, Materialize], None, None]:
    """The file's object as inert data, and a function that reads one of its tensors by name (for errors) and record.

    Raises:
        InputError: truncated, damaged, or claiming sizes that it does not have.
    """
    with path.open("rb") as file:
        try:
            if file.read(4) == ZIP_MAGIC:
                yield from _open_zip(path, file)
            else:
                file.seek(0)
                yield from _open_legacy(path, file)
        except _DAMAGED as error:
            raise InputError(
                f"{path}: truncated or damaged ({error!s:.200}); copy or download it again"
            ) from error
        except MalformedPickleError as error:
            raise InputError(f"{path}: {error}; copy or save it again") from error


def _open_zip(path: Path, file: BinaryIO) -> Generator[tuple[Any, Materialize], None, None]:
    file_bytes = path.stat().st_size
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise InputError(
                f"{path}: a zip file with {len(pickles)} data.pkl, expected 1; is it from torch.save?"
            )
        root = pickles[0].removesuffix("data.pkl")

        def record(name: str, limit: int, what: str) -> bytes:
            try:
                info = archive.getinfo(root + name)
            except KeyError:
                raise InputError(
                    f"{path}: {what} has no record {name!r:.60}; the file is incomplete, save it again"
                ) from None
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise InputError(
                    f"{path}: record {name!r:.60} is compressed or encrypted, torch stores them plain; save it again"
                )
            if info.file_size > min(limit, file_bytes):
                raise InputError(
                    f"{path}: record {name!r:.60} claims {info.file_size} bytes, expected at most {min(limit, file_bytes)}"
                )
            return archive.read(info)

        if root + "byteorder" in archive.namelist() and record("byteorder", 16, "the file") != b"little":
            raise InputError(f"{path}: saved on a big-endian machine; save it on a little-endian one")
        value = unpickle(record("data.pkl", MAX_ZIPPED_PICKLE, "the file"), max_bytes=MAX_ZIPPED_PICKLE)

        def read(name: str, storage: Storage, n_bytes: int) -> bytes:
            raw = record(f"data/{storage.key}", file_bytes, name)
            if len(raw) != n_bytes:
                raise _wrong_size(path, name, n_bytes, len(raw), "bytes")
            return raw

        yield value, _materializer(path, read)


def _open_legacy(path: Path, file: BinaryIO) -> Generator[tuple[Any, Materialize], None, None]:
    file_bytes = path.stat().st_size
    _magic, protocol, system = unpickle(file), unpickle(file), unpickle(file)
    if protocol != 1001 or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise InputError(
            f"{path}: torch's legacy format {protocol!r:.20}, expected 1001 and little-endian; save it again"
        )
    storages: dict[str, Storage] = {}
    value, keys = unpickle(file, storages), unpickle(file)
    if not isinstance(keys, list):
        raise MalformedPickleError("the list of storages is missing")
    starts: dict[str, int] = {}
    position = file.tell()
    for key in keys:
        if not isinstance(key, str) or key not in storages:
            raise MalformedPickleError(f"the list of storages names {key!r:.40}, which no tensor uses")
        file.seek(position)
        (n_elements,) = struct.unpack("<q", file.read(8))
        if n_elements != storages[key].n_elements:
            raise _wrong_size(path, f"storage {key!r:.40}", storages[key].n_elements, n_elements, "elements")
        starts[key] = position + 8
        position += 8 + n_elements * _dtype(path, storages[key]).itemsize
        if position > file_bytes:
            raise InputError(
                f"{path}: storage {key!r:.40} would end at byte {position} of {file_bytes}; the file is truncated"
            )

    def read(name: str, storage: Storage, n_bytes: int) -> bytes:
        if storage.key not in starts:
            raise InputError(
                f"{path}: {name} has no storage {storage.key!r:.40}; the file is incomplete, save it again"
            )
        file.seek(starts[storage.key])
        return file.read(n_bytes)

    yield value, _materializer(path, read)


def _materializer(path: Path, read: Callable[[str, Storage, int], bytes]) -> Materialize:
    bytes_left = path.stat().st_size
    read_storages: dict[str, Tensor] = {}  # tied tensors stay tied, and a storage is read once

    def materialize(name: str, stored: StoredTensor) -> Tensor:
        nonlocal bytes_left
        storage, dtype = stored.storage, _dtype(path, stored.storage)
        n_elements = math.prod(stored.shape)
        reach = (
            stored.offset
            + sum((n - 1) * step for n, step in zip(stored.shape, stored.stride, strict=True))
            + 1
        )
        if n_elements and max(reach, n_elements) > storage.n_elements:
            raise _wrong_size(path, name, max(reach, n_elements), storage.n_elements, "elements")
        if not n_elements:
            if (
                math.prod(max(n, 1) for n in stored.shape) >= MAX_ELEMENTS
            ):  # torch multiplies them all the same
                raise _wrong_size(path, name, MAX_ELEMENTS, 0, "elements")
            return torch.zeros(stored.shape, dtype=dtype)
        n_bytes = storage.n_elements * dtype.itemsize
        if storage.key not in read_storages:
            raw = bytearray(read(name, storage, n_bytes))
            bytes_left -= len(raw)
            if bytes_left < 0:  # records may lie inside others
                raise InputError(
                    f"{path}: {name} overlaps other tensors' bytes; the file is damaged, save it again"
                )
            read_storages[storage.key] = torch.frombuffer(raw, dtype=torch.uint8)
        whole = read_storages[storage.key]
        if len(whole) != n_bytes:
            raise _wrong_size(path, name, n_bytes, len(whole), "bytes")
        return whole.view(dtype).as_strided(stored.shape, stored.stride, stored.offset)

    return materialize


def _dtype(path: Path, storage: Storage) -> torch.dtype:
    dtype = DTYPES.get(storage.dtype)
    if dtype is None:
        raise InputError(
            f"{path}: storage {storage.key!r:.40} is a {storage.dtype!r:.60}; expected one of {', '.join(DTYPES)}"
        )
    return dtype


def _wrong_size(path: Path, what: str, claimed: int, found: int, unit: str) -> InputError:
    return InputError(
        f"{path}: {what} claims {claimed} {unit}, the file holds {found}; it is damaged, save it again"
    )
