"""AutoInt as RecBole 1.x saves it; the fields' tables and the MLP are in `recbole_context`.

ours                  theirs
input                 att_embedding
layers.l.q, k, v      self_attns.l.in_proj_weight, in_proj_bias, a third each
layers.l.out          self_attns.l.out_proj
residual              v_res_embedding, where there is one
attended_output       attn_fc
output                deep_predict_layer
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from torch import Tensor

from ...runtime.errors import InputError
from ..checkpoint import Checkpoint
from ..models.autoint import AutoInt, AutoIntConfig
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

ATTENTION, RESIDUAL = "self_attns.", "v_res_embedding"
MODULES = {"input": "att_embedding", "attended_output": "attn_fc", "output": "deep_predict_layer"}
HEADS = 2
"""RecBole's default of `num_heads`."""
DROPOUTS = [0.2, 0.2, 0.2]
"""RecBole's default: of the attention, of the MLP, and one that is not used."""
_OWN = re.compile(
    rf"({'|'.join(MODULES.values())}|{RESIDUAL}|self_attns\.\d+\.out_proj)\.(weight|bias)"
    r"|self_attns\.\d+\.in_proj_(weight|bias)"
)


def knows(key: str) -> bool:
    return knows_fields(key) or knows_mlp(key) or _OWN.fullmatch(key) is not None


def matches(keys: Collection[str]) -> bool:
    return TOKENS in keys and any(key.startswith(ATTENTION) for key in keys) and all(map(knows, keys))


def load(checkpoint: Checkpoint, options: LoadOptions) -> PointwiseTeacher:
    weights, notes = Weights(checkpoint), list[str]()
    recbole.check_model(checkpoint, "AutoInt")
    context = ContextFields(checkpoint, options, weights)
    n_layers, attended = numbered(weights, ATTENTION), weights.size("att_embedding.bias", 0)
    taken = context.take(first_order=True)
    for i in range(n_layers):
        taken |= _attention(weights, i, attended)
    hidden, mlp = take_mlp(weights, "mlp", MLP, len(context.fields) * context.width)
    residual = f"{RESIDUAL}.weight" in weights.unused
    config = make_config(
        weights,
        AutoIntConfig,
        schema=context.schema,
        width=context.width,
        attention_width=attended,
        n_layers=n_layers,
        n_heads=recbole.heads(checkpoint, options, notes, name="num_heads", default=HEADS),
        final_residual=residual,
        hidden_widths=hidden,
        dropout=_dropout(checkpoint),
    )
    keys = linear_keys(**MODULES, **({"residual": RESIDUAL} if residual else {}))
    model = assemble(weights, AutoInt, config, keys, taken | mlp)
    return finish(
        checkpoint,
        weights,
        model,
        context.data,
        context.fields,
        name="AutoInt",
        layout=LAYOUT.name,
        notes=notes,
    )


def _attention(weights: Weights, index: int, width: int) -> dict[str, Tensor]:
    theirs, ours = f"{ATTENTION}{index}.", f"layers.{index}."
    taken: dict[str, Tensor] = {}
    for kind, shape in (("weight", (3 * width, width)), ("bias", (3 * width,))):
        parts = weights.take(f"{theirs}in_proj_{kind}", shape).chunk(3)
        taken |= {f"{ours}{name}.{kind}": part.clone() for name, part in zip("qkv", parts, strict=True)}
        taken[f"{ours}out.{kind}"] = weights.take(f"{theirs}out_proj.{kind}", (width, *shape[1:]))
    return taken


def _dropout(checkpoint: Checkpoint) -> float:
    listed: list[Any] = recbole.setting(checkpoint, "dropout_probs", list, DROPOUTS)
    match listed:
        case [int() | float(), int() | float() as of_mlp, *_]:
            return float(of_mlp)
        case _:
            raise InputError(
                f"{checkpoint.path}: its setting dropout_probs is {listed!r:.60}; expected three numbers"
            )


LAYOUT = Layout(
    name="recbole-autoint",
    matches=matches,
    knows=knows,
    load=load,
    model="AutoInt",
)
