"""DCN V2: layers that cross the input with itself, and an MLP (Wang et al., arXiv:2008.13535).

    x_0 = [v_1 ; ... ; v_F]        x_(l+1) = x_0 * (W_l x_l + b_l) + x_l

    stacked:   logit = w . MLP(x_L) + c
    parallel:  logit = w . [x_L ; MLP(x_0)] + c

with full matrices W; the mixture of low-rank experts is not here. There is no first-order part.

Shape letters: B rows, F fields, D width, X = F D, L cross layers, H last hidden width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ...runtime.features import FeatureSchema
from .field_vectors import FieldModel, FieldVectors
from .fresh_weights import reset_parameters_
from .mlp import MLP, check_training, check_widths


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DCNv2Config:
    """The architecture."""

    schema: FeatureSchema
    """The fields, in the order of the input."""
    width: int = 10
    """Length of a field's vector, D."""
    n_cross_layers: int = 3
    """L."""
    structure: Literal["stacked", "parallel"] = "stacked"
    """Whether the MLP reads what the cross layers made, or stands beside them."""
    hidden_widths: tuple[int, ...] = (768, 768)
    """Of the MLP."""
    activation: str = "relu"
    """One of `mlp.ACTIVATIONS`."""
    dropout: float = 0.2
    """Probability, in training only, before each layer of the MLP."""

    def __post_init__(self) -> None:
        check_widths(
            "DCNv2Config",
            width=self.width,
            n_cross_layers=self.n_cross_layers,
            hidden_widths=self.hidden_widths,
        )
        check_training("DCNv2Config", activation=self.activation, dropout=self.dropout)
        if self.structure not in ("stacked", "parallel"):
            raise ValueError(f"DCNv2Config: structure {self.structure!r}; expected stacked or parallel")


class DCNv2(FieldModel):
    """`DCNv2(config, seed=0)` is a fresh model."""

    def __init__(self, config: DCNv2Config, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.fields = FieldVectors(config.schema, config.width, first_order=False)
        total = self.fields.total_width  # X
        self.cross = nn.ModuleList(nn.Linear(total, total) for _ in range(config.n_cross_layers))
        widths = (total, *config.hidden_widths)
        self.mlp = MLP(widths, activation=config.activation, dropout=config.dropout)
        self.output = nn.Linear(widths[-1] + (total if config.structure == "parallel" else 0), 1)
        reset_parameters_(self, seed)

    def logits(self, vectors: Sequence[Tensor], lengths: Tensor, numeric: Tensor) -> Tensor:
        """See `PointwiseModel.logits`: (B,)."""
        fields, _ = self.fields(vectors, lengths, numeric)  # (B, F, D)
        start = crossed = fields.flatten(1)  # (B, X)
        for layer in self.cross:
            crossed = start * layer(crossed) + crossed  # (B, X)
        if self.config.structure == "parallel":
            found = torch.cat([crossed, self.mlp(start)], 1)  # (B, X + H)
        else:
            found = self.mlp(crossed)  # (B, H)
        return self.output(found).squeeze(1)  # (B,)
