"""The layouts that are known, and the one way in: `load_teacher`.

A new layout is one file with a `LAYOUT`, and one entry here.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from ...runtime.errors import InputError
from ...runtime.item_ids import ItemIds
from ...runtime.neighbors import Neighbors
from ..checkpoint import Checkpoint, read_checkpoint
from . import (
    fuxictr_autoint,
    fuxictr_dcnv2,
    fuxictr_deepfm,
    fuxictr_fm,
    fuxictr_wide_deep,
    icsrec_gru4rec,
    native,
    native_item_item,
    pmixer_sasrec,
    recbole_autoint,
    recbole_bert4rec,
    recbole_bpr,
    recbole_caser,
    recbole_dcnv2,
    recbole_deepfm,
    recbole_din,
    recbole_ease,
    recbole_fm,
    recbole_gru4rec,
    recbole_itemknn,
    recbole_lightgcn,
    recbole_lightsans,
    recbole_narm,
    recbole_neumf,
    recbole_sasrec,
    recbole_wide_deep,
    s3rec,
)
from .teacher import ItemItemTeacher, Layout, LoadOptions, PointwiseTeacher, Teacher

if TYPE_CHECKING:
    from ...benchmarks.interactions import Interactions

POINTWISE_LAYOUTS: tuple[Layout, ...] = (
    recbole_neumf.LAYOUT,
    recbole_fm.LAYOUT,
    recbole_deepfm.LAYOUT,
    recbole_wide_deep.LAYOUT,
    recbole_dcnv2.LAYOUT,
    recbole_autoint.LAYOUT,
    recbole_din.LAYOUT,
    fuxictr_fm.LAYOUT,
    fuxictr_deepfm.LAYOUT,
    fuxictr_autoint.LAYOUT,
    fuxictr_wide_deep.LAYOUT,
    fuxictr_dcnv2.LAYOUT,
)
"""Of models that score rows of features: `load_pointwise_teacher`."""

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
    recbole_bpr.LAYOUT,
    recbole_lightgcn.LAYOUT,
    recbole_ease.LAYOUT,
    recbole_itemknn.LAYOUT,
    native_item_item.LAYOUT,
    *POINTWISE_LAYOUTS,
)


def load_teacher(
    path: str | PathLike[str],
    *,
    n_heads: int | None = None,
    layout: str | None = None,
    interactions: Interactions | None = None,
    item_ids: ItemIds | None = None,
) -> Teacher:
    """Reads a checkpoint of a sequence model, finds its layout by its keys, and builds the model.

    Args:
        path: The checkpoint file.
        n_heads: Attention heads, where the file does not record them; None takes the layout's convention.
        layout: Name of the layout, where the keys alone should not decide.
        interactions: The data it was trained on, for layouts whose item rows follow the data's order.
        item_ids: The id of each item row, where known from elsewhere; overrides whatever the layout says.

    Raises:
        InputError: the file cannot be read, is of no known layout, or its weights do not fit together.
    """
    teacher = load_ranking_teacher(
        path, n_heads=n_heads, layout=layout, interactions=interactions, item_ids=item_ids
    )
    if isinstance(teacher, ItemItemTeacher):
        raise InputError(f"{path}: {teacher.layout} has item-item weights; expected a model of vectors")
    return teacher


def load_ranking_teacher(
    path: str | PathLike[str],
    *,
    n_heads: int | None = None,
    layout: str | None = None,
    interactions: Interactions | None = None,
    item_ids: ItemIds | None = None,
) -> Teacher | ItemItemTeacher:
    """As `load_teacher`, of any model that ranks by a history: a sequence model, or item-item weights."""
    checkpoint = read_checkpoint(path)
    options = LoadOptions(
        n_heads=n_heads,
        item_ids=item_ids,
        data_item_ids=None if interactions is None else list(interactions.item_ids),
        interactions=interactions,
    )
    teacher = find_layout(checkpoint, layout).load(checkpoint, options)
    if isinstance(teacher, PointwiseTeacher):
        raise InputError(
            f"{path}: {teacher.layout} is a pointwise model; expected one that ranks by a history"
        )
    model = teacher.model
    n_items = model.n_items if isinstance(model, Neighbors) else len(model.item_table)
    if len(teacher.item_ids) != n_items:
        raise InputError(
            f"{path}: {n_items} items, but {len(teacher.item_ids)} item ids were given; expected one for each"
        )
    return teacher


def load_pointwise_teacher(
    path: str | PathLike[str],
    *,
    data: str | PathLike[str] | None = None,
    n_heads: int | None = None,
    layout: str | None = None,
) -> PointwiseTeacher:
    """Reads a checkpoint of a pointwise model, finds its layout by its keys, and builds the model.

    Args:
        path: The checkpoint file.
        data: The data it was trained on: RecBole's .inter, with .user and .item beside it; for FuxiCTR any file in the
            folder of feature_map.json and feature_vocab.json, where these are not beside the checkpoint.
        n_heads: Attention heads, where the file does not record them; None takes the layout's convention.
        layout: Name of the layout, where the keys alone should not decide.

    Raises:
        InputError: the file cannot be read, is of no known pointwise layout, or does not fit the data.
    """
    checkpoint = read_checkpoint(path)
    options = LoadOptions(n_heads=n_heads, data=None if data is None else Path(data))
    teacher = find_layout(checkpoint, layout).load(checkpoint, options)
    if not isinstance(teacher, PointwiseTeacher):
        raise InputError(f"{path}: {teacher.layout} ranks by a history; expected a pointwise model")
    return teacher


def find_layout(checkpoint: Checkpoint, name: str | None = None) -> Layout:
    """The layout of that name, or the one whose keys these are."""
    known = ", ".join(layout.name for layout in LAYOUTS)
    if name is not None:
        for layout in LAYOUTS:
            if layout.name == name:
                return layout
        raise InputError(f"layout {name!r:.60} is not known; expected one of {known}")
    keys = tuple(checkpoint.tensors)
    fitting = [layout for layout in LAYOUTS if layout.matches(keys)]
    if len(fitting) > 1:
        named = checkpoint.settings.get("model")
        known_as = [layout for layout in fitting if layout.model == named]
        fitting = known_as or (fitting if named is None else fitting[:1])  # which will refuse that name
    if len(fitting) > 1:
        raise InputError(
            f"{checkpoint.path}: its keys are those of {' and '.join(layout.name for layout in fitting)}, and the file "
            "does not say which; name the layout"
        )
    if fitting:
        return fitting[0]
    unknown = [key for key in keys if not any(layout.knows(key) for layout in LAYOUTS)] or keys
    first = ", ".join(key[:80] for key in unknown[:3]) + (
        f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
    )
    raise InputError(
        f"{checkpoint.path}: its layout is not known (keys {first}); known are {known}; a module of your own: --model"
    )
