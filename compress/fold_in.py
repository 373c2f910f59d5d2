"""Solve for a fold-in against the user vectors of a checkpoint, and say what folding in costs.

    x_u  = sum over u's training items of their vectors / n ** power,  and 1 for the bias          (D + 1,)
    W    = argmin sum over users |x_u W - own vector of u|^2 + ridge * mean variance of x * |W|^2    in closed form

The power and the ridge are chosen by NDCG@10 on the validation items, each user folded in by a W that was solved
without that user (`FOLDS` folds): what is chosen is what serves a user whom the checkpoint has never seen. W is then
solved on all users. Without own vectors that belong to the data's users there is `gram_fold_in`, which asks of the item
table alone: the vector whose scores are nearest to 1 for the history's items, the others counted as unknown zeros
(implicit least squares with one weight, Hu et al. 2008, "Collaborative Filtering for Implicit Feedback Datasets", eq. 4).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..benchmarks.evaluate import Ranking, count_ranks, top_lists
from ..benchmarks.protocols import Split
from ..benchmarks.ranking_metrics import per_user
from .models.fold_in import FoldIn, FoldInConfig

Floats = NDArray[np.float32]

POWERS = (0.0, 0.5, 1.0)
"""0.5 is best on ML-100K, for BPR by a tenth of NDCG@10 over sums and over means; for LightGCN they are alike."""
RIDGES = (1e-3, 1e-2, 1e-1)
FOLDS = 5
GRAM_RIDGE = 1.0
"""In mean eigenvalues of the Gram matrix. On ML-100K .001 to 10 keep 66% to 97% of BPR's NDCG@10, 1 keeps 96%."""
_USERS_AT_ONCE = 512


def gram_fold_in(item_table: Tensor, *, power: float = 0.5) -> FoldIn:
    """The fold-in that the item table, float32 (N, D), gives by itself: dense = (G + ridge I)^-1, G its Gram matrix.

    Example:
        >>> model = gram_fold_in(torch.eye(4, 3))
        >>> (model.encode(model.item_table[torch.tensor([[1]])]) @ model.item_table.T).argmax().item()
        1
    """
    item_table, width = item_table.detach(), item_table.shape[1]
    gram = item_table.T @ item_table
    ridge = max(float(gram.trace()) / width * GRAM_RIDGE, 1e-12)
    weight = torch.linalg.inv(gram / ridge + torch.eye(width))
    return _made(item_table, weight, torch.zeros(width), power)


def fit_fold_in(
    users: Tensor, item_table: Tensor, validation: Split, *, keep_repeats: bool = False
) -> tuple[FoldIn, dict[str, Any]]:
    """The fold-in that is nearest to the users' own vectors.

    Args:
        users: float32 (U, D), a row for each of the sequences that `validation.users` counts.
        item_table: float32 (N, D), kept as it is.
        validation: its histories are what the users' vectors were trained on.
        keep_repeats: items of the history stay candidates.

    Returns:
        The model, and what was chosen: power, ridge, NDCG@10 of users folded in by others, and the share of the
        variance of the users' own vectors that is explained.
    """
    table = item_table.detach().numpy()
    own = users.detach().numpy()[validation.users].astype(np.float64)
    fold = np.arange(len(own)) % FOLDS
    best, chosen = -1.0, (POWERS[0], RIDGES[0])
    for power in POWERS:
        features = _features(table, validation.histories, power)
        for ridge in RIDGES:
            folded = np.empty(own.shape, np.float32)
            for n in range(FOLDS):
                left, held = fold != n, fold == n
                folded[held] = features[held] @ _solve(features[left], own[left], ridge)
            found = _ndcg10(rank_vectors(folded, table, validation, keep_repeats=keep_repeats))
            if found > best:
                best, chosen = found, (power, ridge)
    power, ridge = chosen
    features = _features(table, validation.histories, power)
    solved = _solve(features, own, ridge)
    unexplained = float(np.square(features @ solved - own).sum() / np.square(own - own.mean(0)).sum())
    weights = torch.from_numpy(solved.astype(np.float32))
    model = _made(item_table, weights[:-1].T.contiguous(), weights[-1].clone(), power)
    detail = {"power": power, "ridge": ridge, "ndcg10_of_unseen_users": best, "explained": 1 - unexplained}
    return model, detail


def rank_vectors(
    users: Floats, item_table: Floats, split: Split, *, keep_repeats: bool = False, n_top: int = 0
) -> Ranking:
    """Rank the targets with a vector for each user of the split: float32 (U, D), (N, D).

    As `evaluate_ranks` does for who scores by histories.
    """
    began = time.perf_counter()
    ranks = np.empty(len(split), np.int64)
    top_rows = np.full((len(split), n_top), -1, np.int32)
    repeated = 0
    for start in range(0, len(split), _USERS_AT_ONCE):
        block = slice(start, start + _USERS_AT_ONCE)
        scores = users[block] @ item_table.T
        masked = [] if keep_repeats else [np.unique(history) for history in split.histories[block]]
        ranks[block], misses = count_ranks(scores, split.targets[block], masked)
        repeated += misses
        if n_top:
            top_rows[block] = top_lists(scores, masked, n_top)
    return Ranking(ranks, top_rows, len(item_table), repeated, time.perf_counter() - began)


def _features(table: Floats, histories: Sequence[NDArray[np.int64]], power: float) -> NDArray[np.float64]:
    """float64 (U, D + 1), the last column 1."""
    features = np.ones((len(histories), table.shape[1] + 1))
    for u, history in enumerate(histories):
        features[u, :-1] = table[history].sum(0) / len(history) ** power
    return features


def _solve(features: NDArray[np.float64], own: NDArray[np.float64], ridge: float) -> NDArray[np.float64]:
    """(U, D + 1), (U, D) -> (D + 1, D); the bias is not shrunk."""
    gram = features.T @ features
    shrink = np.full(len(gram), max(ridge * np.trace(gram[:-1, :-1]) / (len(gram) - 1), 1e-12))
    shrink[-1] = 0.0
    return np.linalg.solve(gram + np.diag(shrink), features.T @ own).astype(np.float64, copy=False)


def _made(item_table: Tensor, weight: Tensor, bias: Tensor, power: float) -> FoldIn:
    n_items, width = item_table.shape
    with torch.device("meta"):
        model = FoldIn(FoldInConfig(n_items=n_items, width=width, power=power))
    state = {"item_table": item_table.detach().clone(), "dense.weight": weight, "dense.bias": bias}
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval()


def _ndcg10(ranking: Ranking) -> float:
    return float(per_user(ranking.ranks, "ndcg@10").mean())
