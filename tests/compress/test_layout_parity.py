"""Real checkpoints score as published, or as their framework scored them, with the framework not installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pocketrec.benchmarks.evaluate import evaluate_ranks
from pocketrec.benchmarks.interactions import map_items, read_interactions
from pocketrec.benchmarks.protocols import leave_one_out
from pocketrec.benchmarks.ranking_metrics import per_user
from pocketrec.compress.layouts import load_teacher
from pocketrec.compress.meter import TorchScorer
from pocketrec.compress.models.bert4rec import BERT4RecConfig
from pocketrec.compress.models.caser import CaserConfig
from pocketrec.compress.models.gru4rec import GRU4RecConfig
from pocketrec.compress.models.lightsans import LightSANsConfig
from pocketrec.compress.models.narm import NARMConfig

CONFIGS: dict[str, Any] = {
    "GRU4Rec": GRU4RecConfig(n_items=1682, width=64, hidden_width=64, max_length=50, dropout=0.3),
    "BERT4Rec": BERT4RecConfig(n_items=1682, width=64, n_layers=2, n_heads=2, inner_width=256, dropout=0.2),
    "NARM": NARMConfig(n_items=1682, width=64, hidden_width=64, dropout=0.25, output_dropout=0.5),
    "LightSANs": LightSANsConfig(
        n_items=1682, width=64, n_layers=2, n_heads=2, n_interests=5, inner_width=256, dropout=0.2
    ),
}
# HR@10 and NDCG@10 of RecBole's own evaluator, on the inputs that it built (it breaks ties of time in its own way).
METRICS = {
    "GRU4Rec": (0.0976, 0.0482),
    "BERT4Rec": (0.0785, 0.0394),
    "NARM": (0.0477, 0.0197),
    "LightSANs": (0.0339, 0.0156),
}
# RecBole ran the same float32 weights; scores reach 17, and sums in another order differ in the 6th digit.
TOLERANCE = 1e-4


def scores(model: Any, history: torch.Tensor) -> torch.Tensor:
    """int64 (n,) -> float32 (N,)."""
    found = model.encode(model.item_table[history][None])[0] @ model.item_table.T
    return found if model.item_bias is None else found + model.item_bias


@pytest.mark.shared
@pytest.mark.parametrize("name", CONFIGS)
def test_recboles_own_scores(shared: Path, name: str) -> None:
    folder = shared / "checkpoints" / "recbole"
    teacher = load_teacher(folder / f"{name}-ml100k.pth")
    assert teacher.layout == f"recbole-{name.lower()}"
    assert teacher.model.config == CONFIGS[name]
    with np.load(folder / f"{name}-ml100k.reference.npz", allow_pickle=False) as file:
        reference = dict(file)
    lists = torch.from_numpy(reference["item_id_list"].astype(np.int64)) - 1
    with torch.inference_mode():
        for b, n in enumerate(reference["item_length"].tolist()):
            got = scores(teacher.model, lists[b, :n])
            np.testing.assert_allclose(got, reference["scores"][b, 1:], rtol=0, atol=TOLERANCE)


@pytest.mark.shared
@pytest.mark.parametrize("name", METRICS)
def test_recboles_own_figures(shared: Path, name: str) -> None:
    folder = shared / "checkpoints" / "recbole"
    model = load_teacher(folder / f"{name}-ml100k.pth").model
    with np.load(folder / f"{name}-ml100k.reference.npz", allow_pickle=False) as file:
        reference = dict(file)
    scorer, lengths = TorchScorer(model), reference["all_item_length"]
    ranks = np.empty(len(lengths), np.int64)
    for n in np.unique(lengths):
        of_length = np.flatnonzero(lengths == n)
        found = scorer(reference["all_item_id_list"][of_length, :n].astype(np.int64) - 1)
        targets = reference["all_target"][of_length].astype(np.int64) - 1
        ranks[of_length] = (found >= found[np.arange(len(targets)), targets][:, None]).sum(1)
    got = tuple(float(per_user(ranks, metric).mean()) for metric in ("hr@10", "ndcg@10"))
    assert got == pytest.approx(METRICS[name], abs=1e-4)  # they are printed with four digits


@pytest.mark.shared
def test_casers_scores_with_the_vectors_of_its_users(shared: Path) -> None:
    """RecBole scores each user with a vector of their own, which does not ship: given, the scores are the same."""
    folder = shared / "checkpoints" / "recbole"
    teacher = load_teacher(folder / "Caser-ml100k.pth")
    model: Any = teacher.model
    assert teacher.layout == "recbole-caser"
    assert model.config == CaserConfig(n_items=1682, width=64, n_vertical=4, n_horizontal=8, max_length=10)
    with np.load(folder / "Caser-ml100k.reference.npz", allow_pickle=False) as file:
        reference = dict(file)
    users = teacher.source.tensors["user_embedding.weight"]
    assert torch.equal(model.user, users[1:].mean(0))
    assert (reference["item_length"] == 10).all()
    with torch.inference_mode():
        history = torch.from_numpy(reference["item_id_list"].astype(np.int64)) - 1
        of_each = users[torch.from_numpy(reference["user_id"].astype(np.int64))]
        got = model.encode(model.item_table[history], of_each) @ model.item_table.T
        np.testing.assert_allclose(got, reference["scores"][:, 1:], rtol=0, atol=TOLERANCE)


# A published figure where there is one, else what an independent forward pass measured; full ranking, test items.
FIGURES = {
    "icsrec-gru4rec": (
        "icsrec-gru4rec-beauty.pt",
        "beauty/Beauty.txt",
        0.0739,
        0.0437,
    ),  # published .0740, .0437
    "pmixer-sasrec": ("pmixer-sasrec-ml1m.pth", "ml-1m/ml-1m.txt", 0.2460, 0.1321),
}


@pytest.mark.shared
@pytest.mark.parametrize("layout", FIGURES)
def test_figures_on_the_data_it_was_trained_on(shared: Path, layout: str) -> None:
    checkpoint, file, hr, ndcg = FIGURES[layout]
    teacher = load_teacher(shared / "checkpoints" / checkpoint)
    assert teacher.layout == layout
    sequences = map_items(read_interactions(shared / "data" / file), teacher.item_ids).sequences
    ranking = evaluate_ranks(TorchScorer(teacher.model), leave_one_out(sequences, stage="test"), n_top=0)
    got = tuple(float(per_user(ranking.ranks, metric).mean()) for metric in ("hr@10", "ndcg@10"))
    assert got == pytest.approx((hr, ndcg), abs=0.0005)
