"""SASRec as RecBole 1.x saves it: the trainer's whole state, or its `state_dict` alone.

Heads, eps, activation and the history's length come from the pickled `Config` where it is there, else RecBole's own
defaults hold. History is right-padded, so the first item takes position row 0. Row 0 of the item table pads; there is
no mask row. Row r is the r-th distinct item token of the `.inter` file, in order of first appearance, then of the
`.item` file: RecBole factorizes before it sorts or filters. The file itself holds no tokens.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from ...runtime.errors import InputError
from ...runtime.item_ids import ItemId, ItemIds
from ..checkpoint import Checkpoint
from ..models.sasrec import ACTIVATIONS
from .post_norm_sasrec import Facts, Naming, read_post_norm_sasrec
from .teacher import Layout, LoadOptions, Teacher
from .weights import Weights

DEFAULT_HEADS = 2
"""Of RecBole's `SASRec.yaml`."""

NAMING = Naming(
    items="item_embedding.weight",
    positions="position_embedding.weight",
    layers="trm_encoder.layer",
    attention="multi_head_attention",
    feed_forward="feed_forward",
)


def matches(keys: Collection[str]) -> bool:
    """BERT4Rec, SASRecF and others have these keys and more: one that is not SASRec's makes it another model."""
    return NAMING.matches(keys) and all(map(NAMING.knows, keys))


def load(checkpoint: Checkpoint, options: LoadOptions) -> Teacher:
    weights = Weights(checkpoint)
    notes: list[str] = []
    facts = _facts(checkpoint, options, notes)
    model = read_post_norm_sasrec(weights, NAMING, facts, rows_before=1, rows_after=0)
    if weights.unused:
        raise InputError(
            f"{checkpoint.path}: {weights.unused[0]} and {len(weights.unused) - 1} more tensors are not SASRec's; "
            "it is another model of RecBole"
        )
    item_ids = options.item_ids
    if item_ids is None and options.data_item_ids is not None:
        item_ids = recbole_item_ids(options.data_item_ids, model.config.n_items)
        notes.append("item ids: in order of first appearance in the data, as RecBole numbers them")
    if item_ids is None:
        item_ids = ItemIds.from_sequence(range(1, model.config.n_items + 1))
        notes.append(
            f"item ids: RecBole's internal 1 to {len(item_ids)}; give the .inter file for the user's own"
        )
    return Teacher(model=model, item_ids=item_ids, layout=LAYOUT.name, source=checkpoint, notes=tuple(notes))


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


def _facts(checkpoint: Checkpoint, options: LoadOptions, notes: list[str]) -> Facts:
    settings, path = checkpoint.settings, checkpoint.path
    named = settings.get("model")
    if isinstance(named, str) and named != "SASRec":
        raise InputError(
            f"{path}: its settings say model {named!r:.60}, its weights are SASRec's; expected them to agree"
        )
    recorded: int | None = _setting(checkpoint, "n_heads", int, None)
    n_heads = options.n_heads if recorded is None else recorded
    if n_heads is None:
        n_heads = DEFAULT_HEADS
        notes.append(f"heads: {DEFAULT_HEADS} assumed (RecBole's default), the file does not say")
    if recorded is not None and options.n_heads not in (None, recorded):
        raise InputError(
            f"{path}: {options.n_heads} heads asked for, but its settings record {recorded}; leave the option out"
        )
    activation = _setting(checkpoint, "hidden_act", str, "gelu")
    if activation not in ACTIVATIONS:
        raise InputError(f"{path}: hidden_act {activation!r:.60}; expected one of {', '.join(ACTIVATIONS)}")
    return Facts(
        n_heads=n_heads,
        positions="start",
        activation=activation,
        eps=_setting(checkpoint, "layer_norm_eps", float, 1e-12),
        dropout=_setting(checkpoint, "hidden_dropout_prob", float, 0.5),
    )


def _setting(checkpoint: Checkpoint, name: str, kind: type, default: Any) -> Any:
    value = checkpoint.settings.get(name, default)
    if isinstance(value, int) and kind is float:
        value = float(value)
    if value is not default and type(value) is not kind:
        raise InputError(f"{checkpoint.path}: its setting {name} is {value!r:.60}; expected {kind.__name__}")
    return value


LAYOUT = Layout(
    name="recbole-sasrec",
    describes="SASRec as RecBole saves it",
    matches=matches,
    knows=NAMING.knows,
    load=load,
)
