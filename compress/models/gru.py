"""A gated recurrent unit without biases (Cho et al. 2014, arXiv:1406.1078), as GRU4Rec and NARM use it.

    r = sigmoid(W_r x + U_r h)      z = sigmoid(W_z x + U_z h)
    c = tanh(W_c x + r * (U_c h))   h' = (1 - z) * c + z * h

torch runs the whole sequence in one call. The exporter would unroll that call to the length of its example, so in an
export the layer is ONNX's own GRU operator, which runs any length and keeps its gates in the order z, r, c.

Shape letters: B batch, n length, D input width, H hidden width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GRU(nn.Module):
    """One layer."""

    def __init__(self, width: int, hidden_width: int) -> None:
        super().__init__()
        self.hidden_width = hidden_width
        self.input_weight = nn.Parameter(torch.empty(3 * hidden_width, width))  # W: r, z, c
        self.hidden_weight = nn.Parameter(torch.empty(3 * hidden_width, hidden_width))  # U: r, z, c

    def forward(self, x: Tensor, before: Tensor | None = None) -> Tensor:
        """The state after every item: float32 (B, n, D) -> (B, n, H); `before` (B, H) is the state before the first
        one, None for zero."""
        if torch.onnx.is_in_onnx_export():
            return self._operator(x, before)
        if before is None:
            before = x.new_zeros(x.shape[0], self.hidden_width)
        weights = (self.input_weight, self.hidden_weight)
        states, _ = torch.gru(x, before[None], weights, False, 1, 0.0, self.training, False, True)
        return states

    def _operator(self, x: Tensor, before: Tensor | None) -> Tensor:
        batch, length, _ = x.shape
        weights = [_as_onnx(self.input_weight), _as_onnx(self.hidden_weight)]
        start = [] if before is None else [None, None, before[None]]  # after the biases and the lengths
        states = torch.onnx.ops.symbolic(
            "GRU",
            [x.transpose(0, 1), *weights, *start],
            {"hidden_size": self.hidden_width, "linear_before_reset": 1},
            dtype=x.dtype,
            shape=(length, 1, batch, self.hidden_width),
            version=20,
        )
        return states[:, 0].transpose(0, 1)  # (n, 1, B, H) -> (B, n, H)


def _as_onnx(weight: Tensor) -> Tensor:
    """Gates r, z, c -> z, r, c, and the axis of directions: (3H, any) -> (1, 3H, any)."""
    reset, update, candidate = weight.chunk(3)
    return torch.cat([update, reset, candidate])[None]
