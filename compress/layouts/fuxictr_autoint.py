"""AutoInt as FuxiCTR 2.3 saves it; the features' tables and the MLP are in `fuxictr`.

ours                  theirs
layers.l.q, k, v      self_attention.l.W_q, W_k, W_v
layers.l.residual     self_attention.l.W_res, where the widths differ
attended_output       fc
mlp, output           dnn.mlp.n
first-order weights   lr_layer, where there is one

Heads, residuals and the scaling of dot products are in no shape: 2 heads, residuals and no scaling are what FuxiCTR's
own configurations for Avazu have, and what `use_residual` and `use_scale` are by default.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import torch

from ..checkpoint import Checkpoint
from ..models.autoint import AutoInt, AutoIntConfig
from . import fuxictr
from .assemble import assemble, make_config, numbered
from .recbole_context import linear_keys
from .teacher import Layout, LoadOptions, PointwiseTeacher
from .weights import Weights

LR_LAYER, MLP, ATTENTION = "lr_layer.", "dnn.mlp.", "self_attention."
CONVENTIONAL_HEADS = 2


def knows(key: str) -> bool:
    own = re.fullmatch(r"self_attention\.\d+\.W_(q|k|v|res)\.weight|fc\.(weight|bias)", key)
    return fuxictr.knows_fields(key, LR_LAYER) or fuxictr.knows_mlp(key, MLP) or own is not None


def matches(keys: Collection[str]) -> bool:
    return any(key.startswith(ATTENTION) for key in keys) and all(map(knows, keys))


def load(checkpoint: Checkpoint, options: LoadOptions) -> PointwiseTeacher:
    weights, notes = Weights(checkpoint), [fuxictr.ASSUMED]
    n_heads = options.n_heads
    if n_heads is None:
        n_heads = CONVENTIONAL_HEADS
        notes.append(f"heads: {n_heads} assumed (FuxiCTR's configuration for Avazu), the file does not say")
    notes.append("attention: residual and not scaled assumed (FuxiCTR's default), the file does not say")
    fields = fuxictr.FuxictrFields(checkpoint, options, weights)
    wide = any(key.startswith(LR_LAYER) for key in weights.unused)
    taken = fields.take(lr_layer=LR_LAYER if wide else "")
    if wide:
        taken["bias"] = torch.zeros(1)  # theirs has none
    n_layers, keys = numbered(weights, ATTENTION), linear_keys(attended_output="fc")
    for i in range(n_layers):
        parts = ("q", "k", "v", *(["residual"] if f"{ATTENTION}{i}.W_res.weight" in weights.unused else []))
        keys |= {f"layers.{i}.{part}.weight": f"{ATTENTION}{i}.W_{part[:3]}.weight" for part in parts}
    hidden, mlp = fuxictr.take_mlp(weights, MLP, fields)
    config = make_config(
        weights,
        AutoIntConfig,
        schema=fields.schema,
        width=fields.width,
        attention_width=weights.size(f"{ATTENTION}0.W_q.weight", 0),
        n_layers=n_layers,
        n_heads=n_heads,
        residual_layers=True,
        scaled=False,
        first_order=wide,
        hidden_widths=hidden,
    )
    model = assemble(weights, AutoInt, config, keys, taken | mlp)
    return fuxictr.finish(checkpoint, weights, model, fields, name="AutoInt", layout=LAYOUT.name, notes=notes)


LAYOUT = Layout(
    name="fuxictr-autoint",
    matches=matches,
    knows=knows,
    load=load,
)
