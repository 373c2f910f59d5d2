"""Pruning: useless parts that were planted are the ones that go, and what stays computes the same, only smaller."""

from __future__ import annotations

import copy
import dataclasses
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pocketrec.compress.models.sasrec import SASRec, SASRecConfig
from pocketrec.compress.prune import PruneConfig, prune
from pocketrec.runtime.errors import InputError

HEADS, HEAD_WIDTH, INNER = 4, 4, 32
CONFIG = SASRecConfig(
    n_items=50, width=16, n_layers=2, n_heads=HEADS, inner_widths=INNER, max_length=6, dropout=0.5
)
USELESS_HEADS = {0: (1, 2), 1: (0, 3)}
USELESS_INNER = {0: tuple(range(0, 32, 2)), 1: tuple(range(5, 21))}


def lively(config: SASRecConfig = CONFIG) -> SASRec:
    """Every parameter matters."""
    model = SASRec(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.empty_like(parameter).normal_(std=0.3, generator=generator)
    return model


def plant_useless_(model: SASRec, *, heads: bool = False, inner: bool = False) -> None:
    """Nobody reads what these units say, so the output is the same without them."""
    with torch.no_grad():
        for index, layer in enumerate(model.layers):
            for head in USELESS_HEADS[index] if heads else ():
                layer.attention.out.weight[:, head * HEAD_WIDTH : (head + 1) * HEAD_WIDTH] = 0
            if inner:
                layer.dense_2.weight[:, list(USELESS_INNER[index])] = 0


@pytest.fixture(scope="module")
def sequences() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 50, n) for n in rng.integers(0, 12, 60)]


def encoded(model: SASRec) -> list[torch.Tensor]:
    """User vectors of histories of every length."""
    with torch.no_grad():
        histories = [torch.arange(2 * n).reshape(2, n) for n in range(1, 7)]
        return [model.encode(F.embedding(history, model.item_table)) for history in histories]


@pytest.mark.parametrize(
    ("planted", "config"),
    [
        ({"heads": True}, PruneConfig(keep_heads=0.5, keep_inner=1.0)),
        ({"inner": True}, PruneConfig(keep_heads=1.0, keep_inner=0.5)),
        ({"heads": True, "inner": True}, PruneConfig(keep_heads=0.5, keep_inner=0.5)),
    ],
    ids=["heads", "inner", "both"],
)
def test_what_is_useless_is_what_goes(sequences, planted: dict, config: PruneConfig) -> None:
    """So nothing changes, to rounding: float32 sums over fewer zeros, through two layers of values near 1."""
    model = lively()
    plant_useless_(model, **planted)
    smaller, detail = prune(model, sequences, config, seed=0)
    for got, expected in zip(encoded(smaller), encoded(model), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=5e-6)
    if "heads" in planted:
        assert detail["heads"] == [2, 2]
        assert detail["heads_kept"] == {"layers.0.heads": [0, 3], "layers.1.heads": [1, 2]}
        for index, layer in enumerate(smaller.layers):
            stayed = [h for h in range(HEADS) if h not in USELESS_HEADS[index]]
            rows = [h * HEAD_WIDTH + i for h in stayed for i in range(HEAD_WIDTH)]
            for name in ("q", "k", "v"):  # the same heads everywhere
                ours = getattr(layer.attention, name).weight
                assert torch.equal(ours, getattr(model.layers[index].attention, name).weight[rows])
    if "inner" in planted:
        assert detail["inner_widths"] == [16, 16]
        for index, layer in enumerate(smaller.layers):
            rows = [i for i in range(INNER) if i not in USELESS_INNER[index]]
            assert torch.equal(layer.dense_1.weight, model.layers[index].dense_1.weight[rows])
            assert torch.equal(layer.dense_2.weight, model.layers[index].dense_2.weight[:, rows])


def test_cutting_what_is_useful_changes_the_model(sequences) -> None:
    """The counterpart of the test above: the equality there is no accident."""
    model = lively()
    smaller, _ = prune(model, sequences, PruneConfig(), seed=0)
    assert not torch.allclose(encoded(smaller)[3], encoded(model)[3], atol=1e-2)


def test_the_matrices_are_really_smaller(sequences) -> None:
    smaller, detail = prune(lively(), sequences, PruneConfig(keep_heads=0.5, keep_inner=0.3), seed=0)
    for layer in smaller.layers:
        assert layer.attention.n_heads == 2
        assert layer.attention.head_width == HEAD_WIDTH
        for linear in (layer.attention.q, layer.attention.k, layer.attention.v):
            assert linear.weight.shape == (8, 16)
            assert linear.bias.shape == (8,)
        assert layer.attention.out.weight.shape == (16, 8)
        assert layer.dense_1.weight.shape == (16, 16)  # 9.6 units, rounded up to a multiple of 16
        assert layer.dense_2.weight.shape == (16, 16)
    assert smaller.config.layers == ((2, 4, 16), (2, 4, 16))
    assert detail["inner_widths"] == [16, 16]
    assert smaller.item_table.shape == (50, 16)
    assert smaller.position_table.shape == (6, 16)
    rebuilt = SASRec(smaller.config)  # what the config says is what the weights are
    rebuilt.load_state_dict(smaller.state_dict())
    for ours, theirs in zip(encoded(rebuilt.eval()), encoded(smaller), strict=True):
        assert torch.equal(ours, theirs)


def test_encoding_is_still_the_last_position_of_the_padded_pass(sequences) -> None:
    smaller, _ = prune(lively(), sequences, PruneConfig(), seed=0)
    vectors = torch.randn(3, 6, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        states = smaller.hidden_states(vectors, torch.tensor([6, 1, 4]))
        for row, n in enumerate((6, 1, 4)):
            expected = smaller.encode(vectors[row : row + 1, :n])[0]
            torch.testing.assert_close(states[row, n - 1], expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize(
    ("config", "heads", "inner"),
    [
        (PruneConfig(keep_heads=1.0, keep_inner=1.0), 4, 32),
        (PruneConfig(keep_heads=0.01, keep_inner=0.01), 1, 16),
        (PruneConfig(keep_heads=0.01, keep_inner=0.01, inner_multiple=1), 1, 1),
        (PruneConfig(keep_heads=0.51, keep_inner=0.6, inner_multiple=1), 3, 20),
        (PruneConfig(keep_heads=0.75, keep_inner=0.25, inner_multiple=1), 3, 8),
        (PruneConfig(keep_heads=1.0, keep_inner=0.9, inner_multiple=50), 4, 32),
    ],
)
def test_how_much_stays(sequences, config: PruneConfig, heads: int, inner: int) -> None:
    smaller, detail = prune(lively(), sequences, config, seed=0)
    assert detail["heads"] == [heads, heads]
    assert detail["inner_widths"] == [inner, inner]
    assert encoded(smaller)[0].shape == (2, 16)


def test_a_share_is_not_rounded_up_by_floating_point(sequences) -> None:
    """0.55 * 100 is 55.00000000000001."""
    model = lively(SASRecConfig(n_items=50, width=16, n_layers=1, n_heads=2, inner_widths=100, max_length=6))
    config = PruneConfig(keep_heads=1.0, keep_inner=0.55, inner_multiple=1)
    assert prune(model, sequences, config, seed=0)[1]["inner_widths"] == [55]


def test_keeping_everything_is_a_copy(sequences) -> None:
    model = lively()
    same, detail = prune(model, sequences, PruneConfig(keep_heads=1.0, keep_inner=1.0), seed=0)
    assert detail["heads_kept"] == {}
    assert same is not model
    for ours, theirs in zip(same.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.data_ptr() != theirs.data_ptr()


def test_the_input_is_left_alone(sequences) -> None:
    model = lively().train()
    before = copy.deepcopy(model.state_dict())
    given = [sequence.copy() for sequence in sequences]
    smaller, _ = prune(model, sequences, PruneConfig(), seed=0)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(parameter.grad is None for parameter in (*model.parameters(), *smaller.parameters()))
    assert model.config is CONFIG
    assert model.training
    assert not smaller.training
    for ours, theirs in zip(given, sequences, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_same_seed_gives_the_same_model(sequences) -> None:
    config = PruneConfig(calibration_batches=2)
    torch.manual_seed(1)
    first, told = prune(lively(), sequences, config, seed=5)
    torch.manual_seed(2)
    again, told_again = prune(lively(), sequences, config, seed=5)
    assert told == told_again
    for ours, theirs in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_histories_longer_than_the_model_and_layers_of_different_shape() -> None:
    config = SASRecConfig(
        n_items=50, width=16, n_layers=2, n_heads=(4, 1), head_width=4, inner_widths=(32, 20), max_length=3
    )
    rng = np.random.default_rng(0)
    smaller, detail = prune(lively(config), [rng.integers(0, 50, 30)] * 20, PruneConfig(), seed=0)
    assert detail["heads"] == [2, 1]
    assert detail["inner_widths"] == [16, 16]
    assert smaller.max_length == 3


def test_nothing_is_said_beside_the_report(sequences) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prune(lively(), sequences, PruneConfig(), seed=0)


@pytest.mark.parametrize("lengths", [[1, 1, 0, 1], []])
def test_without_a_next_item_nothing_can_decide(lengths: list[int]) -> None:
    short = [np.arange(n) for n in lengths]
    with pytest.raises(
        InputError, match=rf"prune: none of the {len(lengths)} training sequences has two items"
    ):
        prune(lively(), short, PruneConfig(), seed=0)


@pytest.mark.parametrize("importance", ["taylor", "fisher"])
def test_the_loss_knows_what_is_large_and_useless(sequences, importance: str) -> None:
    """Ten times as large, but nobody reads it: its magnitude would keep it."""
    model = lively()
    plant_useless_(model, inner=True)
    with torch.no_grad():
        for index, layer in enumerate(model.layers):
            layer.dense_1.weight[list(USELESS_INNER[index])] *= 10
    config = PruneConfig(keep_heads=1.0, keep_inner=0.5, inner_multiple=1, calibration_batches=4)
    kept, _ = prune(model, sequences, dataclasses.replace(config, importance=importance), seed=0)
    for ours, theirs in zip(encoded(kept), encoded(model), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    blind, _ = prune(model, sequences, dataclasses.replace(config, importance="magnitude"), seed=0)
    assert max(float((a - b).abs().max()) for a, b in zip(encoded(blind), encoded(model), strict=True)) > 0.1


def test_magnitude_needs_no_data_and_cuts_the_smallest() -> None:
    model = lively()
    with torch.no_grad():
        for index, layer in enumerate(model.layers):
            for parameter in (layer.dense_1.weight, layer.dense_1.bias, layer.dense_2.weight.T):
                parameter[list(USELESS_INNER[index])] *= 1e-4
    config = PruneConfig(keep_heads=1.0, keep_inner=0.5, inner_multiple=1, importance="magnitude")
    kept, _ = prune(model, [], config, seed=0)
    for ours, theirs in zip(encoded(kept), encoded(model), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-2)  # what went was a ten-thousandth


def test_fisher_is_the_sum_of_squares_of_batches(sequences) -> None:
    from pocketrec.compress.prune import _accumulate_gradients

    model, one = lively(), lively()
    config = PruneConfig(calibration_batches=1, importance="fisher")
    _accumulate_gradients(one, sequences, dataclasses.replace(config, importance="taylor"), 0)
    _accumulate_gradients(model, sequences, config, 0)
    weight, plain = model.layers[0].dense_1.weight, one.layers[0].dense_1.weight
    assert weight.grad is not None
    assert plain.grad is not None
    torch.testing.assert_close(weight.grad * weight, (plain.grad * plain).square(), rtol=1e-5, atol=1e-7)
