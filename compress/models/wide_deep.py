"""Wide & Deep: a linear model and an MLP, trained together (Cheng et al., arXiv:1606.07792).

    logit = b + sum_i w_i + w . MLP([v_1 ; ... ; v_F]) + c

as RecBole has it: the wide part is the fields' first-order weights, with no crossed features.

Shape letters: B rows, F fields, D width, H last hidden width.
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
class WideDeepConfig:
    """The architecture."""

    schema: FeatureSchema
    """The fields, in the order of the MLP's input."""
    width: int = 10
    """Length of a field's vector, D."""
    hidden_widths: tuple[int, ...] = (32, 16, 8)
    """Of the MLP."""
    activation: str = "relu"
    """One of `mlp.ACTIVATIONS`."""
    dropout: float = 0.1
    """Probability, in training only, before each layer of the MLP."""

    def __post_init__(self) -> None:
        check_widths("WideDeepConfig", width=self.width, hidden_widths=self.hidden_widths)
        check_training("WideDeepConfig", activation=self.activation, dropout=self.dropout)


class WideDeep(FieldModel):
    """`WideDeep(config, seed=0)` is a fresh model."""

    def __init__(self, config: WideDeepConfig, seed: int = 0) -> None:
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
        return self.bias + weights + self.output(self.mlp(fields.flatten(1))).squeeze(1)  # (B,)
