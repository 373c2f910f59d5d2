"""DeepFM: a factorization machine and an MLP over the same vectors (Guo et al., arXiv:1703.04247).

    logit = b + sum_i w_i + sum_(i<j) v_i . v_j + w . MLP([v_1 ; ... ; v_F]) + c

Shape letters: B rows, F fields, D width, H last hidden width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...runtime.features import FeatureSchema
from .field_vectors import FieldModel, FieldVectors
from .fm import pairwise_products
from .fresh_weights import reset_parameters_
from .mlp import MLP, check_training, check_widths


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeepFMConfig:
    """The architecture."""

    schema: FeatureSchema
    """The fields, in the order of the MLP's input."""
    width: int = 10
    """Length of a field's vector, D."""
    hidden_widths: tuple[int, ...] = (128, 128, 128)
    """Of the MLP."""
    activation: str = "relu"
    """One of `mlp.ACTIVATIONS`."""
    dropout: float = 0.2
    """Probability, in training only, before each layer of the MLP."""

    def __post_init__(self) -> None:
        check_widths("DeepFMConfig", width=self.width, hidden_widths=self.hidden_widths)
        check_training("DeepFMConfig", activation=self.activation, dropout=self.dropout)


class DeepFM(FieldModel):
    """`DeepFM(config, seed=0)` is a fresh model."""

    def __init__(self, config: DeepFMConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.fields = FieldVectors(config.schema, config.width, first_order=True)
        self.bias = nn.Parameter(torch.empty(1))
        widths = (self.fields.total_width, *config.hidden_widths)
        self.mlp = MLP(widths, activation=config.activation, dropout=config.dropout)
        self.output = nn.Linear(widths[-1], 1)
        reset_parameters_(self, seed)

    def logits(self, vectors: Sequence[Tensor], lengths: Tensor, numeric: Tensor) -> Tensor:
        """See `PointwiseModel.logits`: (B,)."""
        fields, weights = self.fields(vectors, lengths, numeric)  # (B, F, D), (B,)
        deep = self.output(self.mlp(fields.flatten(1))).squeeze(1)  # (B, F D) -> (B, H) -> (B,)
        return self.bias + weights + pairwise_products(fields) + deep  # (B,)
