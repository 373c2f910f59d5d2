"""The item table: one row an item, quantized, never expanded to floats as a whole.

A row of width D is stored as D codes of `bits` bits and one scale::

    8 and 4 bits:  value = scale * (code - 2 ** (bits - 1))          zero is a level
    3 and 2 bits:  value = scale * (2 * code - (2 ** bits - 1))      levels -7, -5, .. 7 or -3, -1, 1, 3: none is wasted

Packing. 8 bits: a byte a code. 4 bits: byte i holds dimension 2i in its low half and 2i + 1 in its high half. 3 and 2
bits: bit planes, lowest first, each D / 8 bytes with dimension 8i + j in bit j of byte i. Rows are padded to a multiple
of 16 dimensions. The first two are the layout of onnxruntime's `MatMulNBits`, which scores the catalogue in place;
levels of 3 and 2 bits are among those of 4 bits, and `scoring_codes` turns the one into the other.

Scales are float16 multiples of one float32 `scale_unit`, so tables of any magnitude keep 11 bits of scale.

Source of the row-wise format: Guan et al. 2019, "Post-Training 4-bit Quantization on Embedding Tables", section 3; the
scale of a row minimizes its squared error over a grid of clipping thresholds (greedy search, the same section).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle
from .codebook_rows import CodebookRows, read_codebook_rows
from .errors import BundleError, InputError
from .gathered_rows import GatheredRows
from .scoring_codes import ScoringCodes
from .tiered_rows import TieredRows, read_tiered_rows

ROW_BITS = (2, 3, 4, 8)
WIDTH_MULTIPLE = 16  # the smallest block of MatMulNBits
CLIP_SHARES = {
    bits: tuple(np.linspace(1.0, lowest, steps).round(4).tolist())
    for bits, lowest, steps in ((2, 0.35, 14), (3, 0.5, 11), (4, 0.6, 9), (8, 1.0, 1))
}
"""Clipping thresholds that are tried, as shares of a row's largest value. The lowest are below the best threshold of a
Gaussian row of 256 values; clipping gains nothing in 8 bits."""
_ROWS_AT_ONCE = 65_536  # bounds the temporary memory of quantization to about 100 MB at width 128


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedRows:
    """An item table of N rows and width D in `bits` bits a value."""

    codes: NDArray[np.uint8]
    """uint8 (N, padded_width * bits / 8)."""
    scales: NDArray[np.float16]
    """float16 (N,), in units of `scale_unit`."""
    scale_unit: float
    bits: int
    width: int
    """D, before the padding to a multiple of 16."""
    _scale: NDArray[np.float32] = field(init=False, repr=False)
    """float32 (N,): scale times unit, widened once; 4 bytes an item in memory spare two calls a lookup."""

    def __post_init__(self) -> None:
        if self.bits not in ROW_BITS:
            raise InputError(f"item table: {self.bits} bits a value, expected one of {ROW_BITS}")
        if self.codes.shape != (len(self.scales), row_bytes(self.width, self.bits)):
            raise BundleError(
                f"item table: codes of shape {self.codes.shape} for {len(self.scales)} rows of width {self.width} "
                f"in {self.bits} bits; export the bundle again"
            )
        object.__setattr__(self, "_scale", self.scales.astype(np.float32) * np.float32(self.scale_unit))

    @property
    def n_items(self) -> int:
        return len(self.scales)

    @property
    def size_bytes(self) -> int:
        return self.codes.nbytes + self.scales.nbytes

    def lookup(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors of the given rows: int64 (...) -> float32 (..., D)."""
        return self.gather(rows.ravel()).vectors().reshape(*rows.shape, self.width)

    def gather(self, rows: NDArray[np.int64]) -> GatheredRows:
        """Rows unpacked once, for their scores and their vectors: int64 (C,)."""
        weights = None if self.bits in (4, 8) else _PLANE_WEIGHTS[: self.bits]
        return GatheredRows(self._levels_at(rows), self.width, self._scale.take(rows), weights)

    def score(self, users: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Dot products of each user with its candidates: float32 (B, D), int64 (B, C) -> float32 (B, C)."""
        if len(users) == 1:  # how a device asks
            return self.gather(rows[0]).scores(users[0])[None]
        return np.stack([self.gather(c).scores(user) for user, c in zip(users, rows, strict=True)])

    def with_levels(self, levels: NDArray[np.float32]) -> QuantizedRows:
        """The same scales with other levels, float32 (N, D), for whoever knows better than the nearest ones."""
        return replace(self, codes=_pack(levels, self.bits))

    def describe(self) -> dict[str, Any]:
        """What the manifest says of the table."""
        return {"format": "rows", "bits": self.bits, "width": self.width, "scale_unit": self.scale_unit}

    def parts(self) -> dict[str, NDArray[Any]]:
        """The bundle's parts that hold the table."""
        return {"item_codes": self.codes, "item_scales": self.scales}

    def scoring_codes(self) -> ScoringCodes:
        """The table as `MatMulNBits` reads it.

        In place for 4 and 8 bits. Bit planes are repacked into 4 bits: a copy of at most twice the size.
        """
        if self.bits in (4, 8):
            return ScoringCodes(self.codes, self.bits, self._scale)
        packed = np.empty((self.n_items, padded_width(self.width) // 2), np.uint8)
        for start in range(0, self.n_items, _ROWS_AT_ONCE):
            planes = self.codes[start : start + _ROWS_AT_ONCE].reshape(
                -1, self.bits, padded_width(self.width) // 8
            )
            bits = np.unpackbits(planes, axis=2, bitorder="little")
            codes = sum(bits[:, plane] << plane for plane in range(self.bits))
            nibbles = (2 * codes + (9 - 2**self.bits)).astype(np.uint8)  # level + 8
            packed[start : start + len(nibbles)] = nibbles[:, 0::2] | (nibbles[:, 1::2] << 4)
        return ScoringCodes(packed, 4, self._scale)

    def _levels_at(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Levels of rows (C,): float32 (C, padded_width), or by bit plane (C * bits, padded_width).

        Each byte is looked up whole; `take` along the first axis is several times faster than fancy indexing.
        """
        packed, padded = self.codes.take(rows, axis=0), padded_width(self.width)
        if self.bits == 8:
            return packed.astype(np.float32) - np.float32(128)
        levels = _LEVELS_OF_BYTE if self.bits == 4 else _SIGNS_OF_BYTE
        return levels.take(packed, axis=0).reshape(-1, padded)


@dataclass(frozen=True, slots=True, eq=False)
class FloatRows:
    """An item table in float32, as an uncompressed teacher has it: the same interface as `QuantizedRows`."""

    values: NDArray[np.float32]
    """float32 (N, D)."""

    @property
    def n_items(self) -> int:
        return len(self.values)

    @property
    def width(self) -> int:
        return self.values.shape[1]

    @property
    def size_bytes(self) -> int:
        return self.values.nbytes

    def lookup(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors of the given rows: int64 (...) -> float32 (..., D)."""
        return self.values.take(rows, axis=0)

    def gather(self, rows: NDArray[np.int64]) -> GatheredRows:
        """As `QuantizedRows.gather`."""
        return GatheredRows(self.values.take(rows, axis=0), self.width)

    def score(self, users: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Dot products of each user with its candidates: float32 (B, D), int64 (B, C) -> float32 (B, C)."""
        if len(users) == 1:
            return (self.values.take(rows[0], axis=0) @ users[0])[None]
        return np.stack([self.values.take(c, axis=0) @ user for user, c in zip(users, rows, strict=True)])

    def describe(self) -> dict[str, Any]:
        """What the manifest says of the table."""
        return {"format": "float", "bits": 32, "width": self.width}

    def parts(self) -> dict[str, NDArray[Any]]:
        """The bundle's parts that hold the table."""
        return {"item_values": self.values}


ItemTable = QuantizedRows | FloatRows | CodebookRows | TieredRows


def quantize_rows(values: NDArray[np.floating[Any]], bits: int) -> QuantizedRows:
    """Quantize a table, float (N, D), to `bits` bits a value with a scale a row.

    >>> table = np.random.default_rng(0).standard_normal((3, 5))
    >>> float(np.abs(quantize_rows(table, 8).lookup(np.arange(3)) - table).max()) < 0.02
    True

    Raises:
        InputError: `bits` is not 2, 3, 4 or 8, or a value is not finite.
    """
    if bits not in ROW_BITS:
        raise InputError(f"item table: {bits} bits a value, expected one of {ROW_BITS}")
    if values.ndim != 2 or not np.isfinite(values).all():
        raise InputError(f"item table: shape {values.shape}, expected (items, width) of finite values")
    n_items, width = values.shape
    scale_unit = float(np.abs(values).max() / largest_level(bits)) or 1.0
    scales = np.empty(n_items, np.float16)
    codes = np.empty((n_items, row_bytes(width, bits)), np.uint8)
    for start in range(0, n_items, _ROWS_AT_ONCE):
        chunk = values[start : start + _ROWS_AT_ONCE].astype(np.float32) / np.float32(scale_unit)
        chosen = _best_scales(chunk, bits)
        scales[start : start + len(chunk)] = chosen
        codes[start : start + len(chunk)] = _pack(_levels(chunk, chosen.astype(np.float32), bits), bits)
    return QuantizedRows(codes=codes, scales=scales, scale_unit=scale_unit, bits=bits, width=width)


def largest_level(bits: int) -> int:
    """Levels run from minus this to plus this: 127, 7, 7 (odd numbers only), 3 (odd numbers only)."""
    return 2 ** (bits - 1) - 1 if bits in (4, 8) else 2**bits - 1


def row_bytes(width: int, bits: int) -> int:
    """Bytes of a row's codes."""
    return padded_width(width) * bits // 8


def padded_width(width: int) -> int:
    """The stored width: the next multiple of 16."""
    return -(-width // WIDTH_MULTIPLE) * WIDTH_MULTIPLE


def read_item_table(bundle: Bundle) -> ItemTable:
    """The table of a bundle, mapped in place; raises `BundleError` where manifest and parts disagree."""
    described = bundle.manifest.get("item_table", {})
    n_items = bundle.manifest.get("items", {}).get("count")
    width = described.get("width")
    if not all(type(v) is int and v > 0 for v in (n_items, width)):
        raise BundleError(
            f"{bundle.path}: item table of {n_items!r} items, width {width!r}; export the bundle again"
        )
    match described.get("format"):
        case "float":
            return FloatRows(bundle.array("item_values", np.float32, (n_items, width)))
        case "tiers":
            return read_tiered_rows(bundle, described, n_items, _read_rows)
        case _:
            return _read_rows(bundle, described, n_items, "")


def _read_rows(
    bundle: Bundle, described: dict[str, Any], n_items: int, prefix: str
) -> QuantizedRows | CodebookRows:
    """A table, or a tier of one, whose parts are named after `prefix`."""
    match described.get("format"):
        case "rows":
            width, bits, unit = (described.get(name) for name in ("width", "bits", "scale_unit"))
            if not (type(width) is int and width > 0 and bits in ROW_BITS and isinstance(unit, float)):
                raise BundleError(
                    f"{bundle.path}: item table of width {width!r}, {bits!r} bits in units of {unit!r}; export the bundle again"
                )
            codes = bundle.array(f"{prefix}item_codes", np.uint8, (n_items, row_bytes(width, bits)))
            scales = bundle.array(f"{prefix}item_scales", np.float16, (n_items,))
            return QuantizedRows(codes=codes, scales=scales, scale_unit=unit, bits=bits, width=width)
        case "codebooks":
            return read_codebook_rows(bundle, described, n_items, prefix)
        case unknown:
            raise BundleError(
                f"{bundle.path}: item table format {unknown!r}, this pocketrec reads rows, codebooks, tiers and float; "
                "upgrade pocketrec"
            )


def _best_scales(values: NDArray[np.float32], bits: int) -> NDArray[np.float16]:
    """The scale of each row that minimizes its squared error; values (n, D) -> float16 (n,)."""
    absmax = np.abs(values).max(axis=1)
    best = np.full(len(values), np.inf, np.float32)
    scales = np.zeros(len(values), np.float16)
    for share in CLIP_SHARES[bits]:
        candidate = (absmax * np.float32(share) / largest_level(bits)).astype(np.float16)
        restored = candidate.astype(np.float32)
        error = np.square(_levels(values, restored, bits) * restored[:, None] - values).sum(axis=1)
        better = error < best
        best[better], scales[better] = error[better], candidate[better]
    return scales


def _levels(values: NDArray[np.float32], scales: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """The nearest level of each value: integers as float32 (n, D)."""
    scaled = values / np.where(scales > 0, scales, 1.0)[:, None]  # a row of zeros has scale 0
    nearest = np.rint(scaled) if bits in (4, 8) else 2 * np.rint((scaled - 1) / 2) + 1
    return np.clip(nearest, -largest_level(bits), largest_level(bits))


def _pack(levels: NDArray[np.float32], bits: int) -> NDArray[np.uint8]:
    """Levels (n, D) -> packed codes, uint8 (n, row_bytes)."""
    n_items, width = levels.shape
    codes = levels + 2 ** (bits - 1) if bits in (4, 8) else (levels + largest_level(bits)) / 2
    padded = np.full((n_items, padded_width(width)), 2 ** (bits - 1), np.uint8)
    padded[:, :width] = codes
    if bits == 8:
        return padded
    if bits == 4:
        return np.bitwise_or(padded[:, 0::2], np.left_shift(padded[:, 1::2], 4, dtype=np.uint8))
    planes = [np.packbits((padded >> plane) & 1, axis=1, bitorder="little") for plane in range(bits)]
    return np.concatenate(planes, axis=1)


_BYTES = np.arange(256)[:, None]
_LEVELS_OF_BYTE = (np.concatenate([_BYTES & 15, _BYTES >> 4], axis=1) - 8).astype(np.float32)
"""The two levels that a byte of 4 bit codes holds: float32 (256, 2)."""
_SIGNS_OF_BYTE = (2.0 * ((_BYTES >> np.arange(8)[None, :]) & 1) - 1).astype(np.float32)
"""Each bit of a byte as -1 or 1, float32 (256, 8)."""
_PLANE_WEIGHTS = np.array([1, 2, 4], np.float32)
"""2 * code - (2**bits - 1) is the sum over planes of 2**plane times the sign of its bit."""
