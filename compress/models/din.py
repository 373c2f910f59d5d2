"""DIN: how much each item of the history counts depends on the candidate (Zhou et al., arXiv:1706.06978).

    h_t   = act(W_q q + W_k k_t + W_p (q * k_t) + b)             q candidate, k_t item t of the history
    a_t   = w_a . MLP_a(h_t) + b_a
    u     = sum_t a_t k_t / sqrt(D)                              not a softmax: the weights need not add up to 1
    logit = w . MLP([u ; q ; u * q]) + c

Others write the first line as one matrix over [q ; k_t ; q - k_t ; q * k_t]. That is the same function, the part of
q - k_t being put into W_q and W_k, with a quarter of the weights and half of the work for each item of a history saved.

An item's vector is what training gave to its id and, behind it, to its other features. As the features of an item do
not change, the layout has put them into one table: candidate and history look up the same rows.

Shape letters: B rows, n history length, D width of an item's vector, A width of h, H last hidden width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ...runtime.features import FeatureSchema
from .fresh_weights import reset_parameters_
from .mlp import MLP, check_training, check_widths
from .pointwise_protocol import Lookup


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DINConfig:
    """The architecture."""

    schema: FeatureSchema
    """Two fields: the candidate (token), then the history (token_seq) in the same vocabulary."""
    width: int = 32
    """Length of an item's vector, D."""
    attention_widths: tuple[int, ...] = (64, 32)
    """Of the MLP that weighs the history; the first is that of h, A."""
    hidden_widths: tuple[int, ...] = (64, 32)
    """Of the MLP that scores."""
    attention_activation: str = "sigmoid"
    """One of `mlp.ACTIVATIONS`."""
    activation: str = "silu"
    """One of `mlp.ACTIVATIONS`; the paper's Dice with alpha 0 is `silu`."""
    dropout: float = 0.0
    """Probability, in training only, before each layer of the MLP that scores."""

    def __post_init__(self) -> None:
        check_widths(
            "DINConfig",
            width=self.width,
            attention_widths=self.attention_widths,
            hidden_widths=self.hidden_widths,
        )
        check_training("DINConfig", activation=self.activation, dropout=self.dropout)
        check_training("DINConfig", activation=self.attention_activation)
        fields = self.schema.fields
        if [field.kind for field in fields] != ["token", "token_seq"] or fields[0].size != fields[1].size:
            raise ValueError(
                "DINConfig: schema; expected a token field and a token_seq field of the same size"
            )


class DIN(nn.Module):
    """`DIN(config, seed=0)` is a fresh model."""

    def __init__(self, config: DINConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.item_table = nn.Parameter(torch.empty(config.schema.fields[0].size, width))
        first, last = config.attention_widths[0], config.attention_widths[-1]
        self.of_candidate = nn.Linear(width, first)  # W_q, b
        self.of_history = nn.Linear(width, first, bias=False)  # W_k
        self.of_product = nn.Linear(width, first, bias=False)  # W_p
        self.attention = MLP(config.attention_widths, activation=config.attention_activation)
        self.weigh = nn.Linear(last, 1)
        widths = (3 * width, *config.hidden_widths)
        self.mlp = MLP(widths, activation=config.activation, dropout=config.dropout)
        self.output = nn.Linear(widths[-1], 1)
        reset_parameters_(self, seed)

    @property
    def schema(self) -> FeatureSchema:
        return self.config.schema

    @property
    def tables(self) -> Mapping[str, nn.Parameter]:
        """See `PointwiseModel.tables`."""
        return {"item_table": self.item_table}

    @property
    def lookups(self) -> tuple[Lookup, ...]:
        """See `PointwiseModel.lookups`."""
        return tuple(Lookup(table="item_table", field=field.name) for field in self.schema.fields)

    def logits(self, vectors: Sequence[Tensor], lengths: Tensor, numeric: Tensor) -> Tensor:
        """See `PointwiseModel.logits`: (B,)."""
        candidate, history = vectors  # (B, D), (B, n, D)
        products = self.of_product(candidate[:, None] * history)  # (B, n, A)
        hidden = self.of_candidate(candidate)[:, None] + self.of_history(history) + products  # (B, n, A)
        attended = self.attention(self.attention.activation(hidden))  # (B, n, last width)
        weights = self.weigh(attended) / self.config.width**0.5  # (B, n, 1)
        user = (weights * history).sum(1)  # (B, D); what pads is zero and adds nothing
        deep = self.mlp(torch.cat([user, candidate, user * candidate], 1))  # (B, 3 D) -> (B, H)
        return self.output(deep).squeeze(1)  # (B,)
