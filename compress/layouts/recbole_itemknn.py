"""ItemKNN as RecBole 1.x saves it; what all of RecBole's files share is in `recbole`, what item-item weights do in
`recbole_ease`.

ours       theirs
weights    other_parameter.w: a SciPy sparse matrix, column i the neighbours of item i, without row and column 0
(left)     other_parameter.pred_mat, the scores of all users: a list of lists, which is not read
(left)     fake_loss
"""

from __future__ import annotations

from collections.abc import Collection

from ..checkpoint import OTHER_PARAMETER, Checkpoint
from . import recbole, recbole_ease
from .sparse_weights import sparse_kind, take_sparse
from .teacher import ItemItemTeacher, Layout, LoadOptions
from .weights import Weights

SIMILARITY = f"{OTHER_PARAMETER}.w"
_LEFT = "fake_loss"


def matches(keys: Collection[str]) -> bool:
    return sparse_kind(keys, SIMILARITY) is not None


def knows(key: str) -> bool:
    return key == _LEFT or key.startswith(f"{SIMILARITY}.")


def load(checkpoint: Checkpoint, options: LoadOptions) -> ItemItemTeacher:
    weights = Weights(checkpoint)
    recbole.check_model(checkpoint, "ItemKNN")
    recbole.refuse_heads(checkpoint, options, "ItemKNN")
    neighbors = take_sparse(weights, SIMILARITY)
    return recbole_ease.finish(
        checkpoint, options, weights, neighbors, name="ItemKNN", layout=LAYOUT.name, left=(_LEFT,)
    )


LAYOUT = Layout(
    name="recbole-itemknn",
    matches=matches,
    knows=knows,
    load=load,
)
