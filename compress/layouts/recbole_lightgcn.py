"""LightGCN as RecBole 1.x saves it; what all of RecBole's files share is in `recbole`, what a factorization does in
`recbole_bpr`.

ours                          theirs
user_table, item_table        user_embedding, item_embedding, each without row 0
`LightGCN.propagated`         other_parameter.restore_user_e, .restore_item_e, each without row 0

RecBole averages over the graph when it validates, and saves what came out: then no graph is needed. A state dict alone
has the vectors before averaging; the graph is then made from the training part of the interactions, leave-one-out, with
users and items numbered in order of first appearance.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...benchmarks.protocols import training_sequences
from ...runtime.errors import InputError
from ..checkpoint import OTHER_PARAMETER, Checkpoint
from ..models.lightgcn import LightGCN, LightGCNConfig
from . import recbole, recbole_bpr
from .assemble import make_config
from .recbole_bpr import USER_TABLE, take_tables
from .teacher import Layout, LoadOptions, Teacher
from .weights import Weights

if TYPE_CHECKING:
    from ...benchmarks.interactions import Interactions

AVERAGED = (f"{OTHER_PARAMETER}.restore_user_e", f"{OTHER_PARAMETER}.restore_item_e")
N_LAYERS = 2
"""RecBole's default of `n_layers`."""
_BASE = {USER_TABLE, recbole.ITEM_TABLE}


def matches(keys: Collection[str]) -> bool:
    return set(keys) in (_BASE, _BASE | set(AVERAGED))


def knows(key: str) -> bool:
    return key in _BASE or key in AVERAGED


def load(checkpoint: Checkpoint, options: LoadOptions) -> Teacher:
    weights = Weights(checkpoint)
    recbole.check_model(checkpoint, "LightGCN")
    recbole.refuse_heads(checkpoint, options, "LightGCN")
    notes = list[str]()
    model = read_lightgcn(checkpoint, weights, notes)
    if AVERAGED[0] in weights.unused or AVERAGED[1] in weights.unused:
        users, items = take_tables(weights, *AVERAGED)
        if (len(users), len(items)) != (model.config.n_users, model.config.n_items):
            raise InputError(
                f"{checkpoint.path}: {len(users)} users and {len(items)} items averaged over the graph, "
                f"{model.config.n_users} and {model.config.n_items} before; expected the same"
            )
        notes.append("graph: not needed, the file has the averaged vectors")
    else:
        users, items = _averaged(checkpoint, options.interactions, model)
        notes.append("graph: of the training part, leave-one-out, of the data")
    return recbole_bpr.finish(
        checkpoint, options, weights, users, items, name="LightGCN", layout=LAYOUT.name, notes=tuple(notes)
    )


def read_lightgcn(checkpoint: Checkpoint, weights: Weights, notes: list[str]) -> LightGCN:
    """The vectors before averaging; raises `InputError` where a tensor is missing or misshapen."""
    users, items = take_tables(weights, USER_TABLE, recbole.ITEM_TABLE)
    if "n_layers" not in checkpoint.settings:
        notes.append(f"layers: {N_LAYERS} assumed (RecBole's default), the file does not say")
    config = make_config(
        weights,
        LightGCNConfig,
        n_users=len(users),
        n_items=len(items),
        width=items.shape[1],
        n_layers=recbole.setting(checkpoint, "n_layers", int, N_LAYERS),
    )
    with torch.device("meta"):
        model = LightGCN(config)
    model.load_state_dict({"user_table": users, "item_table": items}, strict=True, assign=True)
    return model.eval()


def _averaged(
    checkpoint: Checkpoint, interactions: Interactions | None, model: LightGCN
) -> tuple[Tensor, Tensor]:
    config = model.config
    if interactions is None:
        raise InputError(
            f"{checkpoint.path}: has LightGCN's vectors before they are averaged over the graph of interactions; "
            "give the .inter file that it was trained on"
        )
    if (interactions.n_users, interactions.n_items) != (config.n_users, config.n_items):
        raise InputError(
            f"{checkpoint.path}: {config.n_users} users and {config.n_items} items, the data have "
            f"{interactions.n_users} and {interactions.n_items}; expected the very .inter file it was trained on"
        )
    training = training_sequences(interactions.sequences())
    users = np.repeat(np.arange(len(training)), [len(sequence) for sequence in training])
    with torch.no_grad():
        return model.propagated(torch.from_numpy(users), torch.from_numpy(np.concatenate(training)))


LAYOUT = Layout(
    name="recbole-lightgcn",
    matches=matches,
    knows=knows,
    load=load,
    model="LightGCN",
)
