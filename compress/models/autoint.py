"""AutoInt: self-attention among the fields of a row, beside an MLP (Song et al., arXiv:1810.11921).

    logit = w . [relu(attended_1) ; ... ; relu(attended_F)] + w' . MLP([v_1 ; ... ; v_F]) + c    (+ b + sum_i w_i)

Two lines of implementations differ in the attention, and one config field says which it is:

    residual layers (the paper's, FuxiCTR's): x <- relu(attention(x) + x), no biases, no output projection, dot
        products not divided by the root of the head's width unless `scaled`
    plain layers (RecBole's): x = W v + b first, then x <- W_o attention(x) + b_o with biases throughout; at the end
        of all layers a residual R v + r where the checkpoint has one

Shape letters: B rows, F fields, D width, A attention width, h heads, H last hidden width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...runtime.features import FeatureSchema
from .field_vectors import FieldModel, FieldVectors
from .fresh_weights import reset_parameters_
from .mlp import MLP, check_training, check_widths


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AutoIntConfig:
    """The architecture."""

    schema: FeatureSchema
    """The fields, in the order of the MLP's input."""
    width: int = 10
    """Length of a field's vector, D."""
    attention_width: int = 16
    """A."""
    n_layers: int = 3
    """Of attention."""
    n_heads: int = 2
    """h, a divisor of A."""
    residual_layers: bool = False
    """Which kind of layers: see the module's docstring."""
    scaled: bool = True
    """Whether dot products are divided by sqrt(A / h)."""
    final_residual: bool = False
    """Plain layers only: whether the fields' own vectors are added behind the last one."""
    first_order: bool = True
    """Whether the fields have first-order weights."""
    hidden_widths: tuple[int, ...] = (128, 128)
    """Of the MLP."""
    activation: str = "relu"
    """One of `mlp.ACTIVATIONS`."""
    dropout: float = 0.0
    """Probability, in training only, before each layer of the MLP."""

    def __post_init__(self) -> None:
        check_widths(
            "AutoIntConfig",
            width=self.width,
            attention_width=self.attention_width,
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            hidden_widths=self.hidden_widths,
        )
        check_training("AutoIntConfig", activation=self.activation, dropout=self.dropout)
        if self.attention_width % self.n_heads:
            raise ValueError(
                f"AutoIntConfig: {self.n_heads} heads do not divide the attention width {self.attention_width}"
            )


class AttentionLayer(nn.Module):
    """One layer over the fields: float32 (B, F, A or D) -> (B, F, A)."""

    def __init__(self, config: AutoIntConfig, width: int) -> None:
        super().__init__()
        self.config = config
        attended, plain = config.attention_width, not config.residual_layers
        self.q = nn.Linear(width, attended, bias=plain)
        self.k = nn.Linear(width, attended, bias=plain)
        self.v = nn.Linear(width, attended, bias=plain)
        self.out = nn.Linear(attended, attended) if plain else None
        self.residual = nn.Linear(width, attended, bias=False) if not plain and width != attended else None

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self._heads(part(x)) for part in (self.q, self.k, self.v))  # (B, h, F, A / h)
        products = q @ k.transpose(2, 3)  # (B, h, F, F)
        if self.config.scaled:
            products = products / q.shape[-1] ** 0.5
        attended = (products.softmax(-1) @ v).transpose(1, 2).flatten(2)  # (B, F, A)
        if self.out is not None:
            return self.out(attended)  # (B, F, A)
        return (attended + (x if self.residual is None else self.residual(x))).relu()  # (B, F, A)

    def _heads(self, x: Tensor) -> Tensor:
        batch, fields, _ = x.shape
        return x.view(batch, fields, self.config.n_heads, -1).transpose(1, 2)


class AutoInt(FieldModel):
    """`AutoInt(config, seed=0)` is a fresh model."""

    def __init__(self, config: AutoIntConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.fields = FieldVectors(config.schema, config.width, first_order=config.first_order)
        width, attended, plain = config.width, config.attention_width, not config.residual_layers
        self.input = nn.Linear(width, attended) if plain else None
        first = attended if plain else width
        self.layers = nn.ModuleList(
            AttentionLayer(config, attended if i else first) for i in range(config.n_layers)
        )
        self.residual = nn.Linear(width, attended) if plain and config.final_residual else None
        self.attended_output = nn.Linear(len(config.schema.fields) * attended, 1)
        self.bias = nn.Parameter(torch.empty(1)) if config.first_order else None
        widths = (self.fields.total_width, *config.hidden_widths)
        self.mlp = MLP(widths, activation=config.activation, dropout=config.dropout)
        self.output = nn.Linear(widths[-1], 1)
        reset_parameters_(self, seed)

    def logits(self, vectors: Sequence[Tensor], lengths: Tensor, numeric: Tensor) -> Tensor:
        """See `PointwiseModel.logits`: (B,)."""
        fields, weights = self.fields(vectors, lengths, numeric)  # (B, F, D), (B,)
        x = fields if self.input is None else self.input(fields)  # (B, F, D or A)
        for layer in self.layers:
            x = layer(x)  # (B, F, A)
        if self.residual is not None:
            x = x + self.residual(fields)  # (B, F, A)
        logit = self.attended_output(x.relu().flatten(1)) + self.output(self.mlp(fields.flatten(1)))  # (B, 1)
        if weights is not None:
            logit = logit + (self.bias + weights)[:, None]
        return logit.squeeze(1)  # (B,)
