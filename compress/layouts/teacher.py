"""What loading a checkpoint gives, and what a layout is."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from ...runtime.item_ids import ItemId, ItemIds
from ..checkpoint import Checkpoint
from ..models.protocol import SequenceModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """A model as somebody trained it, ready to be measured and compressed."""

    model: SequenceModel
    """In eval mode, on the CPU, in float32."""
    item_ids: ItemIds
    """The user's id of each row of the item table."""
    layout: str
    """Name of the layout that read it."""
    source: Checkpoint
    notes: tuple[str, ...] = ()
    """What was assumed or left out: one line each, for the user to read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What a user can say about a checkpoint that its weights do not."""

    n_heads: int | None = None
    """Attention heads, where the file does not record them."""
    item_ids: ItemIds | None = None
    """The id of each item row, where they are known from elsewhere."""
    data_item_ids: list[ItemId] | None = None
    """Distinct item ids of the data it was trained on, in order of first appearance in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One framework's naming of one model."""

    name: str
    """As `--layout` takes it and as the manifest records it."""
    describes: str
    """For the list in an error: whose models these are."""
    matches: Callable[[Collection[str]], bool]
    """Whether a checkpoint with these keys is of this layout; quick, and true for one layout at most."""
    knows: Callable[[str], bool]
    """Whether the layout uses this key: the others are the ones an error names."""
    load: Callable[[Checkpoint, LoadOptions], Teacher]
    """Raises `InputError` for missing, misshapen or non-finite weights."""
