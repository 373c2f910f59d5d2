"""Pruning of every family: planted useless units are the ones that go, and what stays computes the same, only smaller."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pocketrec.compress.item_bias import fold_item_bias
from pocketrec.compress.low_rank import low_rank
from pocketrec.compress.models.protocol import SequenceModel
from pocketrec.compress.models.sasrec import MergedHead, SASRec, SASRecConfig, with_merged_heads
from pocketrec.compress.prune import PruneConfig, can_prune, innermost, prune
from pocketrec.compress.prune_units import importance, keep_units, unit_groups

from .models.families import FAMILIES, MAX_LENGTH, N_ITEMS, WIDTH, lively

HALF = PruneConfig(keep_heads=0.5, keep_inner=0.5, keep_hidden=0.5, keep_kernels=0.5, inner_multiple=1)
NOTHING_TO_CUT = ("fold-in",)
"""A matrix and a bias."""
WRITTEN_DOWN = [family for family in FAMILIES if unit_groups(FAMILIES[family](0))]


@pytest.fixture(scope="module")
def sequences() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, N_ITEMS, n) for n in random.integers(2, 10, 40)]


def encoded(model: Any) -> torch.Tensor:
    """User vectors of histories of every length."""
    with torch.no_grad():
        histories = [torch.arange(2 * n).reshape(2, n) for n in range(1, MAX_LENGTH + 1)]
        return torch.cat([model.encode(F.embedding(history, model.item_table)) for history in histories])


def plant_useless_(model: Any) -> dict[str, list[int]]:
    """Every other unit is read by nobody; returns those that are read, by group."""
    useful: dict[str, list[int]] = {}
    with torch.no_grad():
        for group in unit_groups(model):
            useless = list(range(0, group.n_units, 2))[: group.n_units // 2]
            useful[group.name] = sorted(set(range(group.n_units)) - set(useless))
            for part in group.parts:
                if part.axis == 1 or part.parameter.endswith("theta"):
                    rows = part.rows[useless].flatten()
                    model.get_parameter(part.parameter).index_fill_(part.axis, rows, 0)
    return useful


@pytest.mark.parametrize("family", WRITTEN_DOWN)
def test_what_is_useless_is_what_goes(family: str, sequences: list[np.ndarray]) -> None:
    """So nothing changes, to rounding: float32 sums over fewer zeros of values near 1."""
    model = lively(family)
    useful = plant_useless_(model)
    smaller, _ = prune(model, sequences, HALF, seed=0)
    torch.testing.assert_close(encoded(smaller), encoded(model), rtol=0, atol=5e-6)
    expected = keep_units(model, useful)
    for (name, ours), theirs in zip(smaller.named_parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in NOTHING_TO_CUT])
def test_every_family_gets_smaller_and_keeps_its_contract(family: str, sequences: list[np.ndarray]) -> None:
    model = lively(family)
    assert can_prune(model)
    smaller, detail = prune(model, sequences, HALF, seed=0)
    assert isinstance(smaller, SequenceModel)
    assert detail
    sizes = [sum(p.numel() for p in m.parameters()) for m in (smaller, model)]
    assert sizes[0] < sizes[1]
    assert smaller.item_table.shape == (N_ITEMS, WIDTH)
    assert not torch.allclose(encoded(smaller), encoded(model), atol=1e-3)  # what goes here is not useless
    assert {p.grad is None for p in (*model.parameters(), *smaller.parameters())} == {True}
    rebuilt = type(smaller)(smaller.config)  # what the config says is what the weights are
    rebuilt.load_state_dict(smaller.state_dict())
    torch.testing.assert_close(encoded(rebuilt.eval()), encoded(smaller), rtol=0, atol=0)
    vectors = torch.randn(3, MAX_LENGTH, WIDTH, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        states = smaller.hidden_states(vectors, torch.tensor([MAX_LENGTH, 1, 4]))
        for row, n in enumerate((MAX_LENGTH, 1, 4)):
            alone = smaller.encode(vectors[row : row + 1, :n])[0]
            torch.testing.assert_close(states[row, n - 1], alone, rtol=0, atol=5e-6)


@pytest.mark.parametrize("family", WRITTEN_DOWN)
def test_every_part_of_a_unit_counts(family: str) -> None:
    """A unit's importance is the sum over all of its parts, in whatever parameter they lie."""
    model = lively(family)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    for group in unit_groups(model):
        before = importance(model, group)
        for part in group.parts:
            rows = part.rows[0]
            with torch.no_grad():
                model.get_parameter(part.parameter).index_fill_(part.axis, rows, 0)
            after = importance(model, group)
            assert after[0] < before[0], (group.name, part.parameter)
            before = after
        assert before[0] == 0
        assert (before[1:] > 0).all()


def test_a_model_with_something_around_it(sequences: list[np.ndarray]) -> None:
    for family in ("bert4rec", "gru4rec"):
        wrapped = low_rank(fold_item_bias(lively(family)), 6, seed=0)
        smaller, _ = prune(wrapped, sequences, HALF, seed=0)
        assert type(smaller) is type(wrapped)
        assert type(innermost(smaller)) is type(innermost(wrapped))
        assert smaller.config != wrapped.config
        assert encoded(smaller).shape == (12, 6)


def test_an_architecture_that_nobody_wrote_down() -> None:
    class Mean(torch.nn.Module):
        pass

    for family in NOTHING_TO_CUT:
        assert not can_prune(FAMILIES[family](0))
    assert unit_groups(Mean()) == ()
    assert not can_prune(Mean())  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["sasrec", "bert4rec", "pmixer, two heads"])
def test_one_head_that_stays_is_exported_with_its_matrices_multiplied(
    family: str, sequences: list[np.ndarray]
) -> None:
    """The same function in half the products: float32 sums in another order, of values near 1."""
    smaller, _ = prune(fold_item_bias(lively(family)), sequences, HALF, seed=0)
    exported = with_merged_heads(smaller)
    assert sum(isinstance(module, MergedHead) for module in exported.modules()) == 2
    assert not any(isinstance(module, MergedHead) for module in smaller.modules())
    torch.testing.assert_close(encoded(exported), encoded(smaller), rtol=0, atol=5e-6)
    whole = lively(family)
    assert with_merged_heads(whole) is whole  # two heads stay two


def test_one_head_of_the_whole_width_is_exported_with_half_its_matrices() -> None:
    whole = SASRec(SASRecConfig(n_items=N_ITEMS, width=8, n_heads=1, max_length=12), seed=0).eval()
    with torch.no_grad():
        for parameter in whole.parameters():  # biases, too
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    exported = with_merged_heads(whole)
    attention = exported.layers[0].attention
    assert isinstance(attention, MergedHead)
    assert 2 * sum(w.numel() for w in attention.parameters()) == sum(
        w.numel() for w in whole.layers[0].attention.parameters()
    )
    torch.testing.assert_close(encoded(exported), encoded(whole), rtol=0, atol=5e-6)


def test_a_head_that_is_narrower_than_half_stays_as_it_is() -> None:
    config = SASRecConfig(n_items=N_ITEMS, width=8, n_heads=1, head_width=3, max_length=12)
    narrow = SASRec(config, seed=0).eval()
    assert with_merged_heads(narrow) is narrow
