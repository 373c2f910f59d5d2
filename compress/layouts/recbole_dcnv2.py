"""DCN V2 as RecBole 1.x saves it; the fields' tables and the MLP are in `recbole_context`.

ours             theirs
cross.l.weight   cross_layer_w.l
cross.l.bias     bias.l, without its last axis
output           predict_layer

RecBole makes and saves first-order weights with every such model; this one's formula does not have them.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from ...runtime.errors import InputError
from ..checkpoint import Checkpoint
from ..models.dcnv2 import DCNv2, DCNv2Config
from . import recbole
from .assemble import assemble, make_config, numbered
from .recbole_context import (
    MLP,
    TOKENS,
    ContextFields,
    finish,
    knows_fields,
    knows_mlp,
    linear_keys,
    take_mlp,
)
from .teacher import Layout, LoadOptions, PointwiseTeacher
from .weights import Weights

CROSS, BIAS, OUTPUT = "cross_layer_w.", "bias.", "predict_layer"
_MIXED = ("cross_layer_u.", "cross_layer_v.", "cross_layer_c.", "gating.")


def knows(key: str) -> bool:
    own = re.fullmatch(r"(cross_layer_[wuvc]|bias)\.\d+|(predict_layer|gating\.\d+)\.(weight|bias)", key)
    return knows_fields(key) or knows_mlp(key) or own is not None


def matches(keys: Collection[str]) -> bool:
    return TOKENS in keys and any(key.startswith("cross_layer_") for key in keys) and all(map(knows, keys))


def load(checkpoint: Checkpoint, options: LoadOptions) -> PointwiseTeacher:
    weights = Weights(checkpoint)
    recbole.check_model(checkpoint, "DCNV2")
    recbole.refuse_heads(checkpoint, options, "DCNV2")
    if any(key.startswith(_MIXED) for key in weights.unused):
        raise InputError(
            f"{checkpoint.path}: a mixture of low-rank experts (mixed: True) is not supported; "
            "expected full matrices, cross_layer_w.*"
        )
    context = ContextFields(checkpoint, options, weights)
    taken = context.take(first_order=False)
    total = len(context.fields) * context.width
    n_cross_layers = max(numbered(weights, CROSS), numbered(weights, BIAS))
    for i in range(n_cross_layers):
        taken[f"cross.{i}.weight"] = weights.take(f"{CROSS}{i}", (total, total))
        taken[f"cross.{i}.bias"] = weights.take(f"{BIAS}{i}", (total, 1))[:, 0]
    hidden, mlp = take_mlp(weights, "mlp", MLP, total, batch_norm=True)
    config = make_config(
        weights,
        DCNv2Config,
        schema=context.schema,
        width=context.width,
        n_cross_layers=n_cross_layers,
        structure=recbole.setting(checkpoint, "structure", str, "stacked"),
        hidden_widths=hidden,
        dropout=recbole.setting(checkpoint, "dropout_prob", float, 0.2),
    )
    model = assemble(weights, DCNv2, config, linear_keys(output=OUTPUT), taken | mlp)
    notes = ["first-order weights: left out, the model does not use them"]
    return finish(
        checkpoint,
        weights,
        model,
        context.data,
        context.fields,
        name="DCNV2",
        layout=LAYOUT.name,
        notes=notes,
    )


LAYOUT = Layout(
    name="recbole-dcnv2",
    matches=matches,
    knows=knows,
    load=load,
    model="DCNV2",
)
