"""Matrix factorization (BPR: Rendle et al., arXiv:1205.2618): a vector for each user and for each item.

    score(user, item) = user_table[user] @ item_table[item]

BPR is how it is trained, on pairs of items; how it scores is the same whatever the loss was. A device has a history, not
a row of the user table: what ships is `fold_in.FoldIn` over the same item table.

Shape letters: B batch, U users, N items, D width.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from .fresh_weights import reset_parameters_


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BPRConfig:
    """The architecture."""

    n_users: int
    """Rows of the user table, U."""
    n_items: int
    """Rows of the item table, N."""
    width: int = 64
    """Length of a vector, D."""

    def __post_init__(self) -> None:
        for name in ("n_users", "n_items", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"BPRConfig: {name} {getattr(self, name)}; expected at least 1")


class BPR(nn.Module):
    """`BPR(config, seed=0)` is a fresh model.

    Example:
        >>> BPR(BPRConfig(n_users=5, n_items=50, width=8)).scores(torch.tensor([3, 0])).shape
        torch.Size([2, 50])
    """

    def __init__(self, config: BPRConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.user_table = nn.Parameter(torch.empty(config.n_users, config.width))
        self.item_table = nn.Parameter(torch.empty(config.n_items, config.width))
        reset_parameters_(self, seed)

    def scores(self, users: Tensor) -> Tensor:
        """Of the whole catalogue: int64 (B,) rows of the user table -> float32 (B, N)."""
        return self.user_table[users] @ self.item_table.T  # (B, D) @ (D, N)
