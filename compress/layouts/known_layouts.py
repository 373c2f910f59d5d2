"""The layouts that are known, and the one way in: `load_teacher`.

A new layout is one file with a `LAYOUT`, and one entry here.
"""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

from ...runtime.errors import InputError
from ...runtime.item_ids import ItemIds
from ..checkpoint import Checkpoint, read_checkpoint
from . import (
    icsrec_gru4rec,
    native,
    pmixer_sasrec,
    recbole_bert4rec,
    recbole_caser,
    recbole_gru4rec,
    recbole_lightsans,
    recbole_narm,
    recbole_sasrec,
    s3rec,
)
from .teacher import Layout, LoadOptions, Teacher

if TYPE_CHECKING:
    from ...benchmarks.interactions import Interactions

LAYOUTS: tuple[Layout, ...] = (
    native.LAYOUT,
    s3rec.LAYOUT,
    icsrec_gru4rec.LAYOUT,
    pmixer_sasrec.LAYOUT,
    recbole_sasrec.LAYOUT,
    recbole_bert4rec.LAYOUT,
    recbole_gru4rec.LAYOUT,
    recbole_narm.LAYOUT,
    recbole_caser.LAYOUT,
    recbole_lightsans.LAYOUT,
)


def load_teacher(
    path: str | PathLike[str],
    *,
    n_heads: int | None = None,
    layout: str | None = None,
    interactions: Interactions | None = None,
    item_ids: ItemIds | None = None,
) -> Teacher:
    """Reads a checkpoint, finds its layout by its keys, and builds the model.

    Args:
        path: The checkpoint file.
        n_heads: Attention heads, where the file does not record them; None takes the layout's convention.
        layout: Name of the layout, where the keys alone should not decide.
        interactions: The data it was trained on, for layouts whose item rows follow the data's order.
        item_ids: The id of each item row, where known from elsewhere; overrides whatever the layout says.

    Raises:
        InputError: the file cannot be read, is of no known layout, or its weights do not fit together.
    """
    checkpoint = read_checkpoint(path)
    options = LoadOptions(
        n_heads=n_heads,
        item_ids=item_ids,
        data_item_ids=None if interactions is None else list(interactions.item_ids),
    )
    teacher = find_layout(checkpoint, layout).load(checkpoint, options)
    if len(teacher.item_ids) != len(teacher.model.item_table):
        raise InputError(
            f"{path}: {len(teacher.model.item_table)} items, but {len(teacher.item_ids)} item ids were given; "
            "expected one for each"
        )
    return teacher


def find_layout(checkpoint: Checkpoint, name: str | None = None) -> Layout:
    """The layout of that name, or the one whose keys these are."""
    known = "; ".join(f"{layout.name} ({layout.describes})" for layout in LAYOUTS)
    if name is not None:
        for layout in LAYOUTS:
            if layout.name == name:
                return layout
        raise InputError(
            f"layout {name!r:.60} is not known; expected one of {', '.join(a.name for a in LAYOUTS)}"
        )
    keys = tuple(checkpoint.tensors)
    for layout in LAYOUTS:
        if layout.matches(keys):
            return layout
    unknown = [key for key in keys if not any(layout.knows(key) for layout in LAYOUTS)] or keys
    first = ", ".join(key[:80] for key in unknown[:3]) + (
        f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
    )
    raise InputError(f"{checkpoint.path}: its layout is not known (keys {first}); known are {known}")
