"""SASRec as pmixer/SASRec.pytorch computes it (of Kang & McAuley, arXiv:1808.09781), which differs from the post-norm
form in `sasrec.py`: only queries are normalized before the attention, and pads are attended to.

    x = item vectors * sqrt(D) + position rows            the last item takes the last row
    for each layer:  q = LayerNorm(x)
                     h = LayerNorm(q + attention(queries q, keys and values x) W_out)
                     x = h + relu(h W_1) W_2
    user vector = LayerNorm(x) at the last item;   score = user vector @ item table

Histories are padded on the left up to `max_length`, and the causal mask does not hide the pads. All pads are alike and
see nothing but pads, so in every layer they share one state, and m of them weigh in a softmax as one does with log m
added to its score. One pad before the items is therefore exactly as good as `max_length - n` of them.

Shape letters: B batch, L history length, D width, N items, F inner width.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .fresh_weights import reset_parameters_
from .sasrec import Attention, causal_mask, shared_widths


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PmixerSASRecConfig:
    """The architecture."""

    n_items: int
    """Rows of the item table, N."""
    width: int = 50
    """Length of an item's vector, D."""
    n_layers: int = 2
    n_heads: int = 1
    """Attention heads of each layer."""
    head_width: int | None = None
    """Width of one head; None: width / heads. Stays as it is when heads are pruned."""
    inner_width: int = 50
    """Of each layer's feed-forward, F."""
    max_length: int = 200
    """Rows of the position table: the longest history."""
    eps: float = 1e-8
    """Of every LayerNorm."""
    dropout: float = 0.2
    """Probability, in training only: on the input, the attention, and the feed-forward."""

    def __post_init__(self) -> None:
        for name in ("n_items", "width", "n_layers", "n_heads", "inner_width", "max_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"PmixerSASRecConfig: {name} {getattr(self, name)}; expected at least 1")
        if self.head_width is None and self.width % self.n_heads:
            raise ValueError(f"PmixerSASRecConfig: {self.n_heads} heads do not divide the width {self.width}")
        if self.head_width is not None and self.head_width < 1:
            raise ValueError(f"PmixerSASRecConfig: head_width {self.head_width}; expected at least 1")
        if not (0.0 <= self.dropout < 1.0 and 0.0 <= self.eps < 1.0):
            raise ValueError(
                f"PmixerSASRecConfig: dropout {self.dropout}, eps {self.eps}; expected at least 0 and below 1"
            )


class Layer(nn.Module):
    def __init__(self, config: PmixerSASRecConfig) -> None:
        super().__init__()
        head_width = config.head_width or config.width // config.n_heads
        self.attention_norm = nn.LayerNorm(config.width, config.eps)
        self.attention = Attention(config.width, config.n_heads, head_width, config.dropout)
        self.dense_norm = nn.LayerNorm(config.width, config.eps)
        self.dense_1 = nn.Linear(config.width, config.inner_width)
        self.dense_2 = nn.Linear(config.inner_width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, positions: Tensor, x: Tensor, mask: Tensor) -> Tensor:
        """`positions` (B, Q, D) are those to compute; they look at `x` (B, L, D)."""
        if self.attention.n_heads > 1:
            mask = mask[:, None]  # (B, 1, Q, L)
        q = self.attention_norm(positions)  # (B, Q, D)
        h = self.dense_norm(q + self.attention(q, x, mask))  # (B, Q, D)
        inner = self.dropout(self.dense_1(h).relu())  # (B, Q, F)
        return h + self.dropout(self.dense_2(inner))  # (B, Q, D)


class PmixerSASRec(nn.Module):
    """`PmixerSASRec(config, seed=0)` is a fresh model.

    Example:
        >>> model = PmixerSASRec(PmixerSASRecConfig(n_items=50, width=8, max_length=5), seed=0).eval()
        >>> history = torch.tensor([[3, 7, 1]])
        >>> (model.encode(model.item_table[history]) @ model.item_table.T).shape
        torch.Size([1, 50])
    """

    item_bias: None = None

    def __init__(self, config: PmixerSASRecConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.item_table = nn.Parameter(torch.empty(config.n_items, config.width))
        self.position_table = nn.Parameter(torch.empty(config.max_length, config.width))
        self.padding = nn.Parameter(
            torch.empty(config.width)
        )  # a pad's input: its scaled row and its position's
        layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.layers = cast(Sequence[Layer], layers)  # type checkers see a ModuleList of anything
        self.norm = nn.LayerNorm(config.width, config.eps)
        self.dropout = nn.Dropout(config.dropout)
        reset_parameters_(self, seed)

    @property
    def max_length(self) -> int:
        return self.config.max_length

    @property
    def width(self) -> int:
        return self.config.width

    def hidden_states(self, item_vectors: Tensor, lengths: Tensor) -> Tensor:
        """See `SequenceModel.hidden_states`. Right pads come later, and the mask hides what is later."""
        length = item_vectors.shape[1]
        rows = torch.arange(length, device=lengths.device) + self.max_length - lengths[:, None]  # (B, L)
        x = self._input(
            item_vectors, self.position_table[rows.clamp(max=self.max_length - 1)]
        )  # (B, L + 1, D)
        mask = self._mask(length, self._log_pads()[self.max_length - lengths])  # (B, L + 1, L + 1)
        for layer in self.layers:
            x = layer(x, x, mask)
        return self.norm(x[:, 1:])  # (B, L, D)

    def encode(self, item_vectors: Tensor) -> Tensor:
        """See `SequenceModel.encode`: (B, n, D) -> (B, D). The last layer computes the last position alone."""
        n = item_vectors.shape[1]
        x = self._input(item_vectors, self.position_table[self.max_length - n :])  # (B, n + 1, D)
        mask = self._mask(n, self._log_pads()[self.max_length - n].reshape(1))  # (1, n + 1, n + 1)
        for layer in self.layers[:-1]:
            x = layer(x, x, mask)
        return self.norm(self.layers[-1](x[:, -1:], x, mask[..., -1:, :])[:, 0])  # (B, D)

    def forward(self, item_vectors: Tensor) -> Tensor:
        """`encode`: calling the model, and exporting it, is encoding."""
        return self.encode(item_vectors)

    def refresh_config_(self) -> PmixerSASRecConfig:
        """Reads heads and widths, alike in all layers, back from the modules into `config`, after somebody sliced them."""
        self.config = dataclasses.replace(self.config, **shared_widths(self.layers))
        return self.config

    def _input(self, item_vectors: Tensor, rows: Tensor) -> Tensor:
        items = item_vectors * math.sqrt(self.width) + rows  # (B, n, D)
        pad = self.padding.expand(items.shape[0], 1, -1)  # (B, 1, D)
        return self.dropout(torch.cat([pad, items], 1))  # (B, n + 1, D)

    def _log_pads(self) -> Tensor:
        """log m for m = 0 .. max_length pads: float32 (max_length + 1,), minus infinity for none."""
        return torch.arange(self.max_length + 1, device=self.item_table.device, dtype=torch.float32).log()

    def _mask(self, n: int, log_pads: Tensor) -> Tensor:
        """What is added to attention scores of the pad and n items; log_pads (B,)."""
        of_pad = log_pads[:, None, None].expand(-1, n, 1)  # (B, n, 1): every item looks at m pads
        return F.pad(of_pad, (0, n, 1, 0)) + causal_mask(n + 1, log_pads)  # (B, n + 1, n + 1)
