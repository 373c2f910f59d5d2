"""LightSANs: attention to a few interests instead of to every item (Fan et al., SIGIR 2021).

    x = LayerNorm(item vectors), padded on the right up to `max_length` with a vector of its own
    for each layer, with q, k, v = x W_q, x W_k, x W_v and positions p = LayerNorm(position table):
        keys, values = softmax over positions of (k T_k), of (v T_v), as weights of sums: K interests each
        items        = softmax over queries of (q . keys) @ values
        positions    = softmax over queries of (p W_pq . p W_pk) @ v
        x            = LayerNorm((items + positions) W_out + x)
        x            = LayerNorm(activation(x W_1) W_2 + x)
    user vector = x at the last item;   score = user vector @ item table

as RecBole computes it: softmaxes run over queries, not over keys, and over pads as well, so the padded length is part of
the model and the pads are computed. What depends on positions alone is constant; the runtime computes it once.

Shape letters: B batch, n history length, L max_length, D width, N items, H heads, W head width, K interests, F inner.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from .fresh_weights import reset_parameters_
from .prefix_states import prefix_states
from .sasrec import ACTIVATIONS


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LightSANsConfig:
    """The architecture."""

    n_items: int
    """Rows of the item table, N."""
    width: int = 64
    """Length of an item's vector, D."""
    n_layers: int = 2
    n_heads: int = 2
    """Attention heads of each layer."""
    head_width: int | None = None
    """Width of one head, W; None: width / heads. Stays as it is when heads are pruned."""
    n_interests: int = 5
    """What a history is summed up to before it is attended to, K."""
    inner_width: int = 256
    """Of each layer's feed-forward, F."""
    max_length: int = 50
    """Rows of the position table, L: what every history is padded to."""
    activation: str = "gelu"
    """Of the feed-forward: one of `ACTIVATIONS`."""
    eps: float = 1e-12
    """Of every LayerNorm."""
    dropout: float = 0.5
    """Probability, in training only: on the input, the attention, and what each residual sum adds."""

    def __post_init__(self) -> None:
        for name in ("n_items", "width", "n_layers", "n_heads", "n_interests", "inner_width", "max_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"LightSANsConfig: {name} {getattr(self, name)}; expected at least 1")
        if self.head_width is None and self.width % self.n_heads:
            raise ValueError(f"LightSANsConfig: {self.n_heads} heads do not divide the width {self.width}")
        if self.head_width is not None and self.head_width < 1:
            raise ValueError(f"LightSANsConfig: head_width {self.head_width}; expected at least 1")
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"LightSANsConfig: activation {self.activation!r}; expected one of {', '.join(ACTIVATIONS)}"
            )
        if not (0.0 <= self.dropout < 1.0 and 0.0 <= self.eps < 1.0):
            raise ValueError(
                f"LightSANsConfig: dropout {self.dropout}, eps {self.eps}; expected at least 0 and below 1"
            )


class Interests(nn.Module):
    """K weighted sums of a history."""

    def __init__(self, width: int, n_interests: int) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.empty(width, n_interests))

    def forward(self, x: Tensor) -> Tensor:
        weights = (x @ self.theta).softmax(1)  # (B, L, K)
        return weights.transpose(1, 2) @ x  # (B, K, D)


class LightAttention(nn.Module):
    def __init__(self, config: LightSANsConfig) -> None:
        super().__init__()
        width = config.width
        self.n_heads = config.n_heads
        self.head_width = config.head_width or width // config.n_heads
        heads = self.n_heads * self.head_width  # H * W: the width, until heads are pruned
        self.q = nn.Linear(width, heads)
        self.k = nn.Linear(width, heads)
        self.v = nn.Linear(width, heads)
        self.key_interests = Interests(heads, config.n_interests)
        self.value_interests = Interests(heads, config.n_interests)
        self.position_norm = nn.LayerNorm(width, config.eps)
        self.position_q = nn.Linear(width, heads)
        self.position_k = nn.Linear(width, heads)
        self.out = nn.Linear(heads, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """(B, L, D), (L, D) -> (B, L, H * W), before the output matrix."""
        k, v = self.k(x), self.v(x)  # (B, L, H * W)
        q = self._heads(self.q(x)) / math.sqrt(self.head_width)  # (B, H, L, W)
        keys, values = (
            self._heads(self.key_interests(k)),
            self._heads(self.value_interests(v)),
        )  # (B, H, K, W)
        by_items = self.dropout((q @ keys.transpose(-1, -2)).softmax(-2)) @ values  # (B, H, L, W)

        p = self.position_norm(positions)[None]  # (1, L, D)
        p_q, p_k = self._heads(self.position_q(p)), self._heads(self.position_k(p))  # (1, H, L, W)
        scale = math.sqrt(self.head_width) * math.sqrt(2 * self.head_width)
        by_positions = (p_q @ p_k.transpose(-1, -2) / scale).softmax(-2) @ self._heads(v)  # (B, H, L, W)
        return (by_items + by_positions).transpose(1, 2).flatten(2)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, self.head_width)).transpose(
            1, 2
        )  # (B, L, H * W) -> (B, H, L, W)


class Layer(nn.Module):
    def __init__(self, config: LightSANsConfig) -> None:
        super().__init__()
        self.attention = LightAttention(config)
        self.attention_norm = nn.LayerNorm(config.width, config.eps)
        self.dense_1 = nn.Linear(config.width, config.inner_width)
        self.dense_2 = nn.Linear(config.inner_width, config.width)
        self.dense_norm = nn.LayerNorm(config.width, config.eps)
        self.dropout = nn.Dropout(config.dropout)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, x: Tensor, positions: Tensor, only: slice) -> Tensor:
        """(B, L, D) -> (B, Q, D): the positions in `only`, which look at all."""
        context = self.attention(x, positions)[:, only]  # (B, Q, D)
        h = self.attention_norm(self.dropout(self.attention.out(context)) + x[:, only])  # (B, Q, D)
        inner = self.activation(self.dense_1(h))  # (B, Q, F)
        return self.dense_norm(self.dropout(self.dense_2(inner)) + h)  # (B, Q, D)


class LightSANs(nn.Module):
    """`LightSANs(config, seed=0)` is a fresh model.

    Example:
        >>> model = LightSANs(LightSANsConfig(n_items=50, width=8, max_length=5), seed=0).eval()
        >>> history = torch.tensor([[3, 7, 1]])
        >>> (model.encode(model.item_table[history]) @ model.item_table.T).shape
        torch.Size([1, 50])
    """

    item_bias: None = None

    def __init__(self, config: LightSANsConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.item_table = nn.Parameter(torch.empty(config.n_items, config.width))
        self.position_table = nn.Parameter(torch.empty(config.max_length, config.width))
        self.padding = nn.Parameter(torch.empty(config.width))
        self.norm = nn.LayerNorm(config.width, config.eps)
        self.dropout = nn.Dropout(config.dropout)
        layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.layers = cast(Sequence[Layer], layers)  # type checkers see a ModuleList of anything
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

    def encode(self, item_vectors: Tensor) -> Tensor:
        """See `SequenceModel.encode`: (B, n, D) -> (B, D)."""
        batch, n, _ = item_vectors.shape
        pads = self.padding.expand(batch, self.max_length, -1)  # (B, L, D)
        x = torch.cat([item_vectors, pads], 1)[:, : self.max_length]  # (B, L, D)
        x = self.dropout(self.norm(x))
        for layer in self.layers[:-1]:
            x = layer(x, self.position_table, slice(None))
        return self.layers[-1](x, self.position_table, slice(n - 1, n))[:, 0]  # (B, D)

    def forward(self, item_vectors: Tensor) -> Tensor:
        """`encode`: calling the model, and exporting it, is encoding."""
        return self.encode(item_vectors)
