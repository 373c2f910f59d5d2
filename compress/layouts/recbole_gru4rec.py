"""GRU4Rec as RecBole 1.x saves it; what all of RecBole's files share is in `recbole`."""

from __future__ import annotations

from collections.abc import Collection

from ..checkpoint import Checkpoint
from . import recbole
from .gru4rec_keys import is_recurrent, read_gru4rec
from .gru4rec_keys import knows as knows_gru
from .teacher import Layout, LoadOptions, Teacher
from .weights import Weights


def matches(keys: Collection[str]) -> bool:
    return recbole.ITEM_TABLE in keys and any(map(is_recurrent, keys)) and all(map(knows, keys))


def knows(key: str) -> bool:
    return key == recbole.ITEM_TABLE or knows_gru(key)


def load(checkpoint: Checkpoint, options: LoadOptions) -> Teacher:
    weights, notes = Weights(checkpoint), list[str]()
    recbole.check_model(checkpoint, "GRU4Rec")
    recbole.refuse_heads(checkpoint, options, "GRU4Rec")
    model = read_gru4rec(
        weights,
        recbole.ITEM_TABLE,
        rows_after=0,
        max_length=recbole.max_length(checkpoint, notes),
        left_padding=False,
        dropout=recbole.setting(checkpoint, "dropout_prob", float, 0.3),
    )
    return recbole.finish(
        checkpoint, options, weights, model, name="GRU4Rec", layout=LAYOUT.name, notes=notes
    )


LAYOUT = Layout(
    name="recbole-gru4rec",
    matches=matches,
    knows=knows,
    load=load,
)
