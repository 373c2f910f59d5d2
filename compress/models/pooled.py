"""A history as a few weighted means of its items, and a small network over them: the cheapest encoder that still ranks.

    a_k   = softmax over positions of  filter_k                          one weight for each place before the end
    z     = [ sum_i a_1,i x_i ; ... ; sum_i a_K,i x_i ]                  K means of the item vectors
    user vector = LayerNorm(W_0 z + W_2 relu(W_1 z + b_1) + b_2);        score = user vector @ item table

A mean over the items watched and a network on top is the candidate generator of Covington et al. 2016 ("Deep Neural
Networks for YouTube Recommendations", section 3.2); several means, from the last item alone to the whole history, let
it tell what is recent from what is usual. There is no attention and nothing is done to an item by itself, so a history
costs three small products whatever its length, and a device needs no more than numpy for them (`runtime.pooled_encoder`).
It is meant as a student. Of what ICSRec's SASRec says of users on Beauty (the variance of its vectors), 9% stay unexplained
by least squares with W_0 and the norm, 11% without W_0, 15% without either; attention in place of fixed weights changes little.

Shape letters: B batch, n history length, L longest history, D width, K means, H hidden width, N items.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...runtime.pooled_encoder import PooledWeights
from .fresh_weights import reset_parameters_
from .prefix_states import prefix_states

SPANS = (0.3, 2.0, 8.0, 50.0)
"""Of the means before training, in items: a weight falls by e every so many. The first is the last item all but alone,
the last all items alike."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PooledConfig:
    """The architecture."""

    n_items: int
    """Rows of the item table, N."""
    width: int = 64
    """Length of an item's vector, D."""
    n_means: int = 4
    """Weighted means, K; at most `len(SPANS)`."""
    hidden_width: int = 64
    """Of the network over them, H."""
    max_length: int = 50
    """The longest history, L."""
    eps: float = 1e-12
    """Of the LayerNorm."""

    def __post_init__(self) -> None:
        for name in ("n_items", "width", "n_means", "hidden_width", "max_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"PooledConfig: {name} {getattr(self, name)}; expected at least 1")
        if not 0.0 <= self.eps < 1.0:
            raise ValueError(f"PooledConfig: eps {self.eps}; expected 0 <= eps < 1")
        if self.n_means > len(SPANS):
            raise ValueError(f"PooledConfig: n_means {self.n_means}; expected at most {len(SPANS)}")


class Pooled(nn.Module):
    """`Pooled(config, seed=0)` is a fresh model.

    Example:
        >>> model = Pooled(PooledConfig(n_items=50, width=8, hidden_width=16), seed=0).eval()
        >>> history = torch.tensor([[3, 7, 1]])
        >>> (model.encode(model.item_table[history]) @ model.item_table.T).shape
        torch.Size([1, 50])
    """

    item_bias: None = None

    def __init__(self, config: PooledConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.item_table = nn.Parameter(torch.empty(config.n_items, config.width))
        self.filters = nn.Parameter(torch.empty(config.n_means, config.max_length))  # before the softmax
        self.linear = nn.Linear(config.n_means * config.width, config.width, bias=False)
        self.dense_1 = nn.Linear(config.n_means * config.width, config.hidden_width)
        self.dense_2 = nn.Linear(config.hidden_width, config.width)
        self.norm = nn.LayerNorm(config.width, config.eps)
        if not self.filters.is_meta:  # a loader wants the shapes only
            reset_parameters_(self, seed)
            generator = torch.Generator().manual_seed(seed)
            for dense in (self.linear, self.dense_1, self.dense_2):
                nn.init.kaiming_uniform_(dense.weight, a=5**0.5, generator=generator)  # as torch does
            age = torch.arange(config.max_length - 1, -1, -1.0)  # of the last item 0
            with torch.no_grad():
                self.filters.copy_(-age / torch.tensor(SPANS[: config.n_means])[:, None])

    @property
    def max_length(self) -> int:
        return self.config.max_length

    @property
    def width(self) -> int:
        return self.config.width

    def hidden_states(self, item_vectors: Tensor, lengths: Tensor) -> Tensor:
        """See `SequenceModel.hidden_states`."""
        return prefix_states(self.encode, item_vectors)

    def encode(self, item_vectors: Tensor) -> Tensor:
        """See `SequenceModel.encode`: (B, n, D) -> (B, D)."""
        n = item_vectors.shape[1]
        weights = self.filters[:, self.max_length - n :].softmax(1)  # (K, n)
        means = (weights @ item_vectors).flatten(1)  # (B, K D)
        return self.norm(self.linear(means) + self.dense_2(self.dense_1(means).relu()))  # (B, D)

    def forward(self, item_vectors: Tensor) -> Tensor:
        """`encode`: calling the model, and exporting it, is encoding."""
        return self.encode(item_vectors)


def pooled_weights(model: Pooled) -> PooledWeights:
    """Its numbers as the runtime takes them, float32."""

    def array(parameter: Tensor) -> NDArray[np.float32]:
        return parameter.detach().numpy().astype(np.float32)

    return PooledWeights(
        filters=array(model.filters),
        linear=array(model.linear.weight),
        dense_1=array(model.dense_1.weight),
        bias_1=array(model.dense_1.bias),
        dense_2=array(model.dense_2.weight),
        bias_2=array(model.dense_2.bias),
        gamma=array(model.norm.weight),
        beta=array(model.norm.bias),
        eps=model.config.eps,
    )
