"""NARM: a recurrent network with attention over its own states (Li et al., arXiv:1711.04725).

    states h_1 .. h_n = GRU(item vectors)              no biases
    weight of h_t     = v . sigmoid(A_1 h_t + A_2 h_n)       no softmax: weights are any numbers
    user vector       = B [sum over t of weight_t h_t ; h_n];   score = user vector @ item table

as RecBole computes it. The first half of the sum is what the history is about, the second where it has got to.

Shape letters: B batch, L history length, D width, N items, H hidden width.
"""

from __future__ import annotations

import dataclasses
import itertools

import torch
from torch import Tensor, nn

from .fresh_weights import reset_parameters_
from .gru import GRU
from .prefix_states import prefix_states


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NARMConfig:
    """The architecture."""

    n_items: int
    """Rows of the item table, N."""
    width: int = 64
    """Length of an item's vector, D."""
    hidden_width: int = 64
    """Length of the recurrent state, H."""
    n_layers: int = 1
    """Recurrent layers."""
    max_length: int = 50
    """The longest history. The network takes any; this is what it was trained on."""
    dropout: float = 0.25
    """Probability, in training only, on the item vectors."""
    output_dropout: float = 0.5
    """Probability, in training only, on what the last matrix reads."""

    def __post_init__(self) -> None:
        for name in ("n_items", "width", "hidden_width", "n_layers", "max_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"NARMConfig: {name} {getattr(self, name)}; expected at least 1")
        if not (0.0 <= self.dropout < 1.0 and 0.0 <= self.output_dropout < 1.0):
            raise ValueError(
                f"NARMConfig: dropout {self.dropout}, output_dropout {self.output_dropout}; "
                "expected at least 0 and below 1"
            )


class NARM(nn.Module):
    """`NARM(config, seed=0)` is a fresh model.

    Example:
        >>> model = NARM(NARMConfig(n_items=50, width=8, hidden_width=16), seed=0).eval()
        >>> history = torch.tensor([[3, 7, 1]])
        >>> (model.encode(model.item_table[history]) @ model.item_table.T).shape
        torch.Size([1, 50])
    """

    item_bias: None = None

    def __init__(self, config: NARMConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden_width
        self.item_table = nn.Parameter(torch.empty(config.n_items, config.width))
        widths = [config.width] + [hidden] * config.n_layers
        self.layers = nn.ModuleList(GRU(*pair) for pair in itertools.pairwise(widths))
        self.of_each = nn.Linear(hidden, hidden, bias=False)  # A_1
        self.of_last = nn.Linear(hidden, hidden, bias=False)  # A_2
        self.weigh = nn.Linear(hidden, 1, bias=False)  # v
        self.dense = nn.Linear(2 * hidden, config.width, bias=False)  # B
        self.dropout = nn.Dropout(config.dropout)
        self.output_dropout = nn.Dropout(config.output_dropout)
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
        states = self.dropout(item_vectors)  # (B, n, D)
        for layer in self.layers:
            states = layer(states)  # (B, n, H)
        last = states[:, -1:]  # (B, 1, H)
        weights = self.weigh(torch.sigmoid(self.of_each(states) + self.of_last(last)))  # (B, n, 1)
        about = (weights * states).sum(1)  # (B, H)
        return self.dense(self.output_dropout(torch.cat([about, last[:, 0]], 1)))  # (B, D)

    def forward(self, item_vectors: Tensor) -> Tensor:
        """`encode`: calling the model, and exporting it, is encoding."""
        return self.encode(item_vectors)
