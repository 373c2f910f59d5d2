"""RecBole's general models score as RecBole scored them, users by their own vectors, with RecBole not installed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pocketrec.benchmarks.protocols import Split
from pocketrec.benchmarks.ranking_metrics import per_user
from pocketrec.compress.checkpoint import read_checkpoint
from pocketrec.compress.fold_in import rank_vectors
from pocketrec.compress.layouts import load_ranking_teacher, load_teacher
from pocketrec.compress.layouts.recbole_lightgcn import read_lightgcn
from pocketrec.compress.layouts.weights import Weights
from pocketrec.runtime.neighbors import Neighbors

# HR@10 and NDCG@10 of RecBole's own evaluator, printed with four digits.
METRICS = {"BPR": (0.1230, 0.0670), "LightGCN": (0.0859, 0.0448), "EASE": (0.1347, 0.0706)}
TOLERANCE = 1e-4  # the same float32 numbers, summed in another order


def reference(shared: Path, name: str) -> dict[str, Any]:
    with np.load(shared / f"checkpoints/recbole/{name}-ml100k.reference.npz", allow_pickle=False) as file:
        return dict(file)


def checkpoint(shared: Path, name: str) -> Path:
    return shared / f"checkpoints/recbole/{name}-ml100k.pth"


def masked(reference: dict[str, Any]) -> Split:
    """All test users in RecBole's order, with the history that it masked: training and validation."""
    rows, items = reference["all_history_row"], reference["all_history_item"].astype(np.int64) - 1
    users = np.arange(len(reference["all_target"]))
    return Split(
        histories=[items[rows == user] for user in users],
        targets=reference["all_target"].astype(np.int64) - 1,
        users=users,
    )


def trained_on(shared: Path) -> list[np.ndarray]:
    """Item rows of each user's training part, by RecBole's split, which the file of EASE holds."""
    tensors = read_checkpoint(checkpoint(shared, "EASE")).tensors
    indptr, indices = (
        tensors[f"other_parameter.interaction_matrix.csr.{part}"].numpy() for part in ("indptr", "indices")
    )
    return [indices[a:b].astype(np.int64) - 1 for a, b in pairwise(indptr[1:])]  # user 0 pads


def figures(ranks: np.ndarray) -> tuple[float, ...]:
    return tuple(float(per_user(ranks, metric).mean()) for metric in ("hr@10", "ndcg@10"))


@pytest.mark.shared
@pytest.mark.parametrize("name", ["BPR", "LightGCN"])
def test_factorizations(shared: Path, name: str) -> None:
    teacher, expected = load_teacher(checkpoint(shared, name)), reference(shared, name)
    assert teacher.layout == f"recbole-{name.lower()}"
    assert teacher.user_vectors is not None
    users, items = teacher.user_vectors.numpy(), teacher.model.item_table.detach().numpy()
    got = users[expected["user_id"] - 1] @ items.T
    np.testing.assert_allclose(got, expected["scores"][:, 1:], rtol=0, atol=TOLERANCE)
    ranking = rank_vectors(users[expected["all_user_id"] - 1], items, masked(expected))
    assert figures(ranking.ranks) == pytest.approx(METRICS[name], abs=1e-4)


@pytest.mark.shared
def test_lightgcn_averages_over_the_graph_as_recbole_does(shared: Path) -> None:
    source = read_checkpoint(checkpoint(shared, "LightGCN"))
    model = read_lightgcn(source, Weights(source), [])
    training = trained_on(shared)
    users = np.repeat(np.arange(len(training)), [len(items) for items in training])
    with torch.no_grad():
        found = model.propagated(torch.from_numpy(users), torch.from_numpy(np.concatenate(training)))
    for kind, vectors in zip("ui", found, strict=True):
        theirs = source.tensors[f"other_parameter.restore_{'user' if kind == 'u' else 'item'}_e"][1:]
        np.testing.assert_allclose(vectors.numpy(), theirs.numpy(), rtol=0, atol=1e-5)


@pytest.mark.shared
def test_ease(shared: Path) -> None:
    teacher, expected = load_ranking_teacher(checkpoint(shared, "EASE")), reference(shared, "EASE")
    assert teacher.layout == "recbole-ease"
    model, training = teacher.model, trained_on(shared)
    assert isinstance(model, Neighbors)
    known = np.concatenate([model.users(items[None]) for items in training])
    got = model.score_all(known[expected["user_id"] - 1])
    np.testing.assert_allclose(got, expected["scores"][:, 1:], rtol=0, atol=TOLERANCE)
    weights = model.weights.lookup(np.arange(model.n_items))
    ranking = rank_vectors(known[expected["all_user_id"] - 1], weights, masked(expected))
    assert figures(ranking.ranks) == pytest.approx(METRICS["EASE"], abs=1e-4)
    assert teacher.source.weights_bytes == 4 * 1683**2
