"""DeepFM as RecBole 1.x saves it; the fields' tables and the MLP are in `recbole_context`.

ours     theirs
output   deep_predict_layer

Wide & Deep has the same keys and another formula: the settings, or the user, say which of them a file is.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ..checkpoint import Checkpoint
from ..models.deepfm import DeepFM, DeepFMConfig
from . import recbole
from .assemble import assemble, make_config
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

OUTPUT = "deep_predict_layer"


def knows(key: str) -> bool:
    return knows_fields(key) or knows_mlp(key) or key in (f"{OUTPUT}.weight", f"{OUTPUT}.bias")


def matches(keys: Collection[str]) -> bool:
    return TOKENS in keys and f"{OUTPUT}.weight" in keys and all(map(knows, keys))


def load(checkpoint: Checkpoint, options: LoadOptions) -> PointwiseTeacher:
    return load_deep(checkpoint, options, "DeepFM", DeepFM, DeepFMConfig, LAYOUT.name)


def load_deep(
    checkpoint: Checkpoint, options: LoadOptions, name: str, model_class: Any, config_class: Any, layout: str
) -> PointwiseTeacher:
    """A model of an MLP over the fields' vectors and something that has no parameters but first-order weights."""
    weights = Weights(checkpoint)
    recbole.check_model(checkpoint, name)
    recbole.refuse_heads(checkpoint, options, name)
    context = ContextFields(checkpoint, options, weights)
    taken = context.take(first_order=True)
    hidden, mlp = take_mlp(weights, "mlp", MLP, len(context.fields) * context.width)
    config = make_config(
        weights,
        config_class,
        schema=context.schema,
        width=context.width,
        hidden_widths=hidden,
        dropout=recbole.setting(checkpoint, "dropout_prob", float, 0.2),
    )
    model = assemble(weights, model_class, config, linear_keys(output=OUTPUT), taken | mlp)
    return finish(checkpoint, weights, model, context.data, context.fields, name=name, layout=layout)


LAYOUT = Layout(
    name="recbole-deepfm",
    matches=matches,
    knows=knows,
    load=load,
    model="DeepFM",
)
