"""DCN V2 as FuxiCTR 2.x saves it; the features' tables and the MLP are in `fuxictr`.

ours      theirs
cross.l   crossnet.cross_layers.l
mlp       parallel_dnn.mlp.n, beside the cross layers, or stacked_dnn.mlp.n, behind them
output    fc

Both MLPs in one model, or none, are not supported, nor is the mixture of low-rank experts. There is no checkpoint of it
among those that were tried: the keys and the formula are read from FuxiCTR's source.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal

from ...runtime.errors import InputError
from ..checkpoint import Checkpoint
from ..models.dcnv2 import DCNv2, DCNv2Config
from . import fuxictr
from .assemble import assemble, make_config, numbered
from .recbole_context import linear_keys
from .teacher import Layout, LoadOptions, PointwiseTeacher
from .weights import Weights

CROSS = "crossnet.cross_layers."
MLPS: dict[str, Literal["parallel", "stacked"]] = {
    "parallel_dnn.mlp.": "parallel",
    "stacked_dnn.mlp.": "stacked",
}


def knows(key: str) -> bool:
    own = re.fullmatch(r"(crossnet\.cross_layers\.\d+|fc)\.(weight|bias)", key)
    return fuxictr.knows_fields(key) or any(fuxictr.knows_mlp(key, mlp) for mlp in MLPS) or own is not None


def matches(keys: Collection[str]) -> bool:
    return any(key.startswith(CROSS) for key in keys) and all(map(knows, keys))


def load(checkpoint: Checkpoint, options: LoadOptions) -> PointwiseTeacher:
    weights = Weights(checkpoint)
    fuxictr.refuse_heads(checkpoint, options, "DCNv2")
    prefixes = [prefix for prefix in MLPS if any(key.startswith(prefix) for key in weights.unused)]
    if len(prefixes) != 1:
        raise InputError(
            f"{checkpoint.path}: has {' and '.join(prefixes) or 'neither ' + ' nor '.join(MLPS)}; "
            "expected one of them, a parallel or a stacked structure"
        )
    fields = fuxictr.FuxictrFields(checkpoint, options, weights)
    taken, n_cross_layers = fields.take(), numbered(weights, CROSS)
    hidden, mlp = fuxictr.take_mlp(weights, prefixes[0], fields, scores=False)
    config = make_config(
        weights,
        DCNv2Config,
        schema=fields.schema,
        width=fields.width,
        n_cross_layers=n_cross_layers,
        structure=MLPS[prefixes[0]],
        hidden_widths=hidden,
        dropout=0.0,
    )
    keys = linear_keys(output="fc", **{f"cross.{i}": f"{CROSS}{i}" for i in range(n_cross_layers)})
    model = assemble(weights, DCNv2, config, keys, taken | mlp)
    return fuxictr.finish(
        checkpoint, weights, model, fields, name="DCNv2", layout=LAYOUT.name, notes=[fuxictr.ASSUMED]
    )


LAYOUT = Layout(
    name="fuxictr-dcnv2",
    matches=matches,
    knows=knows,
    load=load,
)
