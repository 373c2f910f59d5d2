"""Item-item weights of pocketrec's own, as `pocketrec train --model ease` writes them; the format is in
`compress.native_item_item`.
"""

from __future__ import annotations

from collections.abc import Collection

from ...runtime.errors import InputError
from ...runtime.item_table import FloatRows
from ...runtime.neighbors import Neighbors, row_dtype
from ..checkpoint import Checkpoint
from ..native_checkpoint import item_ids_in, read_metadata
from ..native_item_item import ARCHITECTURE, ROWS, WEIGHTS
from . import recbole
from .teacher import ItemItemTeacher, Layout, LoadOptions
from .weights import Weights


def matches(keys: Collection[str]) -> bool:
    return WEIGHTS in keys


def knows(key: str) -> bool:
    return key in (WEIGHTS, ROWS)


def load(checkpoint: Checkpoint, options: LoadOptions) -> ItemItemTeacher:
    weights, path = Weights(checkpoint), checkpoint.path
    recbole.refuse_heads(checkpoint, options, "item-item model")
    document = read_metadata(checkpoint)
    if document.get("architecture") != ARCHITECTURE:
        raise InputError(
            f"{path}: architecture {document.get('architecture')!r:.60}; expected {ARCHITECTURE}"
        )
    values = weights.take(WEIGHTS, (None, None)).numpy()
    n_items, count = values.shape
    rows = None
    if ROWS in checkpoint.tensors:
        found = weights.take_integers(ROWS, (n_items, count)).numpy()
        if not (found.min() >= 0 and found.max() < n_items):
            raise InputError(
                f"{path}: {ROWS} run from {found.min()} to {found.max()}, expected 0 to {n_items - 1}; save it again"
            )
        rows = found.astype(row_dtype(n_items))
    elif count != n_items:
        raise InputError(
            f"{path}: {WEIGHTS} has {count} columns for {n_items} items, and {ROWS} is missing; save it again"
        )
    if weights.unused:
        raise InputError(
            f"{path}: {', '.join(weights.unused[:3])} belong to no part of the model; save it again"
        )
    return ItemItemTeacher(
        model=Neighbors(rows, FloatRows(values)),
        item_ids=options.item_ids or item_ids_in(checkpoint, document, n_items),
        layout=LAYOUT.name,
        source=checkpoint,
    )


LAYOUT = Layout(
    name="pocketrec-item-item",
    matches=matches,
    knows=knows,
    load=load,
)
