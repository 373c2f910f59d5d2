"""DIN as RecBole 1.x saves it; what all of RecBole's files share is in `recbole`, the fields in `recbole_fields`.

ours         theirs, E `embedding_layer.*embedding_table`
item_table   one row an item: its rows of token_E.item.embedding, the means of its rows of token_seq_E.item.j, then its
             values times rows of float_E.item.embedding, end to end
of_*         the first layer of attention.att_mlp_layers.mlp_layers, whose matrix reads [q ; k ; q - k ; q * k]
attention    its other layers
weigh        attention.dense
mlp          dnn_mlp_layers.mlp_layers, batch norms folded in
output       dnn_predict_layers

RecBole looks up the features of an item by its id whenever it scores; as they do not change, that is done once here.
Its DIN makes vectors of users, too, and does not use them. Dice, whose alpha RecBole keeps at 0, is x sigmoid(x).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from ...runtime.errors import InputError
from ...runtime.features import FeatureSchema, Field
from ..checkpoint import Checkpoint
from ..models.din import DIN, DINConfig
from . import recbole
from .assemble import assemble, make_config
from .recbole_context import finish, knows_mlp, linear_keys, make_field, take_mlp
from .recbole_fields import RecboleData, item_rows, item_values, read_recbole_data, split_sizes
from .teacher import Layout, LoadOptions, PointwiseTeacher
from .weights import Weights

EMBEDDING = "embedding_layer."
ITEM_TOKENS = f"{EMBEDDING}token_embedding_table.item.embedding.weight"
ITEM_LISTS = f"{EMBEDDING}token_seq_embedding_table.item."
ITEM_FLOATS = f"{EMBEDDING}float_embedding_table.item.embedding.weight"
ATTENTION, MLP = "attention.att_mlp_layers.mlp_layers.", "dnn_mlp_layers.mlp_layers."
MODULES = {"weigh": "attention.dense", "output": "dnn_predict_layers"}
_OWN = re.compile(
    r"embedding_layer\.((token|float)_embedding_table\.(user|item)\.embedding"
    r"|token_seq_embedding_table\.(user|item)\.\d+)\.weight"
    r"|(attention\.dense|dnn_predict_layers)\.(weight|bias)"
)


def knows(key: str) -> bool:
    return knows_mlp(key, ATTENTION) or knows_mlp(key, MLP) or _OWN.fullmatch(key) is not None


def matches(keys: Collection[str]) -> bool:
    return any(key.startswith("attention.") for key in keys) and all(map(knows, keys))


def load(checkpoint: Checkpoint, options: LoadOptions) -> PointwiseTeacher:
    weights = Weights(checkpoint)
    recbole.check_model(checkpoint, "DIN")
    recbole.refuse_heads(checkpoint, options, "DIN")
    if recbole.setting(checkpoint, "pooling_mode", str, "mean") != "mean":
        raise InputError(
            f"{checkpoint.path}: pooling_mode {checkpoint.settings['pooling_mode']!r}; expected mean"
        )
    data, notes = read_recbole_data(checkpoint, options.data), list[str]()
    length = recbole.max_length(checkpoint, notes)
    table = item_table(data, weights)
    width = table.shape[1]
    attention_widths, attention = take_mlp(weights, "attention", ATTENTION, 4 * width)
    hidden, mlp = take_mlp(weights, "mlp", MLP, 3 * width, batch_norm=True)
    weights.leave(*(key for key in weights.unused if key.startswith(EMBEDDING) and ".user." in key))
    item = data.field(data.item)
    history = data.item + recbole.setting(checkpoint, "LIST_SUFFIX", str, "_list")
    fields = (
        make_field(item),
        Field(name=history, kind="token_seq", side="user", size=item.size, max_length=length),
    )
    config = make_config(
        weights,
        DINConfig,
        schema=FeatureSchema(fields=fields, label=data.label),
        width=width,
        attention_widths=attention_widths,
        hidden_widths=hidden,
        dropout=recbole.setting(checkpoint, "dropout_prob", float, 0.0),
    )
    taken = {"item_table": table} | split_first_layer(attention) | mlp
    model = assemble(weights, DIN, config, linear_keys(**MODULES), taken)
    notes.append("users: their own vectors are left out, the model does not use them")
    return finish(
        checkpoint,
        weights,
        model,
        data,
        [item],
        name="DIN",
        layout=LAYOUT.name,
        notes=notes,
        same={history: item.name},
    )


def item_table(data: RecboleData, weights: Weights) -> Tensor:
    """Every item's vector with those of its features behind it: float32 (items + 1, features times width)."""
    of_items = {
        kind: [field for field in data.of(kind) if field.source == "item"]
        for kind in ("token", "token_seq", "float")
    }
    width, where = weights.size(ITEM_TOKENS, 1), f"{weights.path}: {ITEM_TOKENS}"
    parts = list[Tensor]()
    packed = weights.take(ITEM_TOKENS, (None, width))
    slices = split_sizes(data, of_items["token"], len(packed), where)
    for field, rows in zip(of_items["token"], slices, strict=True):
        ids = torch.from_numpy(item_rows(data, field))[:, 0]  # (V,)
        parts.append(packed[rows][ids])  # (V, D)
    for j, field in enumerate(of_items["token_seq"]):
        key = f"{ITEM_LISTS}{j}.weight"
        split_sizes(data, [field], weights.size(key, 0), f"{weights.path}: {key}")
        ids = torch.from_numpy(item_rows(data, field))  # (V, n)
        known = (ids > 0).float()[..., None]  # (V, n, 1)
        rows = weights.take(key, (field.size, width))[ids] * known  # (V, n, D)
        parts.append(rows.sum(1) / known.sum(1).clamp(min=1))  # (V, D)
    if of_items["float"]:
        table = weights.take(ITEM_FLOATS, (2 * len(of_items["float"]), width))
        for field, row in zip(of_items["float"], table[1::2], strict=True):
            parts.append(torch.from_numpy(item_values(data, field))[:, None] * row)  # (V, D)
    return torch.cat(parts, 1)


def split_first_layer(attention: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters of an MLP over [q ; k ; q - k ; q * k], `attention.layers.i`, as the model has them."""
    of_q, of_k, of_difference, of_product = attention["attention.layers.0.weight"].chunk(4, 1)
    split = {
        "of_candidate.weight": of_q + of_difference,
        "of_candidate.bias": attention["attention.layers.0.bias"],
        "of_history.weight": of_k - of_difference,
        "of_product.weight": of_product.clone(),
    }
    for i in range(1, len(attention) // 2):
        for kind in ("weight", "bias"):
            split[f"attention.layers.{i - 1}.{kind}"] = attention[f"attention.layers.{i}.{kind}"]
    return split


LAYOUT = Layout(
    name="recbole-din",
    matches=matches,
    knows=knows,
    load=load,
    model="DIN",
)
