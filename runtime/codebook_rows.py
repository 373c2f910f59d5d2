"""Rows of an item table below a bit a value: each is a few numbers of entries in small codebooks.

The D dimensions of a row are cut into M slices of d = ceil(D / M); slice m of row i is entry `codes[i, m]` of codebook m:

    row_i = [ entries_1[codes[i, 1]], .. , entries_M[codes[i, M]] ]          (the last slice is cut off at D)

(product quantization: Jegou et al. 2011, "Product Quantization for Nearest Neighbor Search", section II-B). M bytes a row,
and K entries of D values in all, which are stored in 4 or 8 bits with a scale a codebook: at 12,000 items even 16 KB of
codebooks are more than a byte an item.

Lookup copies entries. The catalogue is scored without making a row: a table of products for each user first (the same
paper, section III-A, asymmetric distances), then

    score_i = sum over m of products[m, codes[i, m]],      products[m, k] = user slice m . entries_m[k]

in numpy, whose `take` is seven times as fast here as onnxruntime's Gather (9,700 rows of 8 codes: 0.11 ms against 0.75).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle
from .errors import BundleError, InputError
from .gathered_rows import GatheredRows

MAX_ENTRIES = 256
"""Of a codebook: a code is a byte."""
ENTRY_BITS = (4, 8)
_LEVELS_OF_LARGEST = {4: (7, 6, 5, 4, 8, 9, 10, 12, 14, 17), 8: (127,)}
"""What the largest value of a codebook may be in units of its scale; above 7 it is clipped."""


@dataclass(frozen=True, slots=True, eq=False)
class CodebookRows:
    """An item table of N rows and width D in M codes of one byte each."""

    codes: NDArray[np.uint8]
    """uint8 (N, M)."""
    entries: NDArray[np.uint8]
    """uint8 (M, K, d) in 8 bits, (M, K, ceil(d / 2)) in 4, dimension 2i in the low half of byte i: value = scale * (code -
    2 ** (bits - 1))."""
    scales: NDArray[np.float32]
    """float32 (M,): of each codebook."""
    entry_bits: int
    width: int
    """D."""
    _values: NDArray[np.float32] = field(init=False, repr=False)
    """float32 (M * K, d): the codebooks' entries, which are few, unpacked once."""
    _offsets: NDArray[np.int64] = field(init=False, repr=False)
    """int64 (M,): where each codebook begins in `_values`."""

    def __post_init__(self) -> None:
        n_codebooks, n_entries = self.entries.shape[:2]
        if self.codes.ndim != 2 or self.codes.shape[1] != n_codebooks or self.scales.shape != (n_codebooks,):
            raise BundleError(
                f"item table: codes of shape {self.codes.shape} and {len(self.scales)} scales for {n_codebooks} codebooks; "
                "export the bundle again"
            )
        if n_entries < MAX_ENTRIES and len(self.codes) and int(self.codes.max()) >= n_entries:
            raise BundleError(
                f"item table: a code of {int(self.codes.max())} for codebooks of {n_entries} entries; export the bundle again"
            )
        levels = _unpacked(self.entries, self.entry_bits)[..., : slice_width(self.width, n_codebooks)]
        values = levels * self.scales[:, None, None]
        object.__setattr__(self, "_values", values.reshape(-1, values.shape[2]))
        object.__setattr__(self, "_offsets", np.arange(n_codebooks) * n_entries)

    @property
    def n_items(self) -> int:
        return len(self.codes)

    @property
    def size_bytes(self) -> int:
        return self.codes.nbytes + self.entries.nbytes + self.scales.nbytes

    def lookup(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors of the given rows: int64 (...) -> float32 (..., D)."""
        found = self._values.take(self.codes.take(rows, axis=0) + self._offsets, axis=0)  # (..., M, d)
        return found.reshape(*rows.shape, -1)[..., : self.width]

    def gather(self, rows: NDArray[np.int64]) -> GatheredRows:
        """As `QuantizedRows.gather`."""
        return GatheredRows(self.lookup(rows), self.width)

    def score(self, users: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Dot products of each user with its candidates: float32 (B, D), int64 (B, C) -> float32 (B, C)."""
        return np.stack([self.lookup(c) @ user for user, c in zip(users, rows, strict=True)])

    def score_all(self, users: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores of all rows, from products of the user with the entries: float32 (B, D) -> float32 (B, N)."""
        n_codebooks, n_entries = self.entries.shape[:2]
        padding = n_codebooks * self._values.shape[1] - self.width
        slices = np.pad(users, ((0, 0), (0, padding))).reshape(len(users), n_codebooks, -1)  # (B, M, d)
        books = self._values.reshape(n_codebooks, n_entries, -1)
        products = np.matmul(slices.transpose(1, 0, 2), books.transpose(0, 2, 1))  # (M, B, K)
        scores = products[0].take(self.codes[:, 0], axis=1)
        for book in range(1, n_codebooks):
            scores += products[book].take(self.codes[:, book], axis=1)
        return scores

    def describe(self) -> dict[str, Any]:
        """What the manifest says of the table."""
        n_codebooks, n_entries = self.entries.shape[:2]
        return {
            "format": "codebooks",
            "width": self.width,
            "codebooks": n_codebooks,
            "entries": n_entries,
            "entry_bits": self.entry_bits,
        }

    def parts(self) -> dict[str, NDArray[Any]]:
        """The bundle's parts that hold the table."""
        return {"item_codes": self.codes, "codebook_entries": self.entries, "codebook_scales": self.scales}


def pack_codebooks(
    codes: NDArray[np.uint8], entries: NDArray[np.float32], *, width: int, entry_bits: int
) -> CodebookRows:
    """A table of codes uint8 (N, M) and entries float32 (M, K, d), which are rounded to `entry_bits` bits.

    What lies on a grid of 4 bits already stays as it is.

    >>> entries = np.array([[[7.0, -3.0], [1.0, 0.0]]], np.float32)
    >>> pack_codebooks(np.array([[1], [0]], np.uint8), entries, width=2, entry_bits=4).lookup(np.arange(2)).tolist()
    [[1.0, 0.0], [7.0, -3.0]]

    Raises:
        InputError: `entry_bits` is not 4 or 8, or the shapes do not fit each other.
    """
    n_codebooks, n_entries, found = entries.shape
    if entry_bits not in ENTRY_BITS:
        raise InputError(f"codebooks: entries of {entry_bits} bits, expected one of {ENTRY_BITS}")
    if found != slice_width(width, n_codebooks) or not 0 < n_entries <= MAX_ENTRIES:
        raise InputError(
            f"codebooks: {n_codebooks} of {n_entries} entries of {found}, for rows of {width} expected at most "
            f"{MAX_ENTRIES} of {slice_width(width, n_codebooks)}"
        )
    rounded, scales = round_entries(entries, entry_bits)
    levels = (rounded + 2 ** (entry_bits - 1)).astype(np.uint8)
    if entry_bits == 4:
        levels = np.pad(levels, ((0, 0), (0, 0), (0, found % 2)), constant_values=8)
        levels = np.bitwise_or(levels[..., 0::2], np.left_shift(levels[..., 1::2], 4))
    return CodebookRows(codes=codes, entries=levels, scales=scales, entry_bits=entry_bits, width=width)


def round_entries(
    entries: NDArray[np.float32], entry_bits: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Levels, integers as float32 (M, K, d), and the scale of each codebook, float32 (M,): value = scale * level.

    The scale with the least squared error is taken: in 4 bits clipping the largest few pays. Entries that are levels
    times a scale already, in 4 bits, are left as they are.
    """
    largest = np.float32(2 ** (entry_bits - 1) - 1)
    absmax = np.abs(entries).max(axis=(1, 2))
    best = np.full(len(entries), np.inf, np.float32)
    levels, scales = np.zeros(entries.shape, np.float32), np.zeros(len(entries), np.float32)
    for level in _LEVELS_OF_LARGEST[entry_bits]:
        candidate = absmax / np.float32(level)
        safe = np.where(candidate > 0, candidate, np.float32(1))[:, None, None]
        rounded = np.clip(np.rint(entries / safe), -largest, largest)
        error = np.square(rounded * candidate[:, None, None] - entries).sum(axis=(1, 2))
        better = error < best
        best[better], levels[better], scales[better] = error[better], rounded[better], candidate[better]
    return levels, scales


def slice_width(width: int, n_codebooks: int) -> int:
    """d: dimensions of a slice."""
    return -(-width // n_codebooks)


def read_codebook_rows(bundle: Bundle, described: dict[str, Any], n_items: int, prefix: str) -> CodebookRows:
    """The table of a bundle, its codes mapped in place; parts are named after `prefix`.

    Raises:
        BundleError: manifest and parts disagree, or a code names an entry that is not there.
    """
    said = [described.get(name) for name in ("width", "codebooks", "entries", "entry_bits")]
    if not all(type(value) is int and value > 0 for value in said):
        raise BundleError(f"{bundle.path}: a table of codebooks that says {said}; export the bundle again")
    width, n_codebooks, n_entries, entry_bits = (int(value) for value in said if value is not None)
    if n_codebooks > width or n_entries > MAX_ENTRIES or entry_bits not in ENTRY_BITS:
        raise BundleError(
            f"{bundle.path}: {n_codebooks} codebooks of {n_entries} entries in {entry_bits} bits for rows of {width}; "
            f"expected at most {width} of {MAX_ENTRIES} in {' or '.join(map(str, ENTRY_BITS))}; export the bundle again"
        )
    stored = -(-slice_width(width, n_codebooks) * entry_bits // 8)
    return CodebookRows(
        codes=bundle.array(f"{prefix}item_codes", np.uint8, (n_items, n_codebooks)),
        entries=bundle.array(f"{prefix}codebook_entries", np.uint8, (n_codebooks, n_entries, stored)),
        scales=bundle.array(f"{prefix}codebook_scales", np.float32, (n_codebooks,)),
        entry_bits=entry_bits,
        width=width,
    )


def _unpacked(entries: NDArray[np.uint8], entry_bits: int) -> NDArray[np.float32]:
    """Levels as float32: (M, K, bytes) -> (M, K, d or one more)."""
    if entry_bits == 4:
        halves = np.stack([np.bitwise_and(entries, 15), np.right_shift(entries, 4)], axis=-1)
        return halves.reshape(*entries.shape[:2], -1).astype(np.float32) - np.float32(8)
    return entries.astype(np.float32) - np.float32(2 ** (entry_bits - 1))
