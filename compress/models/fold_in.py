"""Folding in: a user's vector from the items of the history, for models that keep a vector for each user.

    user vector = dense( sum over the history of its item vectors / n ** power )        score = user vector @ item table

n is the length of the history. Matrix factorization, BPR and LightGCN learn a table of users, which neither ships nor has
a row for whoever is new; the item table has all that is needed to tell whose history this is. `fold_in.fit_fold_in` solves
for `dense` in closed form (`..fold_in`). The order of the history is no matter, and one more click is one more summand.

Source: folding in, Sarwar et al. 2002, "Incremental Singular Value Decomposition Algorithms for Highly Scalable
Recommender Systems", section 3.

Shape letters: B batch, L history length, D width, N items.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from .fresh_weights import reset_parameters_

MAX_LENGTH = 512
"""Events that a device remembers of its user (`runtime.user_state`): a sum could take any number."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FoldInConfig:
    """The architecture."""

    n_items: int
    """Rows of the item table, N."""
    width: int = 64
    """Length of an item's and of a user's vector, D."""
    max_length: int = MAX_LENGTH
    """The longest history."""
    power: float = 0.5
    """How much of the length is divided out: 0 sums, 1 means; in between, long histories speak louder."""

    def __post_init__(self) -> None:
        for name in ("n_items", "width", "max_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"FoldInConfig: {name} {getattr(self, name)}; expected at least 1")
        if not 0.0 <= self.power <= 1.0:
            raise ValueError(f"FoldInConfig: power {self.power}; expected 0 to 1")


class FoldIn(nn.Module):
    """`FoldIn(config, seed=0)` is a fresh model.

    Example:
        >>> model = FoldIn(FoldInConfig(n_items=50, width=8), seed=0).eval()
        >>> history = torch.tensor([[3, 7, 1]])
        >>> (model.encode(model.item_table[history]) @ model.item_table.T).shape
        torch.Size([1, 50])
    """

    item_bias: None = None

    def __init__(self, config: FoldInConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.item_table = nn.Parameter(torch.empty(config.n_items, config.width))
        self.dense = nn.Linear(config.width, config.width)
        reset_parameters_(self, seed)

    @property
    def max_length(self) -> int:
        return self.config.max_length

    @property
    def width(self) -> int:
        return self.config.width

    def hidden_states(self, item_vectors: Tensor, lengths: Tensor) -> Tensor:
        """See `SequenceModel.hidden_states`: sums run from the left, so no state sees a pad."""
        lengths = torch.ones_like(item_vectors[..., :1]).cumsum(1)  # (B, L, 1)
        return self.dense(item_vectors.cumsum(1) / lengths**self.config.power)  # (B, L, D)

    def encode(self, item_vectors: Tensor) -> Tensor:
        """See `SequenceModel.encode`: (B, n, D) -> (B, D)."""
        lengths = torch.ones_like(item_vectors[..., :1]).sum(1)  # (B, 1)
        return self.dense(item_vectors.sum(1) / lengths**self.config.power)  # (B, D)

    def forward(self, item_vectors: Tensor) -> Tensor:
        """`encode`: calling the model, and exporting it, is encoding."""
        return self.encode(item_vectors)
