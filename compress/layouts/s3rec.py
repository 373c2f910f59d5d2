"""S3-Rec's naming, which ICLRec, ICSRec and many others of its line keep (Zhou et al., arXiv:2008.07873).

A plain state dict. Layers and widths are read from shapes; the number of heads is in no shape: 2 by convention.
History is left-padded, so the last item takes the last position row. The item table has a padding row 0 and a mask
row at the end: the items are 1 to N, and the ids are these numbers unless the user knows better. Tensors of training
heads that are not the encoder's are left out.
"""

from __future__ import annotations

from ...runtime.item_ids import ItemIds
from ..checkpoint import Checkpoint
from .post_norm_sasrec import Facts, Naming, read_post_norm_sasrec
from .teacher import Layout, LoadOptions, Teacher
from .weights import Weights

CONVENTIONAL_HEADS = 2
"""In the papers of S3-Rec, ICLRec and ICSRec, and in their repositories' defaults."""

NAMING = Naming(
    items="item_embeddings.weight",
    positions="position_embeddings.weight",
    layers="item_encoder.layer",
    attention="attention",
    feed_forward="intermediate",
)


def load(checkpoint: Checkpoint, options: LoadOptions) -> Teacher:
    weights = Weights(checkpoint)
    notes: list[str] = []
    n_heads = options.n_heads
    if n_heads is None:
        n_heads = CONVENTIONAL_HEADS
        notes.append(f"heads: {n_heads} assumed (the convention), the file does not say")
    facts = Facts(n_heads=n_heads, positions="end")
    model = read_post_norm_sasrec(weights, NAMING, facts, rows_before=1, rows_after=1)
    item_ids = options.item_ids
    if item_ids is None:
        item_ids = ItemIds.from_sequence(range(1, model.config.n_items + 1))
        notes.append(f"item ids: 1 to {len(item_ids)} assumed, the file does not say")
    if weights.unused:
        notes.append(f"left out, no part of the encoder: {', '.join(weights.unused)}")
    return Teacher(model=model, item_ids=item_ids, layout=LAYOUT.name, source=checkpoint, notes=tuple(notes))


LAYOUT = Layout(
    name="s3-rec",
    matches=NAMING.matches,
    knows=NAMING.knows,
    load=load,
)
