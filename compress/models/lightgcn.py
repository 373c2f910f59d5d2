"""LightGCN (He et al., arXiv:2002.02126): matrix factorization, its vectors averaged over the graph of who met what.

    E_0 = [user_table ; item_table]                                       (U + N, D)
    E_k = S E_{k-1},   S = Q^-1/2 A Q^-1/2                                   A: user-item edges, both ways; Q: degrees
    vectors = mean of E_0 .. E_K;   score(user, item) = vectors[user] @ vectors[U + item]

(equations 3, 4 and 8 with alpha_k = 1 / (K + 1)), as RecBole computes it: degrees are raised by 1e-7, and K layers give
K + 1 summands. The graph is that of the training part. Once averaged, it is a plain factorization: `propagated` is done
once, when the checkpoint is read, and no graph ships.

Shape letters: B batch, U users, N items, D width, K layers, E edges.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from .fresh_weights import reset_parameters_

DEGREE_OFFSET = 1e-7
"""RecBole's, against a division by zero."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LightGCNConfig:
    """The architecture."""

    n_users: int
    """Rows of the user table, U."""
    n_items: int
    """Rows of the item table, N."""
    width: int = 64
    """Length of a vector, D."""
    n_layers: int = 2
    """Propagations, K."""

    def __post_init__(self) -> None:
        for name in ("n_users", "n_items", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"LightGCNConfig: {name} {getattr(self, name)}; expected at least 1")
        if not 0 <= self.n_layers <= 64:
            raise ValueError(f"LightGCNConfig: n_layers {self.n_layers}; expected 0 to 64")


class LightGCN(nn.Module):
    """`LightGCN(config, seed=0)` is a fresh model.

    Example:
        >>> model = LightGCN(LightGCNConfig(n_users=5, n_items=50, width=8))
        >>> users, items = model.propagated(torch.tensor([0, 0, 4]), torch.tensor([7, 8, 7]))
        >>> users.shape, items.shape
        (torch.Size([5, 8]), torch.Size([50, 8]))
    """

    def __init__(self, config: LightGCNConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.user_table = nn.Parameter(torch.empty(config.n_users, config.width))
        self.item_table = nn.Parameter(torch.empty(config.n_items, config.width))
        reset_parameters_(self, seed)

    def propagated(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors that score: float32 (U, D) and (N, D).

        Args:
            users, items: int64 (E,), the edges; one that comes twice counts once, as in RecBole.
        """
        n_users, n_items = self.config.n_users, self.config.n_items
        edges = torch.unique(torch.stack([users, items]), dim=1)  # (2, E)
        degrees_u = torch.bincount(edges[0], minlength=n_users) + DEGREE_OFFSET  # (U,)
        degrees_i = torch.bincount(edges[1], minlength=n_items) + DEGREE_OFFSET  # (N,)
        values = (degrees_u[edges[0]] * degrees_i[edges[1]]).rsqrt()  # (E,)
        graph = torch.sparse_coo_tensor(
            edges, values, (n_users, n_items), is_coalesced=True, check_invariants=True
        )  # (U, N)
        layer_u, layer_i = self.user_table, self.item_table  # (U, D), (N, D)
        sum_u, sum_i = layer_u, layer_i
        for _ in range(self.config.n_layers):
            layer_u, layer_i = graph @ layer_i, graph.T @ layer_u  # (U, D), (N, D)
            sum_u, sum_i = sum_u + layer_u, sum_i + layer_i
        n = self.config.n_layers + 1
        return sum_u / n, sum_i / n
