"""pmixer's SASRec against its formula written down with torch's own attention, every pad in its place."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from pocketrec.compress.models.pmixer_sasrec import PmixerSASRec, PmixerSASRecConfig

from .families import MAX_LENGTH, WIDTH, lively


def with_every_pad(model: PmixerSASRec, history: Tensor) -> Tensor:
    batch, n, _ = history.shape
    pads = model.padding.expand(batch, MAX_LENGTH - n, -1)
    x = torch.cat([pads, history * math.sqrt(WIDTH) + model.position_table[MAX_LENGTH - n :]], 1)
    later = torch.ones(MAX_LENGTH, MAX_LENGTH, dtype=torch.bool).triu(1)
    for layer in model.layers:
        ours = layer.attention
        theirs = nn.MultiheadAttention(WIDTH, ours.n_heads, batch_first=True)
        qkv = (ours.q, ours.k, ours.v)
        theirs.load_state_dict(
            {
                "in_proj_weight": torch.cat([linear.weight for linear in qkv]),
                "in_proj_bias": torch.cat([linear.bias for linear in qkv]),
                "out_proj.weight": ours.out.weight,
                "out_proj.bias": ours.out.bias,
            }
        )
        q = layer.attention_norm(x)
        h = layer.dense_norm(q + theirs(q, x, x, attn_mask=later, need_weights=False)[0])
        x = h + layer.dense_2(layer.dense_1(h).relu())
    return model.norm(x)


@pytest.mark.parametrize("family", ["pmixer", "pmixer, two heads"])
@pytest.mark.parametrize("length", [1, 4, MAX_LENGTH])
def test_one_pad_stands_for_all_of_them(family: str, length: int) -> None:
    model = lively(family)
    history = torch.randn(3, length, WIDTH, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = with_every_pad(model, history)
        states = model.hidden_states(history, torch.full((3,), length))
        # float32 of values near 1, summed in another order
        torch.testing.assert_close(states, expected[:, MAX_LENGTH - length :], rtol=0, atol=5e-6)
        torch.testing.assert_close(model.encode(history), expected[:, -1], rtol=0, atol=5e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_heads": 3}, "3 heads do not divide the width 50"),
        ({"inner_width": 0}, "inner_width 0; expected at least 1"),
        ({"eps": 1.0}, "eps 1.0; expected at least 0 and below 1"),
        ({"dropout": -0.1}, "dropout -0.1, eps"),
    ],
)
def test_config_refuses(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PmixerSASRecConfig(n_items=5), **fields)
