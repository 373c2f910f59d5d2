"""A chain of linear layers, each with its activation: the deep half of every pointwise model.

    h_0 = x        h_i = act(W_i h_(i-1) + b_i)

Batch normalization between a layer and its activation is an affine map of running statistics once training is over:
the layouts fold it into W and b, so the chain has linear layers only and can be pruned and quantized as such.

Shape letters: B batch, H_i widths.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "sigmoid": functional.sigmoid,
    "silu": functional.silu,  # x sigmoid(x): RecBole's Dice, whose alpha stays 0
    "tanh": functional.tanh,
}


class MLP(nn.Module):
    """float32 (..., H_0) -> (..., H_n).

    Example:
        >>> import torch
        >>> MLP([6, 4, 2])(torch.zeros(3, 6)).shape
        torch.Size([3, 2])
    """

    def __init__(self, widths: Sequence[int], *, activation: str = "relu", dropout: float = 0.0) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.activation(layer(self.dropout(x)))  # (..., H_i)
        return x


def check_widths(owner: str, **widths: int | Sequence[int]) -> None:
    """Refuse a width or a list of widths that is not at least 1; raises `ValueError`."""
    for name, value in widths.items():
        listed = [value] if isinstance(value, int) else list(value)
        if not listed or min(listed) < 1:
            raise ValueError(f"{owner}: {name} {value}; expected at least 1")


def check_training(owner: str, *, activation: str = "relu", dropout: float = 0.0) -> None:
    """Refuse an activation that is not known and a dropout that is no probability; raises `ValueError`."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"{owner}: activation {activation!r}; expected one of {', '.join(ACTIVATIONS)}")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"{owner}: dropout {dropout}; expected 0 <= dropout < 1")
