"""GRU4Rec: a recurrent network over the items of a history (Hidasi et al., arXiv:1511.06939; Tan et al. 2016).

The form that RecBole and ICSRec share:

    states = GRU(item vectors)                     one state after every item, no biases
    user vector = W state + b at the last item;    score = user vector @ item table

The state before the first item is zero in RecBole, which pads on the right. ICSRec pads on the left, with a vector that
is not zero: a history of n items starts from the state after `max_length - n` pads. Those states depend on nothing but
the weights, so no pad is read at run time: with `left_padding`, a history picks its start among them.

Shape letters: B batch, L history length, D width, N items, H hidden width.
"""

from __future__ import annotations

import dataclasses
import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .fresh_weights import reset_parameters_
from .gru import GRU


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GRU4RecConfig:
    """The architecture."""

    n_items: int
    """Rows of the item table, N."""
    width: int = 64
    """Length of an item's vector, D."""
    hidden_width: int = 128
    """Length of the recurrent state, H."""
    n_layers: int = 1
    """Recurrent layers, each over the states of the one below."""
    max_length: int = 50
    """The longest history. The network takes any; this is what it was trained on."""
    left_padding: bool = False
    """Histories shorter than `max_length` start from the state after pads (ICSRec), not from zero (RecBole)."""
    dropout: float = 0.3
    """Probability, in training only, on the item vectors."""

    def __post_init__(self) -> None:
        for name in ("n_items", "width", "hidden_width", "n_layers", "max_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"GRU4RecConfig: {name} {getattr(self, name)}; expected at least 1")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"GRU4RecConfig: dropout {self.dropout}; expected 0 <= dropout < 1")


class GRU4Rec(nn.Module):
    """`GRU4Rec(config, seed=0)` is a fresh model.

    Example:
        >>> model = GRU4Rec(GRU4RecConfig(n_items=50, width=8, hidden_width=16), seed=0).eval()
        >>> history = torch.tensor([[3, 7, 1]])
        >>> (model.encode(model.item_table[history]) @ model.item_table.T).shape
        torch.Size([1, 50])
    """

    item_bias: None = None

    def __init__(self, config: GRU4RecConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.item_table = nn.Parameter(torch.empty(config.n_items, config.width))
        widths = [config.width] + [config.hidden_width] * config.n_layers
        self.layers = nn.ModuleList(GRU(*pair) for pair in itertools.pairwise(widths))
        self.dense = nn.Linear(config.hidden_width, config.width)
        self.padding = nn.Parameter(torch.empty(config.width)) if config.left_padding else None
        self.dropout = nn.Dropout(config.dropout)
        reset_parameters_(self, seed)

    @property
    def max_length(self) -> int:
        return self.config.max_length

    @property
    def width(self) -> int:
        return self.config.width

    def hidden_states(self, item_vectors: Tensor, lengths: Tensor) -> Tensor:
        """See `SequenceModel.hidden_states`. Right pads come after the items, so no state sees one."""
        return self.dense(self._states(item_vectors, lengths))  # (B, L, D)

    def encode(self, item_vectors: Tensor) -> Tensor:
        """See `SequenceModel.encode`: (B, n, D) -> (B, D)."""
        return self.dense(self._states(item_vectors, None)[:, -1])  # (B, D)

    def forward(self, item_vectors: Tensor) -> Tensor:
        """`encode`: calling the model, and exporting it, is encoding."""
        return self.encode(item_vectors)

    def _states(self, item_vectors: Tensor, lengths: Tensor | None) -> Tensor:
        """States of the last layer, (B, L, H); lengths (B,), or None where all of them are L."""
        states, pads = self.dropout(item_vectors), self._pads()  # (B, L, D), (1, max_length, D)
        for layer in self.layers:
            if pads is None:
                states = layer(states)  # (B, L, H)
                continue
            pads = layer(pads)  # (1, max_length, H)
            start = F.pad(pads[0], (0, 0, 1, 0))  # (max_length + 1, H): row k is the state after k pads
            if lengths is None:
                n = item_vectors.shape[1]
                before = start[self.max_length - n].expand(states.shape[0], -1)  # (B, H)
            else:
                before = start[self.max_length - lengths]  # (B, H)
            states = layer(states, before)  # (B, L, H)
        return states

    def _pads(self) -> Tensor | None:
        return None if self.padding is None else self.padding.expand(1, self.max_length, -1)
