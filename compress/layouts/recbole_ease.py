"""EASE as RecBole 1.x saves it, and SLIMElastic, which it saves alike; what all of RecBole's files share is in `recbole`.

ours                theirs
weights             other_parameter.item_similarity, transposed, without row and column 0: EASE has a NumPy matrix,
                    SLIMElastic a SciPy sparse matrix by columns or rows
(left)              other_parameter.interaction_matrix: whom the weights were solved for
(left)              dummy_param, which is there because an optimizer wants one

RecBole scores a user of the training part by the user's row of the interaction matrix times the similarities; a device does
the same with the history.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np

from ...runtime.errors import InputError
from ...runtime.item_table import FloatRows
from ...runtime.neighbors import Neighbors
from ..checkpoint import OTHER_PARAMETER, Checkpoint
from . import recbole
from .sparse_weights import PARTS, sparse_kind, take_sparse
from .teacher import ItemItemTeacher, Layout, LoadOptions
from .weights import Weights

SIMILARITY = f"{OTHER_PARAMETER}.item_similarity"
_LEFT = ("dummy_param", *(f"{OTHER_PARAMETER}.interaction_matrix.csr.{part}" for part in PARTS))


def matches(keys: Collection[str]) -> bool:
    return SIMILARITY in keys or sparse_kind(keys, SIMILARITY) is not None


def knows(key: str) -> bool:
    return key in _LEFT or key == SIMILARITY or key.startswith(f"{SIMILARITY}.")


def load(checkpoint: Checkpoint, options: LoadOptions) -> ItemItemTeacher:
    weights = Weights(checkpoint)
    is_dense = SIMILARITY in checkpoint.tensors
    name = "EASE" if is_dense else "SLIMElastic"
    recbole.check_model(checkpoint, name)
    recbole.refuse_heads(checkpoint, options, name)
    neighbors = read_dense(weights) if is_dense else take_sparse(weights, SIMILARITY)
    return finish(checkpoint, options, weights, neighbors, name=name, layout=LAYOUT.name)


def read_dense(weights: Weights) -> Neighbors:
    """All items are neighbours; raises `InputError` where the matrix is missing, not square, or of padding alone."""
    n_rows = weights.size(SIMILARITY, 0)
    matrix = weights.take(SIMILARITY, (n_rows, n_rows))
    if n_rows < 2:
        raise InputError(f"{weights.path}: {SIMILARITY} has 1 row; expected items beside the row that pads")
    return Neighbors(None, FloatRows(np.ascontiguousarray(matrix.numpy()[1:, 1:].T)))


def finish(
    checkpoint: Checkpoint,
    options: LoadOptions,
    weights: Weights,
    neighbors: Neighbors,
    *,
    name: str,
    layout: str,
    left: Collection[str] = _LEFT,
) -> ItemItemTeacher:
    """The teacher, with the user's item ids; raises `InputError` where tensors are over that are not to be `left`."""
    weights.leave(*left)
    recbole.refuse_leftovers(weights, name)
    notes = list[str]()
    item_ids = recbole.item_ids_of(options, neighbors.n_items, notes)
    used = {key: tensor for key, tensor in checkpoint.tensors.items() if key not in left}
    tensors = {key.removeprefix(f"{OTHER_PARAMETER}."): tensor for key, tensor in used.items()}
    return ItemItemTeacher(
        model=neighbors,
        item_ids=item_ids,
        layout=layout,
        source=dataclasses.replace(checkpoint, tensors=tensors),
        notes=tuple(notes),
    )


LAYOUT = Layout(
    name="recbole-ease",
    matches=matches,
    knows=knows,
    load=load,
)
