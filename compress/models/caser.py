"""Caser: convolutions over the last few items, as over an image (Tang & Wang, arXiv:1809.07426).

    X = the last `max_length` item vectors, padded on the right with a vector of its own     (L, D)
    vertical    = W X + b for every column: weighted sums of positions                        (V, D)
    horizontal  = for each height h = 1 .. L: max over positions of relu(kernels of h items)  (C) each
    z           = relu(W_1 [vertical ; horizontal] + b_1)
    user vector = relu(W_2 [z ; u] + b_2);                                score = user vector @ item table

as RecBole computes it. u is a vector that training gave to each user. It does not ship: a device has one user, whom
training never saw, so one constant u stands for everybody, and `encode` takes others where they are known.

Shape letters: B batch, n history length, L max_length, D width, N items, V vertical kernels, C kernels of a height.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from .fresh_weights import reset_parameters_
from .prefix_states import prefix_states


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CaserConfig:
    """The architecture."""

    n_items: int
    """Rows of the item table, N."""
    width: int = 64
    """Length of an item's vector, D."""
    n_vertical: int = 4
    """Weighted sums of positions, V."""
    n_horizontal: int = 8
    """Kernels of each height, C."""
    max_length: int = 10
    """Items that the convolutions see, L, and heights that they have."""
    dropout: float = 0.4
    """Probability, in training only, on what the convolutions found."""

    def __post_init__(self) -> None:
        for name in ("n_items", "width", "n_vertical", "n_horizontal", "max_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"CaserConfig: {name} {getattr(self, name)}; expected at least 1")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"CaserConfig: dropout {self.dropout}; expected 0 <= dropout < 1")


class Caser(nn.Module):
    """`Caser(config, seed=0)` is a fresh model.

    Example:
        >>> model = Caser(CaserConfig(n_items=50, width=8, max_length=5), seed=0).eval()
        >>> history = torch.tensor([[3, 7, 1]])
        >>> (model.encode(model.item_table[history]) @ model.item_table.T).shape
        torch.Size([1, 50])
    """

    item_bias: None = None

    def __init__(self, config: CaserConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        width, heights = config.width, range(1, config.max_length + 1)
        found = config.n_vertical * width + config.n_horizontal * len(heights)
        self.item_table = nn.Parameter(torch.empty(config.n_items, width))
        self.padding = nn.Parameter(torch.empty(width))
        self.user = nn.Parameter(torch.empty(width))  # u
        self.vertical = nn.Linear(config.max_length, config.n_vertical)
        self.horizontal = nn.ModuleList(nn.Conv1d(width, config.n_horizontal, h) for h in heights)
        self.dense_1 = nn.Linear(found, width)
        self.dense_2 = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(config.dropout)
        reset_parameters_(self, seed)

    @property
    def max_length(self) -> int:
        return self.config.max_length

    @property
    def width(self) -> int:
        return self.config.width

    def hidden_states(self, item_vectors: Tensor, lengths: Tensor) -> Tensor:
        """See `SequenceModel.hidden_states`."""
        return prefix_states(self.encode, item_vectors)

    def encode(self, item_vectors: Tensor, users: Tensor | None = None) -> Tensor:
        """See `SequenceModel.encode`: (B, n, D) -> (B, D). `users` (B, D) are vectors of known users, None the constant."""
        batch = item_vectors.shape[0]
        pads = self.padding.expand(batch, self.max_length, -1)  # (B, L, D)
        x = torch.cat([item_vectors, pads], 1)[:, : self.max_length].transpose(1, 2)  # (B, D, L)
        vertical = self.vertical(x).transpose(1, 2).flatten(1)  # (B, V * D)
        horizontal = [kernels(x).relu().amax(2) for kernels in self.horizontal]  # L times (B, C)
        z = self.dense_1(self.dropout(torch.cat([vertical, *horizontal], 1))).relu()  # (B, D)
        users = self.user.expand(batch, -1) if users is None else users  # (B, D)
        return self.dense_2(torch.cat([z, users], 1)).relu()  # (B, D)

    def forward(self, item_vectors: Tensor) -> Tensor:
        """`encode`: calling the model, and exporting it, is encoding."""
        return self.encode(item_vectors)
