"""A bundle with a text tower: the parts of one that is there, and the tower's beside them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.bundle import Bundle, write_bundle
from .hf_encoder import HfEncoder


def write_with_text(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    described: Mapping[str, Any],
    parts: Mapping[str, Any],
    *,
    manifest: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> int:
    """Copy a bundle with a text tower; returns the size in bytes.

    Args:
        described: the manifest's `text`.
        parts: the tower's.
        manifest: what else of the manifest changes.

    Raises:
        FileExistsError, OSError: as `write_bundle`.
    """
    bundle = Bundle.open(source)
    said = {name: value for name, value in bundle.manifest.items() if name not in ("parts", "format_version")}
    kept: dict[str, Any] = {part["name"]: bundle.part(part["name"]) for part in bundle.manifest["parts"]}
    return write_bundle(
        path, {**said, **(manifest or {}), "text": dict(described)}, {**kept, **parts}, overwrite=overwrite
    )


def encoder_parts(
    encoder: HfEncoder, projection: NDArray[np.float32], *, graph: bytes | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest's `text` and the parts of the encoder itself as a tower; `graph` in place of its float32 one."""
    return transformer_parts(
        graph or encoder.graph, encoder.tokenizer, projection, mean=encoder.mean, normalize=encoder.normalize,
        max_tokens=encoder.max_tokens,
    )  # fmt: skip


def transformer_parts(
    graph: bytes,
    tokenizer: bytes,
    projection: NDArray[np.float32],
    *,
    mean: bool,
    normalize: bool,
    max_tokens: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """As `runtime.text_tower` reads a transformer; `projection` float32 (H + 1, D)."""
    described = {
        "form": "transformer", "hidden": len(projection) - 1, "pooling": "mean" if mean else "first",
        "normalize": normalize, "max_tokens": max_tokens,
    }  # fmt: skip
    parts = {"tokenizer.json": tokenizer, "text_encoder.onnx": graph, "text_projection": projection}
    return described, parts
