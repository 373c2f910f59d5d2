"""BERT4Rec as RecBole 1.2 saves it; what all of RecBole's files share is in `recbole`.

The layers are SASRec's, under the same names. Beside them:

ours                theirs
mask                the last row of item_embedding
item_bias           output_bias, without its value for the pad
dense, dense_norm   output_ffn, output_ln

RecBole 1.1 and earlier had no output layer: such files have SASRec's very keys, and are refused by their settings.
"""

from __future__ import annotations

from collections.abc import Collection

from ..checkpoint import Checkpoint
from ..models.bert4rec import BERT4Rec, BERT4RecConfig
from . import recbole
from .assemble import assemble, make_config, numbered, take_items
from .recbole_sasrec import NAMING
from .teacher import Layout, LoadOptions, Teacher
from .weights import Weights

ITEM_BIAS = "output_bias"
_OUTPUT = {"dense": "output_ffn", "dense_norm": "output_ln"}
_OUTPUT_KEYS = {f"{a}.{kind}": f"{b}.{kind}" for a, b in _OUTPUT.items() for kind in ("weight", "bias")}


def knows(key: str) -> bool:
    return key == ITEM_BIAS or key in _OUTPUT_KEYS.values() or NAMING.knows(key)


def matches(keys: Collection[str]) -> bool:
    return any(key.startswith("output_") for key in keys) and all(map(knows, keys))


def load(checkpoint: Checkpoint, options: LoadOptions) -> Teacher:
    weights, notes = Weights(checkpoint), list[str]()
    recbole.check_model(checkpoint, "BERT4Rec")
    n_layers = numbered(weights, f"{NAMING.layers}.")
    keys = NAMING.keys(n_layers) | _OUTPUT_KEYS
    width = weights.size(keys["norm.weight"], 0)
    _, table, mask = take_items(weights, recbole.ITEM_TABLE, width, after=1)
    config = make_config(
        weights,
        BERT4RecConfig,
        n_items=len(table),
        width=width,
        n_layers=n_layers,
        n_heads=recbole.heads(checkpoint, options, notes),
        inner_width=weights.size(keys["layers.0.dense_1.bias"], 0),
        max_length=weights.size(NAMING.positions, 0),
        activation=recbole.activation(checkpoint),
        eps=recbole.setting(checkpoint, "layer_norm_eps", float, 1e-12),
        dropout=recbole.setting(checkpoint, "hidden_dropout_prob", float, 0.2),
    )
    bias = weights.take(ITEM_BIAS, (len(table) + 1,))[1:].clone()
    model = assemble(
        weights, BERT4Rec, config, keys, {"item_table": table, "item_bias": bias, "mask": mask[0]}
    )
    return recbole.finish(
        checkpoint, options, weights, model, name="BERT4Rec", layout=LAYOUT.name, notes=notes
    )


LAYOUT = Layout(
    name="recbole-bert4rec",
    matches=matches,
    knows=knows,
    load=load,
)
