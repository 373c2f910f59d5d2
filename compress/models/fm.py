"""FM: a factorization machine (Rendle, ICDM 2010).

    logit = b + sum_i w_i + sum_(i<j) v_i . v_j,        the last in linear time as  1/2 (|sum v|^2 - sum |v|^2)

over the vectors v and first-order weights w of the fields (see `field_vectors`).

Shape letters: B rows, F fields, D width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...runtime.features import FeatureSchema
from .field_vectors import FieldModel, FieldVectors
from .fresh_weights import reset_parameters_
from .mlp import check_widths


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FMConfig:
    """The architecture."""

    schema: FeatureSchema
    """The fields."""
    width: int = 10
    """Length of a field's vector, D."""

    def __post_init__(self) -> None:
        check_widths("FMConfig", width=self.width)


class FM(FieldModel):
    """`FM(config, seed=0)` is a fresh model."""

    def __init__(self, config: FMConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.fields = FieldVectors(config.schema, config.width, first_order=True)
        self.bias = nn.Parameter(torch.empty(1))
        reset_parameters_(self, seed)

    def logits(self, vectors: Sequence[Tensor], lengths: Tensor, numeric: Tensor) -> Tensor:
        """See `PointwiseModel.logits`: (B,)."""
        fields, weights = self.fields(vectors, lengths, numeric)  # (B, F, D), (B,)
        return self.bias + weights + pairwise_products(fields)  # (B,)


def pairwise_products(fields: Tensor) -> Tensor:
    """The sum of the dot products of all pairs: float32 (B, F, D) -> (B,).

    Example:
        >>> pairwise_products(torch.tensor([[[1.0, 2.0], [3.0, 4.0], [1.0, 0.0]]])).item()
        15.0
    """
    return 0.5 * (fields.sum(1).square() - fields.square().sum(1)).sum(1)
