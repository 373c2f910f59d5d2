"""FM as RecBole 1.x saves it; the fields' tables are in `recbole_context`."""

from __future__ import annotations

from collections.abc import Collection

from ..checkpoint import Checkpoint
from ..models.fm import FM, FMConfig
from . import recbole
from .assemble import assemble, make_config
from .recbole_context import TOKENS, ContextFields, finish, knows_fields
from .teacher import Layout, LoadOptions, PointwiseTeacher
from .weights import Weights


def matches(keys: Collection[str]) -> bool:
    return TOKENS in keys and all(map(knows_fields, keys))


def load(checkpoint: Checkpoint, options: LoadOptions) -> PointwiseTeacher:
    weights = Weights(checkpoint)
    recbole.check_model(checkpoint, "FM")
    recbole.refuse_heads(checkpoint, options, "FM")
    context = ContextFields(checkpoint, options, weights)
    config = make_config(weights, FMConfig, schema=context.schema, width=context.width)
    model = assemble(weights, FM, config, {}, context.take(first_order=True))
    return finish(checkpoint, weights, model, context.data, context.fields, name="FM", layout=LAYOUT.name)


LAYOUT = Layout(
    name="recbole-fm",
    matches=matches,
    knows=knows_fields,
    load=load,
    model="FM",
)
