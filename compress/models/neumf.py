"""NeuMF: a matrix factorization and an MLP over a user and an item, each with vectors of their own
(He et al., arXiv:1708.05031).

    logit = w . [p_u * q_i ; MLP([p'_u ; q'_i])] + c

Shape letters: B rows, M width of the factorization, D width of the MLP's vectors, H last hidden width.
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
class NeuMFConfig:
    """The architecture."""

    schema: FeatureSchema
    """Two token fields: the user, then the item."""
    product_width: int = 64
    """Length of the vectors that are multiplied, M."""
    width: int = 64
    """Length of the vectors that the MLP reads, D."""
    hidden_widths: tuple[int, ...] = (128, 64)
    """Of the MLP."""
    activation: str = "relu"
    """One of `mlp.ACTIVATIONS`."""
    dropout: float = 0.1
    """Probability, in training only, before each layer of the MLP."""

    def __post_init__(self) -> None:
        check_widths(
            "NeuMFConfig",
            product_width=self.product_width,
            width=self.width,
            hidden_widths=self.hidden_widths,
        )
        check_training("NeuMFConfig", activation=self.activation, dropout=self.dropout)
        if [field.kind for field in self.schema.fields] != ["token", "token"]:
            raise ValueError("NeuMFConfig: schema; expected two token fields, the user and the item")


class NeuMF(nn.Module):
    """`NeuMF(config, seed=0)` is a fresh model."""

    def __init__(self, config: NeuMFConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        user, item = config.schema.fields
        self.user_products = nn.Parameter(torch.empty(user.size, config.product_width))
        self.item_products = nn.Parameter(torch.empty(item.size, config.product_width))
        self.user_vectors = nn.Parameter(torch.empty(user.size, config.width))
        self.item_vectors = nn.Parameter(torch.empty(item.size, config.width))
        widths = (2 * config.width, *config.hidden_widths)
        self.mlp = MLP(widths, activation=config.activation, dropout=config.dropout)
        self.output = nn.Linear(config.product_width + widths[-1], 1)
        reset_parameters_(self, seed)

    @property
    def schema(self) -> FeatureSchema:
        return self.config.schema

    @property
    def tables(self) -> Mapping[str, nn.Parameter]:
        """See `PointwiseModel.tables`."""
        names = ("user_products", "item_products", "user_vectors", "item_vectors")
        return {name: getattr(self, name) for name in names}

    @property
    def lookups(self) -> tuple[Lookup, ...]:
        """See `PointwiseModel.lookups`."""
        user, item = (field.name for field in self.schema.fields)
        return tuple(Lookup(table=name, field=user if "user" in name else item) for name in self.tables)

    def logits(self, vectors: Sequence[Tensor], lengths: Tensor, numeric: Tensor) -> Tensor:
        """See `PointwiseModel.logits`: (B,)."""
        user_product, item_product, user, item = vectors  # (B, M), (B, M), (B, D), (B, D)
        deep = self.mlp(torch.cat([user, item], 1))  # (B, H)
        return self.output(torch.cat([user_product * item_product, deep], 1)).squeeze(1)  # (B,)
