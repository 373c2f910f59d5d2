"""A bundle with what it learns with fitted anew: `adapt` on a bundle that is there, its model untouched."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..benchmarks.protocols import leave_one_out
from ..runtime.bundle import write_bundle
from ..runtime.engine import Engine
from ..runtime.errors import InputError
from ..runtime.item_categories import PART, categories_part
from ..runtime.rank_options import Categories
from .adapt import Adaptation, AdaptationConfig, adapt, write_adapted


@dataclass(frozen=True, slots=True, eq=False)
class AdaptedBundle:
    """What was written."""

    adaptation: Adaptation | None
    """None where nothing pays; then nothing was written."""
    size_bytes: int


def adapt_again(
    engine: Engine,
    sequences: Sequence[NDArray[np.int64]],
    config: AdaptationConfig,
    output: str | os.PathLike[str],
    *,
    categories: Categories | None = None,
    seed: int = 0,
    keep_repeats: bool = False,
    overwrite: bool = False,
) -> AdaptedBundle:
    """Fit on each user's event before the last, and write the bundle with it.

    Args:
        engine: of the bundle.
        sequences: item rows of each user, oldest first; those of fewer than three events are left out.
        categories: by item id, to ship with the bundle and for its taste table.
        keep_repeats: items of the history are candidates too.

    Raises:
        InputError: a bundle without item vectors.
        FileExistsError, OSError: as `write_bundle`.
    """
    bundle = engine.bundle
    if engine.neighbors is not None:
        raise InputError(f"{bundle.path}: has item-item weights and no item vectors; there is nothing to fit")
    known = [sequences[user][:-1] for user in leave_one_out(sequences, stage="validation").users]
    manifest = {
        name: value
        for name, value in bundle.manifest.items()
        if name not in ("parts", "format_version", "adaptation")
    }
    parts = {
        part["name"]: bundle.part(part["name"])
        for part in bundle.manifest["parts"]
        if not part["name"].startswith("taste_")
    }
    content = None
    if categories is not None:
        parts[PART] = np.frombuffer(categories_part(engine.item_ids, categories), np.uint8)
        content = numbered(categories, engine)
    adaptation = adapt(engine, known, config, seed=seed, keep_repeats=keep_repeats, content=content)
    if adaptation is None:
        return AdaptedBundle(None, bundle.size_bytes)
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "draft.pocket"
        write_bundle(draft, manifest, parts)
        size = write_adapted(draft, output, adaptation.described, adaptation.taste, overwrite=overwrite)
    return AdaptedBundle(adaptation, size)


def numbered(categories: Categories, engine: Engine) -> list[list[int]]:
    """Numbers of the categories of each row.

    Raises:
        InputError: no item of the bundle has any.
    """
    number: dict[str, int] = {}
    found: list[list[int]] = []
    for item_id in engine.item_ids.ids(range(engine.n_items)):
        names = categories.get(item_id, ())
        listed = [names] if isinstance(names, str) else sorted({*names})
        found.append([number.setdefault(name, len(number)) for name in listed])
    if not number:
        raise InputError("categories: no item of the bundle has any; check the ids of the table")
    return found
