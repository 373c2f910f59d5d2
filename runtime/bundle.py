"""The bundle: one file that holds a compressed recommender, read without running code and without trust.

Layout of a `*.pocket` file, version 1 (little endian)::

    0   8 bytes   magic  b"\\x93POCKET\\n"
    8   uint32    format version
    12  uint32    length of the manifest, M bytes
    16  32 bytes  sha256 of the manifest
    48  M bytes   manifest: JSON, UTF-8
    then zeros up to a multiple of 64: the data starts here
        each part at its `offset` from the start of the data, a multiple of 64, stored as it is (no compression)
    the file ends with the last byte of its last part

`manifest["parts"]` lists `{name, offset, size, sha256}`. What holds after `Bundle.open`: the version is known, the
manifest is the one that was written, every part lies inside the file and has the content that was written. Parts are
memory-mapped: opening costs no copy, and a table larger than memory can still be read. Alignment to 64 bytes serves
vector instructions and lets any dtype be viewed in place.

What the manifest says of how the bundle came about (`RECORD`: recipe, steps, figures, provenance) is most of its bytes and
nothing that running needs. It is stored deflated, as JSON in a part of its own, and is in `Bundle.manifest` like the rest.

Not promised: that a newer version can be read (it is refused by name), or that two exports are equal byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .atomic_file import write_atomically
from .errors import BundleError, InputError

MAGIC = b"\x93POCKET\n"
FORMAT_VERSION = 1
ALIGNMENT = 64
MAX_MANIFEST_BYTES = 16 << 20  # a hostile header cannot make us allocate more than this
RECORD = ("recipe", "steps", "metrics", "provenance")
_RECORD_PART = "record"
_HEADER = struct.Struct("<8sII32s")

Manifest = dict[str, Any]


class Bundle:
    """An open bundle: `manifest` and memory-mapped parts."""

    def __init__(self, path: Path, manifest: Manifest, data: NDArray[np.uint8], fingerprint: str):
        self.path = path
        self.manifest = manifest
        self.size_bytes = path.stat().st_size
        self.fingerprint = fingerprint
        """sha256 of the manifest, which holds the sha256 of every part: names this very bundle."""
        self._data = data
        self._parts: dict[str, dict[str, Any]] = {part["name"]: part for part in manifest["parts"]}

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, verify: bool = True) -> Bundle:
        """Open a bundle; with `verify`, the sha256 of each part is checked (about 1 GB/s).

        Raises:
            FileNotFoundError, IsADirectoryError: as the system says.
            BundleError: not a bundle, truncated, edited, or of a newer version.
        """
        path = Path(path)
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size or not header.startswith(MAGIC):
                raise BundleError(
                    f"{path}: not a pocketrec bundle (its first bytes are {header[:8]!r}); make one with `pocketrec compress`"
                )
            _, version, length, digest = _HEADER.unpack(header)
            if version != FORMAT_VERSION:
                raise BundleError(
                    f"{path}: bundle format {version}, this pocketrec reads {FORMAT_VERSION}; "
                    "upgrade pocketrec, or export the bundle again with this version"
                )
            if length > MAX_MANIFEST_BYTES:
                raise BundleError(
                    f"{path}: the header claims a manifest of {length} bytes, at most {MAX_MANIFEST_BYTES} are read; the bundle is damaged"
                )
            text = file.read(length)
        if len(text) < length:
            raise BundleError(
                f"{path}: {_HEADER.size + len(text)} bytes, the manifest alone needs {_HEADER.size + length}; the bundle is truncated, export it again"
            )
        if hashlib.sha256(text).digest() != digest:
            raise BundleError(
                f"{path}: the manifest does not have the sha256 in the header; the bundle was edited or damaged, export it again"
            )
        manifest = _parse_manifest(path, text)
        data_start = _aligned(_HEADER.size + length)
        _check_extent(path, manifest, data_start)
        data = np.memmap(path, dtype=np.uint8, mode="r", offset=data_start)
        bundle = cls(path, manifest, data.view(np.ndarray), hashlib.sha256(text).hexdigest())
        if verify:
            bundle.verify()
        if _RECORD_PART in bundle:
            manifest |= _inflated(path, bundle.part(_RECORD_PART))
        return bundle

    def part(self, name: str) -> NDArray[np.uint8]:
        """The bytes of a part, uint8 (size,), read-only and mapped in place.

        Raises:
            BundleError: the bundle has no such part.
        """
        if name not in self._parts:
            raise BundleError(
                f"{self.path}: no part {name!r}, only {', '.join(self._parts)}; the bundle is incomplete, export it again"
            )
        part = self._parts[name]
        return self._data[part["offset"] : part["offset"] + part["size"]]

    def array(self, name: str, dtype: type[np.generic] | str, shape: tuple[int, ...]) -> NDArray[Any]:
        """A part as an array in place; its size must be the one that `dtype` and `shape` need."""
        raw = self.part(name)
        needed = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if raw.size != needed:
            raise BundleError(
                f"{self.path}: part {name!r} has {raw.size} bytes, shape {shape} of {np.dtype(dtype)} needs {needed}; export the bundle again"
            )
        return raw.view(dtype).reshape(shape)

    def __contains__(self, name: str) -> bool:
        return name in self._parts

    def verify(self) -> None:
        """Check the sha256 of every part; raises `BundleError` that names the first damaged one."""
        for name, part in self._parts.items():
            if hashlib.sha256(self.part(name).data).hexdigest() != part["sha256"]:
                raise BundleError(
                    f"{self.path}: part {name!r} does not have the sha256 in the manifest; the bundle was edited or damaged, export it again"
                )


def write_bundle(
    path: str | os.PathLike[str],
    manifest: Mapping[str, Any],
    parts: Mapping[str, bytes | NDArray[Any]],
    *,
    overwrite: bool = False,
) -> int:
    """Write a bundle atomically; returns its size in bytes. `manifest` comes without `parts` and `format_version`.

    What is of `RECORD` in it goes into a part, which takes the place of one that `parts` may have of it.

    Raises:
        FileExistsError: `path` exists and `overwrite` is false.
        OSError: the folder cannot be written, or the disk is full; nothing is left behind.
    """
    said = {name: manifest[name] for name in RECORD if name in manifest}
    manifest = {name: value for name, value in manifest.items() if name not in RECORD}
    if said:
        parts = {**parts, _RECORD_PART: deflated_record(said)}
    blobs = {name: _raw(value) for name, value in parts.items()}
    entries: list[dict[str, Any]] = []
    offset = 0
    for name, blob in blobs.items():
        offset = _aligned(offset)
        entries.append(
            {"name": name, "offset": offset, "size": blob.nbytes, "sha256": hashlib.sha256(blob).hexdigest()}
        )
        offset += blob.nbytes
    text = json.dumps(
        {"format_version": FORMAT_VERSION, **manifest, "parts": entries},
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    ).encode()
    if len(text) > MAX_MANIFEST_BYTES:
        raise InputError(
            f"{path}: a manifest of {len(text)} bytes, at most {MAX_MANIFEST_BYTES} can be written; put large content into a part"
        )

    def chunks() -> Iterator[bytes | memoryview]:
        header = _HEADER.pack(MAGIC, FORMAT_VERSION, len(text), hashlib.sha256(text).digest()) + text
        yield header + b"\0" * (_aligned(len(header)) - len(header))
        position = 0
        for entry, blob in zip(entries, blobs.values(), strict=True):
            yield b"\0" * (entry["offset"] - position)
            yield blob
            position = entry["offset"] + blob.nbytes

    return write_atomically(path, chunks(), overwrite=overwrite)


def deflated_record(said: Mapping[str, Any]) -> bytes:
    """What is stored of a bundle's `RECORD`."""
    text = json.dumps(said, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return zlib.compress(text.encode(), 9)


def _inflated(path: Path, stored: NDArray[np.uint8]) -> dict[str, Any]:
    """The record of a bundle, of at most `MAX_MANIFEST_BYTES`; nothing else may be in it."""
    reader = zlib.decompressobj()
    try:
        text = reader.decompress(stored.tobytes(), MAX_MANIFEST_BYTES)
        said = json.loads(text) if reader.eof else None
    except (zlib.error, ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or not said.keys() <= set(RECORD):
        raise BundleError(
            f"{path}: part {_RECORD_PART!r} is not a record of how the bundle came about; export the bundle again"
        )
    return said


def _raw(value: bytes | NDArray[Any]) -> memoryview:
    if isinstance(value, bytes):
        return memoryview(value)
    return np.ascontiguousarray(value).reshape(-1).view(np.uint8).data


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _parse_manifest(path: Path, text: bytes) -> Manifest:
    try:
        manifest = json.loads(text)
        parts = manifest["parts"]
        ok = all(
            isinstance(p["name"], str)
            and isinstance(p["sha256"], str)
            and type(p["offset"]) is int
            and type(p["size"]) is int
            and p["offset"] >= 0
            and p["offset"] % ALIGNMENT == 0
            and p["size"] >= 0
            for p in parts
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        ok, manifest = False, {}
    if not ok:
        raise BundleError(f"{path}: the manifest is not one that pocketrec writes; export the bundle again")
    return manifest


def _check_extent(path: Path, manifest: Manifest, data_start: int) -> None:
    """The parts fill the file exactly, without overlap."""
    end = 0
    for part in sorted(manifest["parts"], key=lambda p: p["offset"]):
        if part["offset"] < end:
            raise BundleError(
                f"{path}: part {part['name']!r} overlaps another one; the bundle is damaged, export it again"
            )
        end = part["offset"] + part["size"]
    expected, got = data_start + end, path.stat().st_size
    if got != expected:
        what = "truncated" if got < expected else "longer than it should be"
        raise BundleError(
            f"{path}: {got} bytes, the manifest says {expected}; the bundle is {what}, export it again"
        )
