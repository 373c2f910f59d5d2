"""Wide & Deep as FuxiCTR 2.x saves it: the features' tables, first-order weights and the MLP, see `fuxictr`.

There is no checkpoint of it among those that were tried: the keys and the formula are read from FuxiCTR's source.
"""

from __future__ import annotations

from collections.abc import Collection

import torch

from ..checkpoint import Checkpoint
from ..models.wide_deep import WideDeep, WideDeepConfig
from . import fuxictr
from .assemble import assemble, make_config
from .teacher import Layout, LoadOptions, PointwiseTeacher
from .weights import Weights

LR_LAYER, MLP = "lr_layer.", "dnn.mlp."


def knows(key: str) -> bool:
    return fuxictr.knows_fields(key, LR_LAYER) or fuxictr.knows_mlp(key, MLP)


def matches(keys: Collection[str]) -> bool:
    return any(key.startswith(LR_LAYER) for key in keys) and all(map(knows, keys))


def load(checkpoint: Checkpoint, options: LoadOptions) -> PointwiseTeacher:
    weights = Weights(checkpoint)
    fuxictr.refuse_heads(checkpoint, options, "WideDeep")
    fields = fuxictr.FuxictrFields(checkpoint, options, weights)
    taken = fields.take(lr_layer=LR_LAYER) | {"bias": torch.zeros(1)}  # theirs has none but the MLP's
    hidden, mlp = fuxictr.take_mlp(weights, MLP, fields)
    config = make_config(
        weights, WideDeepConfig, schema=fields.schema, width=fields.width, hidden_widths=hidden, dropout=0.0
    )
    model = assemble(weights, WideDeep, config, {}, taken | mlp)
    return fuxictr.finish(
        checkpoint, weights, model, fields, name="WideDeep", layout=LAYOUT.name, notes=[fuxictr.ASSUMED]
    )


LAYOUT = Layout(
    name="fuxictr-wide-deep",
    matches=matches,
    knows=knows,
    load=load,
)
