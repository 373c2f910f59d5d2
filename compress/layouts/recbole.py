"""What checkpoints of RecBole 1.x have in common, whatever the model.

A file is the trainer's whole state, or its `state_dict` alone. Settings come from the pickled `Config` where it is there;
where it is not, RecBole's defaults hold. Row 0 of the item table pads. Row r is the r-th distinct item token of the
`.inter` file, in order of first appearance, then of the `.item` file: RecBole factorizes before it sorts or filters.
The file itself holds no tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ...runtime.errors import InputError
from ...runtime.item_ids import ItemId, ItemIds
from ..checkpoint import Checkpoint
from ..models.protocol import SequenceModel
from ..models.sasrec import ACTIVATIONS
from .teacher import LoadOptions, Teacher
from .weights import Weights

ITEM_TABLE = "item_embedding.weight"
HEADS = 2
"""RecBole's default of `n_heads`."""
MAX_LENGTH = 50
"""RecBole's default of `MAX_ITEM_LIST_LENGTH`."""


def check_model(checkpoint: Checkpoint, expected: str) -> None:
    """Refuse a file whose settings name another model than its weights do."""
    named = checkpoint.settings.get("model")
    if isinstance(named, str) and named != expected:
        raise InputError(
            f"{checkpoint.path}: its settings say model {named!r:.60}, its weights are {expected}'s; "
            "expected them to agree"
        )


def setting(checkpoint: Checkpoint, name: str, kind: type, default: Any) -> Any:
    """A setting of this type, or the default where the file does not have it; raises `InputError` for another type."""
    value = checkpoint.settings.get(name, default)
    if isinstance(value, int) and kind is float:
        value = float(value)
    if value is not default and type(value) is not kind:
        raise InputError(f"{checkpoint.path}: its setting {name} is {value!r:.60}; expected {kind.__name__}")
    return value


def max_length(checkpoint: Checkpoint, notes: list[str]) -> int:
    """The longest history, for models whose weights do not say."""
    if "MAX_ITEM_LIST_LENGTH" not in checkpoint.settings:
        notes.append(f"longest history: {MAX_LENGTH} assumed (RecBole's default), the file does not say")
    return setting(checkpoint, "MAX_ITEM_LIST_LENGTH", int, MAX_LENGTH)


def heads(
    checkpoint: Checkpoint,
    options: LoadOptions,
    notes: list[str],
    *,
    name: str = "n_heads",
    default: int = HEADS,
) -> int:
    """Attention heads: as the settings record under `name`, else as the user says, else RecBole's default."""
    recorded: int | None = setting(checkpoint, name, int, None)
    if recorded is not None and options.n_heads not in (None, recorded):
        raise InputError(
            f"{checkpoint.path}: {options.n_heads} heads asked for, but its settings record {recorded}; "
            "leave the option out"
        )
    given = options.n_heads if recorded is None else recorded
    if given is None:
        notes.append(f"heads: {default} assumed (RecBole's default), the file does not say")
    return default if given is None else given


def activation(checkpoint: Checkpoint) -> str:
    """Of the feed-forward, one of `ACTIVATIONS`."""
    name = setting(checkpoint, "hidden_act", str, "gelu")
    if name not in ACTIVATIONS:
        raise InputError(
            f"{checkpoint.path}: hidden_act {name!r:.60}; expected one of {', '.join(ACTIVATIONS)}"
        )
    return name


def refuse_heads(checkpoint: Checkpoint, options: LoadOptions, model: str) -> None:
    """Refuse a number of attention heads for a model that has none."""
    if options.n_heads is not None:
        raise InputError(
            f"{checkpoint.path}: {options.n_heads} heads asked for, but a {model} has none; leave the option out"
        )


def refuse_leftovers(weights: Weights, name: str) -> None:
    """Refuse a file with tensors that no part of the model was made from."""
    if weights.unused:
        raise InputError(
            f"{weights.path}: {weights.unused[0]} and {len(weights.unused) - 1} more tensors are not {name}'s; "
            "it is another model of RecBole"
        )


def finish(
    checkpoint: Checkpoint,
    options: LoadOptions,
    weights: Weights,
    model: SequenceModel,
    *,
    name: str,
    layout: str,
    notes: Sequence[str],
    user_vectors: Tensor | None = None,
) -> Teacher:
    """The teacher, with the user's item ids; raises `InputError` where tensors are left over."""
    refuse_leftovers(weights, name)
    notes = list(notes)
    item_ids = item_ids_of(options, len(model.item_table), notes)
    return Teacher(
        model=model,
        user_vectors=user_vectors,
        item_ids=item_ids,
        layout=layout,
        source=checkpoint,
        notes=tuple(notes),
    )


def item_ids_of(options: LoadOptions, n_items: int, notes: list[str]) -> ItemIds:
    """The id of each row: as the user says, else in the order of the data, else RecBole's own numbers."""
    if options.item_ids is not None:
        return options.item_ids
    if options.data_item_ids is not None:
        notes.append("item ids: in order of first appearance in the data, as RecBole numbers them")
        return recbole_item_ids(options.data_item_ids, n_items)
    notes.append(f"item ids: RecBole's internal 1 to {n_items}; give the .inter file for the user's own")
    return ItemIds.from_sequence(range(1, n_items + 1))


def recbole_item_ids(data_item_ids: Sequence[ItemId], n_items: int) -> ItemIds:
    """The id of each row, from the data's distinct item ids in order of first appearance.

    Raises:
        InputError: the data have another number of items than the checkpoint.
    """
    if len(data_item_ids) != n_items:
        raise InputError(
            f"the data have {len(data_item_ids)} distinct items, the RecBole checkpoint {n_items}; expected the very "
            ".inter file it was trained on, whole and in its order (items of an .item file alone have no known place)"
        )
    return ItemIds.from_sequence(data_item_ids)
