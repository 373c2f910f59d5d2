"""A bias as a dimension: the same order with the same weights, and no bias left."""

from __future__ import annotations

from typing import Any

import torch

from pocketrec.compress.item_bias import fold_item_bias
from pocketrec.compress.models.protocol import SequenceModel

from .models.families import WIDTH, lively


def scores(model: Any, history: torch.Tensor) -> torch.Tensor:
    found = model.encode(model.item_table[history]) @ model.item_table.T
    return found if model.item_bias is None else found + model.item_bias


def test_scores_are_the_same_but_for_the_mean() -> None:
    model = lively("bert4rec")
    folded = fold_item_bias(model)
    assert isinstance(folded, SequenceModel)
    assert (folded.width, folded.item_bias) == (WIDTH + 1, None)
    history = torch.tensor([[1, 5, 9], [2, 2, 7]])
    with torch.inference_mode():
        expected = scores(model, history) - model.item_bias.mean()
        torch.testing.assert_close(scores(folded, history), expected, rtol=0, atol=5e-6)
        states = folded.hidden_states(folded.item_table[history], torch.tensor([3, 3]))
        torch.testing.assert_close(
            states[:, -1], folded.encode(folded.item_table[history]), rtol=0, atol=5e-6
        )
    column = folded.item_table[:, -1].square().mean()
    torch.testing.assert_close(column, model.item_table.square().mean())
    names = [name for name, _ in folded.named_parameters()]  # type: ignore[attr-defined]
    assert "item_table" in names
    assert not [name for name in names if name.startswith(("inner.item_table", "inner.item_bias"))]


def test_the_model_is_left_alone() -> None:
    model = lively("bert4rec")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fold_item_bias(model)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in before.items())


def test_a_bias_that_says_nothing() -> None:
    model = lively("bert4rec")
    with torch.no_grad():
        model.item_bias.fill_(3.0)
    folded = fold_item_bias(model)
    assert folded.item_table.isfinite().all()
    assert not folded.item_table[:, -1].any()


def test_a_model_without_a_bias_is_itself() -> None:
    model = lively("sasrec")
    assert fold_item_bias(model) is model
