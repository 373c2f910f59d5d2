"""BERT4Rec: a transformer that sees both ways, asked for the item behind a mask (Sun et al., arXiv:1904.06690).

    x = LayerNorm([item vectors without the oldest ; mask vector] + position rows)
    for each layer:  x = LayerNorm(attention(x) W_out + x),  nothing hidden from anybody
                     x = LayerNorm(activation(x W_1) W_2 + x)
    user vector = LayerNorm(gelu(x W + b)) at the mask;   score = user vector @ item table + item bias

as RecBole 1.2 predicts: the mask takes the last place and the oldest item gives up its own, even where there is room,
so the first item takes no row and a history of one item is a mask alone.

Shape letters: B batch, n history length, D width, N items.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .fresh_weights import reset_parameters_
from .prefix_states import prefix_states
from .sasrec import Layer, SASRecConfig, shared_widths


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BERT4RecConfig:
    """The architecture."""

    n_items: int
    """Rows of the item table, N."""
    width: int = 64
    """Length of an item's vector, D."""
    n_layers: int = 2
    n_heads: int = 2
    """Attention heads of each layer."""
    head_width: int | None = None
    """Width of one head; None: width / heads. Stays as it is when heads are pruned."""
    inner_width: int = 256
    """Of each layer's feed-forward."""
    max_length: int = 50
    """Rows of the position table: the longest history."""
    activation: str = "gelu"
    """Of the feed-forward: one of `sasrec.ACTIVATIONS`."""
    eps: float = 1e-12
    """Of every LayerNorm."""
    dropout: float = 0.2
    """Probability, in training only: on the input, the attention, and what each residual sum adds."""

    def __post_init__(self) -> None:
        _ = self.transformer  # what makes no transformer makes no config

    @property
    def transformer(self) -> SASRecConfig:
        """The layers, which are SASRec's."""
        fields = dataclasses.asdict(self)
        return SASRecConfig(inner_widths=fields.pop("inner_width"), positions="start", **fields)


class BERT4Rec(nn.Module):
    """`BERT4Rec(config, seed=0)` is a fresh model.

    Example:
        >>> model = BERT4Rec(BERT4RecConfig(n_items=50, width=8, max_length=5), seed=0).eval()
        >>> history = torch.tensor([[3, 7, 1]])
        >>> (model.encode(model.item_table[history]) @ model.item_table.T + model.item_bias).shape
        torch.Size([1, 50])
    """

    def __init__(self, config: BERT4RecConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.item_table = nn.Parameter(torch.empty(config.n_items, config.width))
        self.item_bias = nn.Parameter(torch.empty(config.n_items))
        self.mask = nn.Parameter(torch.empty(config.width))
        self.position_table = nn.Parameter(torch.empty(config.max_length, config.width))
        self.norm = nn.LayerNorm(config.width, config.eps)
        self.dropout = nn.Dropout(config.dropout)
        layers = nn.ModuleList(Layer(config.transformer, i) for i in range(config.n_layers))
        self.layers = cast(Sequence[Layer], layers)  # type checkers see a ModuleList of anything
        self.dense = nn.Linear(config.width, config.width)
        self.dense_norm = nn.LayerNorm(config.width, config.eps)
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
        """See `SequenceModel.encode`: (B, n, D) -> (B, D). The last layer computes the mask's position alone."""
        batch, n, _ = item_vectors.shape
        mask = self.mask.expand(batch, 1, -1)  # (B, 1, D)
        x = torch.cat([item_vectors, mask], 1)[:, 1:] + self.position_table[:n]  # (B, n, D)
        x = self.dropout(self.norm(x))
        for layer in self.layers[:-1]:
            x = layer(x, x, None)
        x = self.layers[-1](x[:, -1:], x, None)[:, 0]  # (B, D)
        return self.dense_norm(F.gelu(self.dense(x)))  # (B, D)

    def forward(self, item_vectors: Tensor) -> Tensor:
        """`encode`: calling the model, and exporting it, is encoding."""
        return self.encode(item_vectors)

    def refresh_config_(self) -> BERT4RecConfig:
        """Reads heads and widths, alike in all layers, back from the modules into `config`, after somebody sliced them."""
        self.config = dataclasses.replace(self.config, **shared_widths(self.layers))
        return self.config
