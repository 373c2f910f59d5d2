"""SASRec as RecBole 1.x saves it; what all of RecBole's files share is in `recbole`.

Heads, eps and activation come from the settings. History is right-padded, so the first item takes position row 0.
"""

from __future__ import annotations

from collections.abc import Collection

from ..checkpoint import Checkpoint
from . import recbole
from .post_norm_sasrec import Facts, Naming, read_post_norm_sasrec
from .teacher import Layout, LoadOptions, Teacher
from .weights import Weights

NAMING = Naming(
    items=recbole.ITEM_TABLE,
    positions="position_embedding.weight",
    layers="trm_encoder.layer",
    attention="multi_head_attention",
    feed_forward="feed_forward",
)


def matches(keys: Collection[str]) -> bool:
    """BERT4Rec, SASRecF and others have these keys and more: one that is not SASRec's makes it another model."""
    return NAMING.matches(keys) and all(map(NAMING.knows, keys))


def load(checkpoint: Checkpoint, options: LoadOptions) -> Teacher:
    weights = Weights(checkpoint)
    notes: list[str] = []
    facts = _facts(checkpoint, options, notes)
    model = read_post_norm_sasrec(weights, NAMING, facts, rows_before=1, rows_after=0)
    return recbole.finish(checkpoint, options, weights, model, name="SASRec", layout=LAYOUT.name, notes=notes)


def _facts(checkpoint: Checkpoint, options: LoadOptions, notes: list[str]) -> Facts:
    recbole.check_model(checkpoint, "SASRec")
    return Facts(
        n_heads=recbole.heads(checkpoint, options, notes),
        positions="start",
        activation=recbole.activation(checkpoint),
        eps=recbole.setting(checkpoint, "layer_norm_eps", float, 1e-12),
        dropout=recbole.setting(checkpoint, "hidden_dropout_prob", float, 0.5),
    )


LAYOUT = Layout(
    name="recbole-sasrec",
    matches=matches,
    knows=NAMING.knows,
    load=load,
)
