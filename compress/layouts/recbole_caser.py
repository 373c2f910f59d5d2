"""Caser as RecBole 1.x saves it; what all of RecBole's files share is in `recbole`.

ours              theirs
padding           row 0 of item_embedding
user              the mean of user_embedding, without row 0
vertical          conv_v: one column of (V, 1, L, 1)
horizontal.i      conv_h.i: (C, 1, i + 1, D), its last two axes in the other order
dense_1, dense_2  fc1, fc2

The users' own vectors stay behind: the device's user is none of them. On ML-100K that costs the users of the training
set 6% (NDCG@10 .0425 with their own vectors, .0399 with the mean; a user drawn at random gives .0405).
"""

from __future__ import annotations

import re
from collections.abc import Collection

from ..checkpoint import Checkpoint
from ..models.caser import Caser, CaserConfig
from . import recbole
from .assemble import assemble, make_config, numbered, take_items
from .teacher import Layout, LoadOptions, Teacher
from .weights import Weights

USER_TABLE = "user_embedding.weight"
_KEYS = re.compile(r"(user|item)_embedding\.weight|(conv_v|conv_h\.\d+|fc1|fc2)\.(weight|bias)")


def knows(key: str) -> bool:
    return _KEYS.fullmatch(key) is not None


def matches(keys: Collection[str]) -> bool:
    return any(key.startswith(("conv_h.", "conv_v.")) for key in keys) and all(map(knows, keys))


def load(checkpoint: Checkpoint, options: LoadOptions) -> Teacher:
    weights = Weights(checkpoint)
    recbole.check_model(checkpoint, "Caser")
    recbole.refuse_heads(checkpoint, options, "Caser")
    length = numbered(weights, "conv_h.")
    width = weights.size("fc1.bias", 0)
    padding, table, _ = take_items(weights, recbole.ITEM_TABLE, width)
    _, users, _ = take_items(weights, USER_TABLE, width)
    n_vertical, n_horizontal = weights.size("conv_v.bias", 0), weights.size("conv_h.0.bias", 0)
    taken = {"item_table": table, "padding": padding[0], "user": users.mean(0)}
    taken["vertical.weight"] = weights.take("conv_v.weight", (n_vertical, 1, length, 1)).reshape(
        n_vertical, length
    )
    keys = {"vertical.bias": "conv_v.bias"}
    for i in range(length):
        kernels = weights.take(f"conv_h.{i}.weight", (n_horizontal, 1, i + 1, width))
        taken[f"horizontal.{i}.weight"] = kernels[:, 0].transpose(1, 2).contiguous()
        keys[f"horizontal.{i}.bias"] = f"conv_h.{i}.bias"
    for kind in ("weight", "bias"):
        keys |= {f"dense_1.{kind}": f"fc1.{kind}", f"dense_2.{kind}": f"fc2.{kind}"}
    config = make_config(
        weights,
        CaserConfig,
        n_items=len(table),
        width=width,
        n_vertical=n_vertical,
        n_horizontal=n_horizontal,
        max_length=length,
        dropout=recbole.setting(checkpoint, "dropout_prob", float, 0.4),
    )
    model = assemble(weights, Caser, config, keys, taken)
    notes = [f"users: the vectors of {len(users)} users stay behind, their mean stands for everybody"]
    return recbole.finish(checkpoint, options, weights, model, name="Caser", layout=LAYOUT.name, notes=notes)


LAYOUT = Layout(
    name="recbole-caser",
    matches=matches,
    knows=knows,
    load=load,
)
