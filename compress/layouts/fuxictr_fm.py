"""FM as FuxiCTR 2.x saves it: the features' tables, see `fuxictr`, and a bias."""

from __future__ import annotations

from collections.abc import Collection

from ..checkpoint import Checkpoint
from ..models.fm import FM, FMConfig
from . import fuxictr
from .assemble import assemble, make_config
from .teacher import Layout, LoadOptions, PointwiseTeacher
from .weights import Weights

LR_LAYER = "fm.lr_layer."


def knows(key: str) -> bool:
    return fuxictr.knows_fields(key, LR_LAYER)


def matches(keys: Collection[str]) -> bool:
    return any(key.startswith(LR_LAYER) for key in keys) and all(map(knows, keys))


def load(checkpoint: Checkpoint, options: LoadOptions) -> PointwiseTeacher:
    weights = Weights(checkpoint)
    fuxictr.refuse_heads(checkpoint, options, "FM")
    fields = fuxictr.FuxictrFields(checkpoint, options, weights)
    config = make_config(weights, FMConfig, schema=fields.schema, width=fields.width)
    model = assemble(weights, FM, config, {"bias": f"{LR_LAYER}bias"}, fields.take(lr_layer=LR_LAYER))
    return fuxictr.finish(checkpoint, weights, model, fields, name="FM", layout=LAYOUT.name)


LAYOUT = Layout(
    name="fuxictr-fm",
    matches=matches,
    knows=knows,
    load=load,
)
