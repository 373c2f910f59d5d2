"""GRU4Rec as ICSRec saves it: a plain state dict in S3-Rec's naming (Qin et al., arXiv:2310.14318).

History is left-padded with row 0, whose vector is not zero, up to the longest history: the pads move the state, so they
are part of the model (without them the published .0437 NDCG@10 on Beauty are .0376). The item table has a padding row 0 and a mask row at the end: the items are 1 to N, and the ids are these
numbers unless the user knows better. The longest history is in no weight: 50, its default.
"""

from __future__ import annotations

from collections.abc import Collection

from ...runtime.item_ids import ItemIds
from ..checkpoint import Checkpoint
from . import recbole
from .gru4rec_keys import is_recurrent, read_gru4rec
from .gru4rec_keys import knows as knows_gru
from .teacher import Layout, LoadOptions, Teacher
from .weights import Weights

ITEM_TABLE = "item_embeddings.weight"
MAX_LENGTH = 50


def matches(keys: Collection[str]) -> bool:
    return ITEM_TABLE in keys and any(map(is_recurrent, keys))


def knows(key: str) -> bool:
    return key == ITEM_TABLE or knows_gru(key)


def load(checkpoint: Checkpoint, options: LoadOptions) -> Teacher:
    weights = Weights(checkpoint)
    recbole.refuse_heads(checkpoint, options, "GRU4Rec")
    model = read_gru4rec(
        weights, ITEM_TABLE, rows_after=1, max_length=MAX_LENGTH, dropout=0.5, left_padding=True
    )
    notes = [f"longest history: {MAX_LENGTH} assumed (ICSRec's default), the file does not say"]
    item_ids = options.item_ids
    if item_ids is None:
        item_ids = ItemIds.from_sequence(range(1, len(model.item_table) + 1))
        notes.append(f"item ids: 1 to {len(item_ids)} assumed, the file does not say")
    if weights.unused:
        notes.append(f"left out, no part of the encoder: {', '.join(weights.unused)}")
    return Teacher(model=model, item_ids=item_ids, layout=LAYOUT.name, source=checkpoint, notes=tuple(notes))


LAYOUT = Layout(
    name="icsrec-gru4rec",
    matches=matches,
    knows=knows,
    load=load,
)
