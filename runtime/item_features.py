"""What a bundle knows of its items' features, so that an app need only name an item: rows of each field, by item.

One part, deflated: for each item-side field but the id itself, in the schema's order,

    token       the row of each of the V items (row 0 is the unknown item), little endian, as small as the rows allow
    token_seq   how many tokens each item has, uint16; then all their rows end to end
    float       the normalized value of each item, float32

A million items with ten fields are some tens of megabytes, unpacked once when the bundle is opened.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle
from .errors import BundleError
from .features import FeatureSchema, Field

PART = "item_features"
MAX_BYTES = 1 << 31


@dataclass(frozen=True, slots=True, eq=False)
class ItemFeatures:
    """Encoded features of every item: by field int64 (V,), int64 (V, n) padded with 0, or float32 (V,)."""

    columns: Mapping[str, NDArray[Any]]

    def pack(self, schema: FeatureSchema, item: str) -> tuple[bytes, dict[str, Any]]:
        """The part, and what the manifest says of it."""
        raw = b"".join(_raw(field, self.columns[field.name]) for field in described_fields(schema, item))
        return zlib.compress(raw, 9), {"bytes": len(raw)}


def described_fields(schema: FeatureSchema, item: str) -> list[Field]:
    """The fields that describe an item: those of its side but its id."""
    return [field for field in schema.fields if field.side == "item" and field.name != item]


def read_item_features(bundle: Bundle, schema: FeatureSchema, item: str | None) -> ItemFeatures | None:
    """Of a bundle that has them, else None; raises `BundleError` where the part does not fit the schema."""
    if PART not in bundle or item is None:
        return None
    n_items = schema.field(item).size
    try:
        size = bundle.manifest[PART]["bytes"]
        if type(size) is not int or not 0 <= size <= MAX_BYTES:
            raise ValueError(f"{size!r:.40} bytes")
        raw = zlib.decompressobj().decompress(bundle.part(PART).tobytes(), size + 1)
        if len(raw) != size:
            raise ValueError(f"other than {size} bytes")
        columns, at = dict[str, NDArray[Any]](), 0
        for field in described_fields(schema, item):
            columns[field.name], at = _column(field, n_items, raw, at)
        if at != size:
            raise ValueError(f"{size - at} bytes too many")
    except (zlib.error, ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"{bundle.path}: the items' features cannot be read ({error}); export the bundle again"
        ) from None
    return ItemFeatures(columns)


def _raw(field: Field, column: NDArray[Any]) -> bytes:
    if field.kind == "float":
        return column.astype("<f4").tobytes()
    rows = column.astype(_dtype(field))
    if field.kind == "token":
        return rows.tobytes()
    counts = np.count_nonzero(column, axis=1)
    if (column[np.arange(column.shape[1]) < counts[:, None]] == 0).any():
        raise ValueError(f"items' features: {field.name} has a gap in a list")
    return counts.astype("<u2").tobytes() + rows[column > 0].tobytes()


def _column(field: Field, n_items: int, raw: bytes, at: int) -> tuple[NDArray[Any], int]:
    """The column that begins at `at`, and where it ends."""
    if field.kind == "float":
        values = np.frombuffer(raw, "<f4", n_items, at)
        if not np.isfinite(values).all():
            raise ValueError(f"{field.name} is not finite")
        return values, at + values.nbytes
    counts = np.ones(n_items, np.int64)
    if field.kind == "token_seq":
        stored = np.frombuffer(raw, "<u2", n_items, at)
        counts, at = stored.astype(np.int64), at + stored.nbytes
        if counts.max() > field.max_length:
            raise ValueError(f"{field.name} has a list of {counts.max()}")
    flat = np.frombuffer(raw, _dtype(field), int(counts.sum()), at)
    if flat.size and int(flat.max()) >= field.size:
        raise ValueError(f"{field.name} has row {flat.max()} of {field.size}")
    if field.kind == "token":
        return flat.astype(np.int64), at + flat.nbytes
    longest = max(int(counts.max()), 1)  # not what the manifest claims: a list may be long, none of these is
    rows = np.zeros((n_items, longest), np.int64)
    rows[np.arange(longest) < counts[:, None]] = flat
    return rows, at + flat.nbytes


def _dtype(field: Field) -> str:
    return "<u1" if field.size <= 1 << 8 else "<u2" if field.size <= 1 << 16 else "<u4"
