"""A table of fewer dimensions: exact where nothing is lost, and the best there is where something is."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from pocketrec.compress.low_rank import LowRank, low_rank
from pocketrec.compress.models.protocol import SequenceModel
from pocketrec.compress.models.sasrec import SASRec, SASRecConfig

CONFIG = SASRecConfig(n_items=50, width=16, n_layers=1, n_heads=2, inner_widths=32, max_length=6)


@pytest.fixture
def model() -> SASRec:
    model = SASRec(CONFIG).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.empty_like(parameter).normal_(std=0.3, generator=generator)
    return model


def scores(model: SequenceModel, n: int = 4) -> torch.Tensor:
    """Of the whole catalogue for some histories: float32 (B, N)."""
    history = torch.arange(5 * n).reshape(5, n)
    with torch.no_grad():
        return model.encode(F.embedding(history, model.item_table)) @ model.item_table.T


def test_the_full_width_is_exact(model: SASRec) -> None:
    """Only turned: float32 sums in another order, of scores up to about 10."""
    assert float(scores(model).abs().max()) > 1
    for n in (1, 4, 6):
        torch.testing.assert_close(
            scores(low_rank(model, 16, seed=0), n), scores(model, n), rtol=0, atol=2e-5
        )


@pytest.mark.parametrize("rank", [1, 5, 8])
def test_a_table_of_that_rank_is_exact(model: SASRec, rank: int) -> None:
    generator = torch.Generator().manual_seed(2)
    factors = torch.randn(50, rank, generator=generator) @ torch.randn(rank, 16, generator=generator)
    model.item_table = torch.nn.Parameter(0.3 * factors)
    smaller = low_rank(model, rank, seed=0)
    assert smaller.item_table.shape == (50, rank)
    assert smaller.width == rank
    torch.testing.assert_close(scores(smaller), scores(model), rtol=0, atol=1e-4)


def test_no_table_of_that_rank_is_closer(model: SASRec) -> None:
    """Eckart and Young: the squared error is the sum of the squares of the singular values that are left out."""
    smaller = low_rank(model, 6, seed=0)
    table = model.item_table.detach()
    with torch.no_grad():
        error = (smaller.expand(smaller.item_table) - table).square().sum()
    left_out = torch.linalg.svdvals(table.double())[6:].square().sum()
    assert float(error) == pytest.approx(float(left_out), rel=1e-4)


def test_no_dimension_holds_it_all(model: SASRec) -> None:
    """Turned at random, so that one scale a row fits all of its dimensions: in the singular basis, the first would be
    longest."""
    with torch.no_grad():
        model.item_table[:, 0] += 10.0
    shares = low_rank(model, 8, seed=0).item_table.detach().square().sum(0)
    assert float(shares.max() / shares.sum()) < 0.6


def test_hidden_states_end_where_encoding_does(model: SASRec) -> None:
    smaller = low_rank(model, 8, seed=0)
    vectors = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        states = smaller.hidden_states(vectors, torch.tensor([5, 2]))
        assert states.shape == (2, 5, 8)
        torch.testing.assert_close(states[0, 4], smaller.encode(vectors[:1])[0], rtol=0, atol=5e-6)
        torch.testing.assert_close(states[1, 1], smaller.encode(vectors[1:, :2])[0], rtol=0, atol=5e-6)
        assert torch.equal(smaller(vectors), smaller.encode(vectors))


def test_it_is_a_sequence_model_without_the_old_table(model: SASRec) -> None:
    smaller = low_rank(model, 8, seed=0)
    assert isinstance(smaller, LowRank)
    assert isinstance(smaller, SequenceModel)
    assert smaller.max_length == 6
    before, after = (sum(p.numel() for p in m.parameters()) for m in (model, smaller))
    assert after - before == -50 * 8 + 2 * 16 * 8
    assert [name for name, _ in smaller.named_parameters() if name.endswith("item_table")] == ["item_table"]
    scores(smaller)
    (
        smaller.encode(F.embedding(torch.tensor([[1, 2]]), smaller.item_table)) @ smaller.item_table.T
    ).sum().backward()
    assert all(
        p.grad is not None for p in (smaller.item_table, smaller.expand.weight, smaller.project.weight)
    )


def test_the_input_is_left_alone(model: SASRec) -> None:
    before = copy.deepcopy(model.state_dict())
    smaller = low_rank(model, 8, seed=0)
    with torch.no_grad():
        for parameter in smaller.parameters():
            parameter.zero_()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_the_same_seed_gives_the_same_table(model: SASRec) -> None:
    assert torch.equal(low_rank(model, 8, seed=1).item_table, low_rank(model, 8, seed=1).item_table)
    assert not torch.allclose(low_rank(model, 8, seed=1).item_table, low_rank(model, 8, seed=2).item_table)


@pytest.mark.parametrize("width", [0, -1, 17])
def test_widths_that_there_are_not(model: SASRec, width: int) -> None:
    with pytest.raises(ValueError, match=f"low rank: width {width}, expected 1 to 16, the model's own"):
        low_rank(model, width, seed=0)
