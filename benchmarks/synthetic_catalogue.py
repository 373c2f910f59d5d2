"""A bundle of any number of items, made up: to measure what a catalogue costs, whatever it recommends.

Rows are in 8 or 4 bits, their levels drawn as a table of normally distributed values would have them, their lengths log-normal with a
spread of 15%, as those of trained tables. The encoder takes the mean of the history. The table is written in pieces, to a
file that is mapped: ten million items take no more memory than ten thousand.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..runtime.bundle import write_bundle
from ..runtime.item_ids import ItemIds
from ..runtime.item_table import WIDTH_MULTIPLE, row_bytes
from .onnx_bytes import Node, model_bytes

MAX_LENGTH = 50
_DEVIATION = {4: 2.5, 8: 127 / 4}
"""Of a normally distributed row's levels: in 4 bits, values beyond 2.8 deviations are clipped."""
_SPREAD = 0.15
_ROWS_AT_ONCE = 65_536


def write_catalogue(
    path: str | os.PathLike[str], n_items: int, *, width: int = 64, bits: int = 4, seed: int = 0
) -> int:
    """Write a bundle of items 0 to n_items - 1; returns its size in bytes.

    Args:
        width: a power of two, 16 to 256.
        bits: 4 or 8.

    Raises:
        ValueError: another width or number of bits.
    """
    if bits not in _DEVIATION or width not in (16, 32, 64, 128, 256):
        raise ValueError(
            f"catalogue: width {width} in {bits} bits, expected 16, 32, 64, 128 or 256 in 4 or 8 bits"
        )
    rng = np.random.default_rng(seed)
    ids = ItemIds("range", range(n_items))
    codes_bytes = row_bytes(width, bits)
    described = {"format": "rows", "bits": bits, "width": width, "scale_unit": 1.0, "block": width}
    manifest = {
        "name": "synthetic catalogue",
        "family": "sequence",
        "max_length": MAX_LENGTH,
        "items": {"count": n_items, "ids": ids.describe()},
        "item_table": described,
        "encoder": {"weights": "float32", "products": "float32"},
        "seed": seed,
    }
    with tempfile.TemporaryDirectory(dir=Path(path).parent) as folder:
        codes = np.memmap(Path(folder) / "codes", np.uint8, "w+", shape=(n_items, codes_bytes))
        scales = np.empty(n_items, np.float16)
        byte_of = _bytes_of_quantiles(bits)
        for start in range(0, n_items, _ROWS_AT_ONCE):
            n = min(_ROWS_AT_ONCE, n_items - start)
            drawn = rng.integers(0, len(byte_of), (n, codes_bytes), dtype=np.uint16)
            codes[start : start + n] = byte_of.take(drawn)
            scales[start : start + n] = rng.lognormal(0.0, _SPREAD, n) / (_DEVIATION[bits] * np.sqrt(width))
        parts = {
            "encoder.onnx": mean_encoder(width),
            "scorer.onnx": rows_scorer(n_items, width, bits),
            "prior_user": rng.standard_normal(width).astype(np.float32),
            "item_codes": codes,
            "item_scales": scales,
        }
        size_bytes = write_bundle(path, manifest, parts)
        del codes
    return size_bytes


def mean_encoder(width: int) -> bytes:
    """float32 (B, n, D) -> (B, D)."""
    return model_bytes(
        [Node(op="ReduceMean", inputs=["history", "axes"], outputs=["users"], attributes={"keepdims": 0})],
        {"history": ("float32", ["batch", "length", width])},
        {"users": ("float32", ["batch", width])},
        {"axes": np.array([1], np.int64)},
        {},
    )


def rows_scorer(n_items: int, width: int, bits: int) -> bytes:
    """As `export.scorer_graph` makes it, of rows of one block."""
    if width % WIDTH_MULTIPLE:
        raise ValueError(f"scorer: width {width}, expected a multiple of {WIDTH_MULTIPLE}")
    attributes = {"K": width, "N": n_items, "bits": bits, "block_size": width, "accuracy_level": 4}
    node = Node(
        op="MatMulNBits", inputs=["users", "codes", "scales"], outputs=["scores"], domain="com.microsoft",
        attributes=attributes,
    )  # fmt: skip
    weights = {
        "codes": np.broadcast_to(np.uint8(0), (n_items, 1, row_bytes(width, bits))),
        "scales": np.broadcast_to(np.float32(0), (n_items, 1)),
    }
    return model_bytes(
        [node],
        {"users": ("float32", ["batch", width])},
        {"scores": ("float32", ["batch", n_items])},
        {},
        weights,
    )


def _bytes_of_quantiles(bits: int) -> NDArray[np.uint8]:
    """A byte of codes for each of 65,536 equally likely numbers; uint8 (65536,)."""
    half = 2 ** (bits - 1)
    n_quantiles = 256 if bits == 4 else 65_536
    normal = np.random.default_rng(0).standard_normal(n_quantiles * 64)
    quantiles = np.sort(normal)[32::64] * _DEVIATION[bits]
    codes = (np.clip(np.rint(quantiles), 1 - half, half - 1) + half).astype(np.uint8)
    if bits == 8:
        return codes
    return (codes[:, None] | codes[None, :] << 4).ravel()
