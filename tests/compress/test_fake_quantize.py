"""Rounding in training is the rounding of the file, and gradients pass through it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pocketrec.compress import fake_quantize
from pocketrec.compress.fake_quantize import REFRESH_STEPS, RowQuantizer, best_clip, round_rows
from pocketrec.runtime.item_table import ROW_BITS, largest_level, quantize_rows


@pytest.fixture
def table() -> torch.Tensor:
    """Rows of very different lengths, one of zeros."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(200, 24, generator=generator) * torch.logspace(-2, 1, 200)[:, None]
    table[7] = 0
    return table


def levels_of(bits: int) -> list[int]:
    top = largest_level(bits)
    return list(range(-top, top + 1, 1 if bits in (4, 8) else 2))


@pytest.mark.parametrize("bits", ROW_BITS)
def test_equals_what_the_file_stores(table: torch.Tensor, bits: int) -> None:
    """The file rounds a row's scale to 11 bits, training does not. So a value may differ by 2**-11 of itself (twice that
    is allowed, for the sums in float32), and one that lay between two levels may go to the other of them: a step."""
    ours = RowQuantizer(200, bits)(table).numpy()
    stored = quantize_rows(table.numpy(), bits).lookup(np.arange(200))
    difference = np.abs(ours - stored)
    step = (2 if bits in (2, 3) else 1) * np.abs(table.numpy()).max(1, keepdims=True) / largest_level(bits)
    same_level = difference <= 2**-10 * np.abs(stored) + 1e-11
    assert same_level.mean() > 0.98
    assert (difference <= 1.01 * step + 1e-11).all()
    # and the clipping is as good here as there: 11 bits of scale move the error of a row by 10% at the most, at 8 bits
    ours_error, stored_error = (np.square(t - table.numpy()).sum(1) for t in (ours, stored))
    np.testing.assert_allclose(ours_error, stored_error, rtol=0.1, atol=1e-12)


@pytest.mark.parametrize("bits", ROW_BITS)
def test_a_table_on_its_grid_stays(bits: int) -> None:
    """Its largest value being the largest level, the scale is known; and no clipping beats no error."""
    rng = np.random.default_rng(0)
    levels = rng.choice(levels_of(bits), size=(30, 16)).astype(np.float32)
    levels[:, 0] = largest_level(bits)
    table = torch.from_numpy(levels * np.float32(0.25))
    assert torch.equal(RowQuantizer(30, bits)(table), table)
    assert torch.equal(best_clip(table, bits), torch.ones(30, 1))


@pytest.mark.parametrize("bits", ROW_BITS)
def test_every_value_goes_to_its_nearest_level(table: torch.Tensor, bits: int) -> None:
    clip = torch.full((200, 1), 0.8)
    rounded = round_rows(table, clip, bits)
    scale = table.abs().amax(1, keepdim=True) * clip / largest_level(bits)
    grid = scale[:, :, None] * torch.tensor(levels_of(bits), dtype=torch.float32)  # (200, 1, levels)
    nearest = (grid - table[:, :, None]).abs().amin(2)  # (200, 24)
    torch.testing.assert_close((rounded - table).abs(), nearest, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bits", ROW_BITS)
def test_the_gradient_passes_as_if_nothing_were_rounded(table: torch.Tensor, bits: int) -> None:
    parameter = torch.nn.Parameter(table)
    weight = torch.randn(200, 24, generator=torch.Generator().manual_seed(1))
    (RowQuantizer(200, bits)(parameter) * weight).sum().backward()
    assert parameter.grad is not None
    assert torch.equal(parameter.grad, weight)


def test_no_bits_is_no_rounding(table: torch.Tensor) -> None:
    assert RowQuantizer(200, None)(table) is table


def test_the_clipping_is_chosen_again_now_and_then(
    monkeypatch: pytest.MonkeyPatch, table: torch.Tensor
) -> None:
    calls: list[int] = []

    def counted(values: torch.Tensor, bits: int) -> torch.Tensor:
        calls.append(bits)
        return best_clip(values, bits)

    monkeypatch.setattr(fake_quantize, "best_clip", counted)
    quantizer = RowQuantizer(200, 3)
    for step in range(1, 2 * REFRESH_STEPS + 2):
        quantizer(table)
        assert len(calls) == 1 + (step - 1) // REFRESH_STEPS


def test_the_table_is_left_alone(table: torch.Tensor) -> None:
    before = table.clone()
    RowQuantizer(200, 2)(table)
    assert torch.equal(table, before)
