"""NARM as RecBole 1.x saves it; what all of RecBole's files share is in `recbole`.

ours                            theirs
layers.i.input_weight           gru.weight_ih_li
        .hidden_weight          gru.weight_hh_li
of_each, of_last, weigh, dense  a_1, a_2, v_t, b
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from ...runtime.errors import InputError
from ..checkpoint import Checkpoint
from ..models.narm import NARM, NARMConfig
from . import recbole
from .assemble import assemble, make_config, numbered, take_items
from .teacher import Layout, LoadOptions, Teacher
from .weights import Weights

_MODULES = {"of_each": "a_1", "of_last": "a_2", "weigh": "v_t", "dense": "b"}
DROPOUTS = [0.25, 0.5]
"""RecBole's default."""


def knows(key: str) -> bool:
    own = re.fullmatch(r"gru\.weight_[ih]h_l\d+|(a_1|a_2|v_t|b)\.weight", key)
    return key == recbole.ITEM_TABLE or own is not None


def matches(keys: Collection[str]) -> bool:
    return any(key.startswith("gru.") for key in keys) and all(map(knows, keys))


def load(checkpoint: Checkpoint, options: LoadOptions) -> Teacher:
    weights, notes = Weights(checkpoint), list[str]()
    recbole.check_model(checkpoint, "NARM")
    recbole.refuse_heads(checkpoint, options, "NARM")
    n_layers = numbered(weights, "gru.weight_ih_l")
    width = weights.size("b.weight", 0)
    _, table, _ = take_items(weights, recbole.ITEM_TABLE, width)
    on_items, on_output = _dropouts(checkpoint)
    config = make_config(
        weights,
        NARMConfig,
        n_items=len(table),
        width=width,
        hidden_width=weights.size("a_1.weight", 0),
        n_layers=n_layers,
        max_length=recbole.max_length(checkpoint, notes),
        dropout=on_items,
        output_dropout=on_output,
    )
    keys = {f"{ours}.weight": f"{theirs}.weight" for ours, theirs in _MODULES.items()}
    for i in range(n_layers):
        keys[f"layers.{i}.input_weight"] = f"gru.weight_ih_l{i}"
        keys[f"layers.{i}.hidden_weight"] = f"gru.weight_hh_l{i}"
    model = assemble(weights, NARM, config, keys, {"item_table": table})
    return recbole.finish(checkpoint, options, weights, model, name="NARM", layout=LAYOUT.name, notes=notes)


def _dropouts(checkpoint: Checkpoint) -> tuple[float, float]:
    listed: list[Any] = recbole.setting(checkpoint, "dropout_probs", list, DROPOUTS)
    match listed:
        case [int() | float() as on_items, int() | float() as on_output]:
            return float(on_items), float(on_output)
        case _:
            raise InputError(
                f"{checkpoint.path}: its setting dropout_probs is {listed!r:.60}; expected two numbers"
            )


LAYOUT = Layout(
    name="recbole-narm",
    matches=matches,
    knows=knows,
    load=load,
)
