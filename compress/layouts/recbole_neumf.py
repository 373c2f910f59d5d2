"""NeuMF as RecBole 1.x saves it; what all of RecBole's files share is in `recbole`.

ours                             theirs
user_products, item_products     user_mf_embedding, item_mf_embedding
user_vectors, item_vectors       user_mlp_embedding, item_mlp_embedding
mlp                              mlp_layers.mlp_layers, see `recbole_context`
output                           predict_layer

Row 0 of each table pads. Without the data, ids are RecBole's internal ones.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from ...runtime.errors import InputError
from ...runtime.features import FeatureSchema, Field
from ...runtime.item_ids import ItemIds
from ..checkpoint import Checkpoint
from ..models.neumf import NeuMF, NeuMFConfig
from . import recbole
from .assemble import assemble, make_config
from .recbole_context import MLP, knows_mlp, linear_keys, take_mlp
from .recbole_fields import read_recbole_data, split_sizes, vocabulary
from .teacher import Layout, LoadOptions, PointwiseTeacher
from .weights import Weights

TABLES = {
    "user_products": "user_mf_embedding.weight",
    "item_products": "item_mf_embedding.weight",
    "user_vectors": "user_mlp_embedding.weight",
    "item_vectors": "item_mlp_embedding.weight",
}
OUTPUT = "predict_layer"


def knows(key: str) -> bool:
    return (
        key in TABLES.values() or knows_mlp(key) or re.fullmatch(rf"{OUTPUT}\.(weight|bias)", key) is not None
    )


def matches(keys: Collection[str]) -> bool:
    return any(key in TABLES.values() for key in keys) and all(map(knows, keys))


def load(checkpoint: Checkpoint, options: LoadOptions) -> PointwiseTeacher:
    weights, notes = Weights(checkpoint), list[str]()
    recbole.check_model(checkpoint, "NeuMF")
    recbole.refuse_heads(checkpoint, options, "NeuMF")
    for part in ("mf_train", "mlp_train"):
        if not recbole.setting(checkpoint, part, bool, True):
            raise InputError(f"{checkpoint.path}: {part} is False; expected a NeuMF with both of its parts")
    vocabularies = _vocabularies(checkpoint, options, weights, notes)
    product_width, width = (weights.size(TABLES[name], 1) for name in ("user_products", "user_vectors"))
    hidden, mlp = take_mlp(weights, "mlp", MLP, 2 * width)
    sides = zip(vocabularies.items(), ("user", "item"), strict=True)
    fields = [Field(name=name, kind="token", side=side, size=len(ids) + 1) for (name, ids), side in sides]
    config = make_config(
        weights,
        NeuMFConfig,
        schema=FeatureSchema(
            fields=tuple(fields), label=recbole.setting(checkpoint, "LABEL_FIELD", str, "label")
        ),
        product_width=product_width,
        width=width,
        hidden_widths=hidden,
        dropout=recbole.setting(checkpoint, "dropout_prob", float, 0.1),
    )
    model = assemble(weights, NeuMF, config, TABLES | linear_keys(output=OUTPUT), mlp)
    recbole.refuse_leftovers(weights, "NeuMF")
    return PointwiseTeacher(
        model=model,
        vocabularies=vocabularies,
        threshold=None,
        layout=LAYOUT.name,
        source=checkpoint,
        notes=tuple(notes),
    )


def _vocabularies(
    checkpoint: Checkpoint, options: LoadOptions, weights: Weights, notes: list[str]
) -> dict[str, ItemIds]:
    """The ids of users and items, by the name of their field."""
    keys = (TABLES["user_products"], TABLES["item_products"])
    if options.data is None:
        notes.append(
            "ids of users and items: RecBole's internal ones; give the .inter file for the user's own"
        )
        names = ("user_id", "item_id")
        n_rows = [max(weights.size(key, 0), 2) for key in keys]
        return {name: ItemIds.from_sequence(range(1, n)) for name, n in zip(names, n_rows, strict=True)}
    data = read_recbole_data(checkpoint, options.data)
    fields = [data.field(data.user), data.field(data.item)]
    for key, field in zip(keys, fields, strict=True):
        split_sizes(data, [field], weights.size(key, 0), f"{weights.path}: {key}")
    notes.append("ids of users and items: in order of first appearance in the data, as RecBole numbers them")
    return {field.name: vocabulary(field) for field in fields}


LAYOUT = Layout(
    name="recbole-neumf",
    matches=matches,
    knows=knows,
    load=load,
    model="NeuMF",
)
