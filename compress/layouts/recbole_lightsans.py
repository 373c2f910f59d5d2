"""LightSANs as RecBole 1.x saves it; what all of RecBole's files share is in `recbole`.

ours                                 theirs, under trm_encoder.layer.i
padding                              row 0 of item_embedding
attention.q, .k, .v, .out            multi_head_attention.query, .key, .value, .dense
attention.key_interests              multi_head_attention.attpooling_key
attention.value_interests            multi_head_attention.attpooling_value
attention.position_q, _k, _norm      multi_head_attention.pos_q_linear, .pos_k_linear, .pos_ln
attention_norm                       multi_head_attention.LayerNorm
dense_1, dense_2, dense_norm         feed_forward.dense_1, .dense_2, .LayerNorm
"""

from __future__ import annotations

import re
from collections.abc import Collection

from ..checkpoint import Checkpoint
from ..models.lightsans import LightSANs, LightSANsConfig
from . import recbole
from .assemble import assemble, make_config, numbered, take_items
from .teacher import Layout, LoadOptions, Teacher
from .weights import Weights

LAYERS, POSITION_TABLE = "trm_encoder.layer.", "position_embedding.weight"
_MODULES = {
    "attention.q": "multi_head_attention.query",
    "attention.k": "multi_head_attention.key",
    "attention.v": "multi_head_attention.value",
    "attention.out": "multi_head_attention.dense",
    "attention.position_q": "multi_head_attention.pos_q_linear",
    "attention.position_k": "multi_head_attention.pos_k_linear",
    "attention.position_norm": "multi_head_attention.pos_ln",
    "attention_norm": "multi_head_attention.LayerNorm",
    "dense_1": "feed_forward.dense_1",
    "dense_2": "feed_forward.dense_2",
    "dense_norm": "feed_forward.LayerNorm",
}
_INTERESTS = {
    "attention.key_interests.theta": "multi_head_attention.attpooling_key.theta",
    "attention.value_interests.theta": "multi_head_attention.attpooling_value.theta",
}


def layer_keys(index: int) -> dict[str, str]:
    """The checkpoint's key of each parameter of a layer."""
    keys = {f"{a}.{kind}": f"{b}.{kind}" for a, b in _MODULES.items() for kind in ("weight", "bias")}
    return {f"layers.{index}.{a}": f"{LAYERS}{index}.{b}" for a, b in (keys | _INTERESTS).items()}


def knows(key: str) -> bool:
    if key in (recbole.ITEM_TABLE, POSITION_TABLE, "LayerNorm.weight", "LayerNorm.bias"):
        return True
    return re.sub(rf"^{re.escape(LAYERS)}\d+\.", f"{LAYERS}0.", key) in layer_keys(0).values()


def matches(keys: Collection[str]) -> bool:
    return any("attpooling_" in key or ".pos_" in key for key in keys) and all(map(knows, keys))


def load(checkpoint: Checkpoint, options: LoadOptions) -> Teacher:
    weights, notes = Weights(checkpoint), list[str]()
    recbole.check_model(checkpoint, "LightSANs")
    n_layers = numbered(weights, LAYERS)
    keys = {f"norm.{kind}": f"LayerNorm.{kind}" for kind in ("weight", "bias")}
    keys["position_table"] = POSITION_TABLE
    for i in range(n_layers):
        keys |= layer_keys(i)
    width = weights.size(keys["norm.weight"], 0)
    padding, table, _ = take_items(weights, recbole.ITEM_TABLE, width)
    config = make_config(
        weights,
        LightSANsConfig,
        n_items=len(table),
        width=width,
        n_layers=n_layers,
        n_heads=recbole.heads(checkpoint, options, notes),
        n_interests=weights.size(keys["layers.0.attention.key_interests.theta"], 1),
        inner_width=weights.size(keys["layers.0.dense_1.bias"], 0),
        max_length=weights.size(POSITION_TABLE, 0),
        activation=recbole.activation(checkpoint),
        eps=recbole.setting(checkpoint, "layer_norm_eps", float, 1e-12),
        dropout=recbole.setting(checkpoint, "hidden_dropout_prob", float, 0.5),
    )
    model = assemble(weights, LightSANs, config, keys, {"item_table": table, "padding": padding[0]})
    return recbole.finish(
        checkpoint, options, weights, model, name="LightSANs", layout=LAYOUT.name, notes=notes
    )


LAYOUT = Layout(
    name="recbole-lightsans",
    matches=matches,
    knows=knows,
    load=load,
)
