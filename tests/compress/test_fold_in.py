"""Folding in: what is solved for is found, unseen users are what it is chosen by, and its price is told."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from pocketrec.benchmarks.protocols import leave_one_out
from pocketrec.compress.fold_in import fit_fold_in, gram_fold_in, rank_vectors
from pocketrec.compress.models.fold_in import FoldIn, FoldInConfig
from pocketrec.compress.own_users import fold_users_in
from pocketrec.compress.report import Measure

N_ITEMS, WIDTH, N_USERS = 60, 6, 200


@pytest.fixture
def world() -> tuple[torch.Tensor, list[np.ndarray], FoldIn]:
    """Users whose own vectors are a fold-in of what they had met before the last two items."""
    generator = torch.Generator().manual_seed(0)
    random = np.random.default_rng(0)
    table = torch.randn(N_ITEMS, WIDTH, generator=generator)
    true = FoldIn(FoldInConfig(n_items=N_ITEMS, width=WIDTH, power=0.5)).eval()
    with torch.no_grad():
        true.item_table.copy_(table)
        true.dense.weight.copy_(torch.randn(WIDTH, WIDTH, generator=generator))
        true.dense.bias.copy_(torch.randn(WIDTH, generator=generator))
    sequences = [random.permutation(N_ITEMS)[: random.integers(4, 30)] for _ in range(N_USERS)]
    return table, sequences, true


def own_vectors(true: FoldIn, sequences: list[np.ndarray]) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([true.encode(true.item_table[torch.from_numpy(s[:-2])][None]) for s in sequences])


def chosen_next(true: FoldIn, sequences: list[np.ndarray]) -> list[np.ndarray]:
    """The same users, whose validation item is the best that is left for their vector."""
    users = own_vectors(true, sequences)
    scores = (users @ true.item_table.T).detach()
    found = []
    for sequence, score in zip(sequences, scores, strict=True):
        score[torch.from_numpy(sequence[:-2])] = -torch.inf
        best = score.topk(2).indices.numpy()
        found.append(np.concatenate([sequence[:-2], best]))
    return found


def test_a_linear_map_is_found_again(world: Any) -> None:
    table, sequences, true = world
    sequences = chosen_next(true, sequences)
    users, validation = own_vectors(true, sequences), leave_one_out(sequences, stage="validation")
    model, detail = fit_fold_in(users, table, validation)
    assert detail["power"] == 0.5
    assert detail["explained"] > 0.999
    assert detail["ndcg10_of_unseen_users"] > 0.95  # the validation item is the best for the true vector
    assert torch.equal(model.item_table, table)
    history = torch.from_numpy(sequences[0][:-2])[None]
    torch.testing.assert_close(
        model.encode(table[history]), true.encode(table[history]), rtol=0.05, atol=0.05
    )


def test_users_are_folded_in_by_others(world: Any) -> None:
    """Own vectors that have nothing to do with the history are explained a little by chance, and predict nobody."""
    table, sequences, true = world
    sequences = chosen_next(true, sequences)
    noise = torch.randn(N_USERS, WIDTH, generator=torch.Generator().manual_seed(1))
    _, detail = fit_fold_in(noise, table, leave_one_out(sequences, stage="validation"))
    assert detail["explained"] < 0.2
    assert detail["ndcg10_of_unseen_users"] < 0.5


def test_the_item_table_alone_ranks_what_is_near(world: Any) -> None:
    table, _, _ = world
    model = gram_fold_in(table)
    scores = model.encode(table[torch.tensor([[3]])]) @ table.T
    gram = table @ torch.linalg.inv(table.T @ table + torch.eye(WIDTH) * (table.square().sum() / WIDTH))
    expected = gram @ table[3]
    torch.testing.assert_close(scores[0] / scores.norm(), expected / expected.norm(), rtol=1e-4, atol=1e-5)


def test_ranks_are_those_of_the_evaluator(world: Any) -> None:
    table, sequences, true = world
    split = leave_one_out(sequences, stage="validation")
    ranking = rank_vectors(own_vectors(true, sequences).numpy(), table.numpy(), split, n_top=5)
    user = 7
    scores = (own_vectors(true, sequences)[user] @ table.T).numpy()
    scores[sequences[user][:-2]] = -np.inf
    assert ranking.ranks[user] == 1 + (scores > scores[sequences[user][-2]]).sum()
    assert ranking.top_rows[user].tolist() == np.argsort(-scores)[:5].tolist()


def teacher(table: torch.Tensor, users: torch.Tensor | None) -> Any:
    @dataclasses.dataclass(frozen=True)
    class Stub:
        model: Any
        user_vectors: torch.Tensor | None
        notes: tuple[str, ...] = ()

    return Stub(gram_fold_in(table), users)


def test_the_price_is_told(world: Any) -> None:
    table, sequences, true = world
    users = own_vectors(true, sequences)
    validation, test = (leave_one_out(sequences, stage=s) for s in ("validation", "test"))
    given = teacher(table, users)
    folded, own = fold_users_in(given, sequences, validation, keep_repeats=False)
    assert folded.model is not given.model
    assert own is not None
    measure = Measure(size_bytes=1000, parameters=10, ndcg10=0.5)
    step = own.step(validation, measure)
    assert step.before.parameters == N_USERS * WIDTH + N_ITEMS * WIDTH
    assert step.after is measure
    ranking = own.rank(test, n_top=10)
    found = own.metrics(test, folded=ranking, ours=ranking, seed=0)["own_users"]
    assert found["folded_kept"]["metrics"]["ndcg@10"]["ratio"]["value"] == pytest.approx(1.0)


def test_users_that_are_not_the_datas(world: Any) -> None:
    table, sequences, true = world
    validation = leave_one_out(sequences, stage="validation")
    given = teacher(table, own_vectors(true, sequences)[:-1])
    kept, own = fold_users_in(given, sequences, validation, keep_repeats=False)
    assert kept.model is given.model
    assert own is None
    assert "users: 199 in the checkpoint, 200 in the data" in kept.notes[-1]
    without = teacher(table, None)
    assert fold_users_in(without, sequences, validation, keep_repeats=False) == (without, None)


def test_lightgcn_needs_a_graph(tmp_path: Any) -> None:
    from pocketrec.compress.layouts import load_teacher
    from pocketrec.runtime.errors import InputError

    from .hostile_checkpoints import saved
    from .layout_checkpoints import FACTORS, RECORDED
    from .layout_checkpoints import N_ITEMS as ITEMS
    from .layout_checkpoints import N_USERS as USERS

    made = RECORDED["recbole-lightgcn"].state_dict()
    path = tmp_path / "model.pth"
    path.write_bytes(saved(RECORDED["recbole-lightgcn"].file({key: made[key] for key in FACTORS})))
    with pytest.raises(InputError, match=r"give the \.inter file that it was trained on"):
        load_teacher(path)
    random = np.random.default_rng(0)
    sequences = [random.permutation(ITEMS)[:5] for _ in range(USERS)]
    data = cast(
        Any,
        SimpleNamespace(
            item_ids=list(range(ITEMS)), n_items=ITEMS, n_users=USERS, sequences=lambda: sequences
        ),
    )
    averaged = load_teacher(path, interactions=data)
    base = made["item_embedding.weight"][1:]
    assert not torch.allclose(averaged.model.item_table, base)
    unmet = [row for row in range(ITEMS) if not any(row in s[:-2] for s in sequences)]
    torch.testing.assert_close(averaged.model.item_table[unmet], base[unmet] / 4)  # 3 layers add nothing
    data.n_users -= 1
    with pytest.raises(InputError, match="40 users and 30 items, the data have 39 and 30"):
        load_teacher(path, interactions=data)
