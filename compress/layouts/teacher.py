"""What loading a checkpoint gives, and what a layout is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...runtime.item_ids import ItemId, ItemIds
from ...runtime.neighbors import Neighbors
from ..checkpoint import Checkpoint
from ..models.pointwise_protocol import PointwiseModel
from ..models.protocol import SequenceModel

if TYPE_CHECKING:
    from torch import Tensor

    from ...benchmarks.interactions import Interactions


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """A model as somebody trained it, ready to be measured and compressed."""

    model: SequenceModel
    """In eval mode, on the CPU, in float32."""
    user_vectors: Tensor | None = None
    """float32 (U, D), of a model that keeps a vector for each user, in the order of the data's users: they do not ship."""
    item_ids: ItemIds
    """The user's id of each row of the item table."""
    layout: str
    """Name of the layout that read it."""
    source: Checkpoint
    notes: tuple[str, ...] = ()
    """What was assumed or left out: one line each, for the user to read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointwiseTeacher:
    """A pointwise model as somebody trained it: `Teacher`, with a vocabulary for each field instead of item ids."""

    model: PointwiseModel
    """In eval mode, on the CPU, in float32."""
    vocabularies: Mapping[str, ItemIds]
    """The user's tokens of each token and token_seq field, in the order of the rows from 1 on; row 0 is any other."""
    threshold: float | None
    """A row of the data is positive where its label is at least this; None: the label is 0 or 1."""
    rows_in_data: bool = False
    """Integers in the data are rows of the tables already, the last for unknown tokens (FuxiCTR's Parquet files)."""
    layout: str
    """Name of the layout that read it."""
    source: Checkpoint
    notes: tuple[str, ...] = ()
    """What was assumed or left out: one line each, for the user to read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemItemTeacher:
    """Item-item weights as somebody solved for them: `Teacher`, without vectors."""

    model: Neighbors
    """In float32."""
    item_ids: ItemIds
    """The user's id of each item."""
    layout: str
    """Name of the layout that read it."""
    source: Checkpoint
    """Its tensors are those of the weights alone."""
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
    interactions: Interactions | None = None
    """These data, for models that are more than their weights: LightGCN has a graph of them."""
    data: Path | None = None
    """The file of the data, for layouts that read more of it and of the files beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One framework's naming of one model."""

    name: str
    """As `--layout` takes it and as the manifest records it."""
    matches: Callable[[Collection[str]], bool]
    """Whether a checkpoint with these keys is of this layout; quick; where several do, `model` decides."""
    knows: Callable[[str], bool]
    """Whether the layout uses this key: the others are the ones an error names."""
    load: Callable[[Checkpoint, LoadOptions], Teacher | ItemItemTeacher | PointwiseTeacher]
    """Raises `InputError` for missing, misshapen or non-finite weights."""
    model: str | None = None
    """What the settings call the model, for layouts whose keys are those of another one too."""
