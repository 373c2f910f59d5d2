"""BPR, matrix factorization, as RecBole 1.x saves it; what all of RecBole's files share is in `recbole`.

ours        theirs
user_table  user_embedding, without row 0
item_table  item_embedding, without row 0

The model that is compressed is `FoldIn` over the item table. Until the pipeline has fitted it against the users' own
vectors, which come along as `Teacher.user_vectors`, it is the one that the item table gives by itself.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from ...runtime.errors import InputError
from ..checkpoint import Checkpoint
from ..fold_in import gram_fold_in
from ..models.bpr import BPR, BPRConfig
from . import recbole
from .assemble import make_config, take_items
from .teacher import Layout, LoadOptions, Teacher
from .weights import Weights

USER_TABLE = "user_embedding.weight"


def matches(keys: Collection[str]) -> bool:
    return set(keys) == {USER_TABLE, recbole.ITEM_TABLE}


def knows(key: str) -> bool:
    return key in (USER_TABLE, recbole.ITEM_TABLE)


def load(checkpoint: Checkpoint, options: LoadOptions) -> Teacher:
    weights = Weights(checkpoint)
    recbole.check_model(checkpoint, "BPR")
    recbole.refuse_heads(checkpoint, options, "BPR")
    model = read_bpr(weights)
    return finish(
        checkpoint, options, weights, model.user_table, model.item_table, name="BPR", layout=LAYOUT.name
    )


def read_bpr(weights: Weights) -> BPR:
    """The factorization itself, with its user table; raises `InputError` where a tensor is missing or misshapen."""
    users, items = take_tables(weights, USER_TABLE, recbole.ITEM_TABLE)
    config = make_config(weights, BPRConfig, n_users=len(users), n_items=len(items), width=items.shape[1])
    with torch.device("meta"):
        model = BPR(config)
    model.load_state_dict({"user_table": users, "item_table": items}, strict=True, assign=True)
    return model.eval()


def take_tables(weights: Weights, user_key: str, item_key: str) -> tuple[Tensor, Tensor]:
    """Users and items, float32 (U, D) and (N, D), each without row 0, which pads."""
    width = weights.size(user_key, 1)
    _, items, _ = take_items(weights, item_key, width)
    users = weights.take(user_key, (None, width))
    if len(users) < 2:
        raise InputError(f"{weights.path}: {user_key} has 1 row; expected users beside the row that pads")
    return users[1:].clone(), items


def finish(
    checkpoint: Checkpoint,
    options: LoadOptions,
    weights: Weights,
    users: Tensor,
    items: Tensor,
    *,
    name: str,
    layout: str,
    notes: tuple[str, ...] = (),
) -> Teacher:
    """The teacher that folds its users in; `users` are their own vectors."""
    return recbole.finish(
        checkpoint,
        options,
        weights,
        gram_fold_in(items),
        name=name,
        layout=layout,
        notes=[
            *notes,
            f"users: the vectors of {len(users):,} users stay behind, a history is folded in instead",
        ],
        user_vectors=users.detach(),
    )


LAYOUT = Layout(
    name="recbole-bpr",
    matches=matches,
    knows=knows,
    load=load,
    model="BPR",
)
