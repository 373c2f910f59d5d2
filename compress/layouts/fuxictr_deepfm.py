"""DeepFM as FuxiCTR 2.x saves it: the features' tables and the MLP, see `fuxictr`, and a bias."""

from __future__ import annotations

from collections.abc import Collection

from ..checkpoint import Checkpoint
from ..models.deepfm import DeepFM, DeepFMConfig
from . import fuxictr
from .assemble import assemble, make_config
from .teacher import Layout, LoadOptions, PointwiseTeacher
from .weights import Weights

LR_LAYER, MLP = "fm.lr_layer.", "mlp.mlp."


def knows(key: str) -> bool:
    return fuxictr.knows_fields(key, LR_LAYER) or fuxictr.knows_mlp(key, MLP)


def matches(keys: Collection[str]) -> bool:
    return any(key.startswith(MLP) for key in keys) and all(map(knows, keys))


def load(checkpoint: Checkpoint, options: LoadOptions) -> PointwiseTeacher:
    weights = Weights(checkpoint)
    fuxictr.refuse_heads(checkpoint, options, "DeepFM")
    fields = fuxictr.FuxictrFields(checkpoint, options, weights)
    taken = fields.take(lr_layer=LR_LAYER)
    hidden, mlp = fuxictr.take_mlp(weights, MLP, fields)
    config = make_config(
        weights, DeepFMConfig, schema=fields.schema, width=fields.width, hidden_widths=hidden, dropout=0.0
    )
    model = assemble(weights, DeepFM, config, {"bias": f"{LR_LAYER}bias"}, taken | mlp)
    return fuxictr.finish(
        checkpoint, weights, model, fields, name="DeepFM", layout=LAYOUT.name, notes=[fuxictr.ASSUMED]
    )


LAYOUT = Layout(
    name="fuxictr-deepfm",
    matches=matches,
    knows=knows,
    load=load,
)
