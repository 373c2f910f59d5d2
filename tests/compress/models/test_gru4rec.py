"""GRU4Rec against torch's own GRU module, and what its config refuses."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from pocketrec.compress.models.gru4rec import GRU4Rec, GRU4RecConfig

from .families import MAX_LENGTH, WIDTH, lively


def torchs_own(model: GRU4Rec) -> nn.GRU:
    config = model.config
    gru = nn.GRU(config.width, config.hidden_width, config.n_layers, bias=False, batch_first=True)
    for i, layer in enumerate(model.layers):
        weights = {f"weight_ih_l{i}": layer.input_weight, f"weight_hh_l{i}": layer.hidden_weight}
        gru.load_state_dict(gru.state_dict() | weights)
    return gru


def test_equals_torchs_own_gru() -> None:
    model = lively("gru4rec, two layers")
    history = torch.randn(3, 5, WIDTH, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = model.dense(torchs_own(model)(history)[0])
        got = model.hidden_states(history, torch.tensor([5, 5, 5]))
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(model.encode(history), expected[:, -1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("length", [1, 4, MAX_LENGTH])
def test_pads_on_the_left_are_read_first(length: int) -> None:
    model = lively("gru4rec, padded on the left")
    history = torch.randn(3, length, WIDTH, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        padded = torch.cat([model.padding.expand(3, MAX_LENGTH - length, -1), history], 1)
        expected = model.dense(torchs_own(model)(padded)[0][:, -1])
        torch.testing.assert_close(model.encode(history), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_width": 0}, "hidden_width 0; expected at least 1"),
        ({"n_layers": 0}, "n_layers 0; expected at least 1"),
        ({"max_length": 0}, "max_length 0; expected at least 1"),
        ({"dropout": 1.0}, "dropout 1.0; expected 0 <= dropout < 1"),
    ],
)
def test_config_refuses(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(GRU4RecConfig(n_items=5), **fields)
