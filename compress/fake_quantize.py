"""Rounding in the loop: the item table as the device will see it, with gradients as if it were not rounded.

Forward, each row is rounded exactly as `runtime.item_table.quantize_rows` will store it; backward, the rounding is
skipped (straight-through estimator, Bengio et al. 2013, arXiv:1308.3432), so the model learns around its own rounding.
The clipping threshold of each row, a share of its largest value, is chosen by least squares as the writer does, and
chosen again every few steps since it moves slowly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..runtime.item_table import CLIP_SHARES, largest_level

REFRESH_STEPS = 50


class RowQuantizer(nn.Module):
    """Rounds a table (N, D) to `bits` bits a value; bits=None leaves it alone."""

    def __init__(self, n_items: int, bits: int | None) -> None:
        super().__init__()
        self.bits = bits
        self.clip = torch.ones(n_items, 1)
        self._steps_left = 0

    def forward(self, table: Tensor) -> Tensor:
        """float32 (N, D) -> float32 (N, D) on the grid of each row."""
        if self.bits is None:
            return table
        detached = table.detach()
        if self._steps_left == 0:
            self.clip = best_clip(detached, self.bits)
            self._steps_left = REFRESH_STEPS
        self._steps_left -= 1
        return table + (round_rows(detached, self.clip, self.bits) - detached)


def round_rows(table: Tensor, clip: Tensor, bits: int) -> Tensor:
    """The nearest level of each value, the scale of a row being clip * max|row| / largest level; clip (N, 1)."""
    largest = largest_level(bits)
    scale = (table.abs().amax(1, keepdim=True) * clip / largest).clamp(min=1e-12)
    scaled = table / scale
    nearest = scaled.round() if bits in (4, 8) else 2 * ((scaled - 1) / 2).round() + 1
    return nearest.clamp(-largest, largest) * scale


def best_clip(table: Tensor, bits: int) -> Tensor:
    """The clipping share of each row with the least squared error: (N, D) -> (N, 1)."""
    shares = torch.tensor(CLIP_SHARES[bits])
    errors = torch.stack([(round_rows(table, share, bits) - table).square().sum(1) for share in shares])
    return shares[errors.argmin(0)][:, None]
