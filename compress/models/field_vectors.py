"""What models with features share: a vector and a first-order weight for every field of a row.

    token field         v = row of the field's table
    token_seq field     v = mean of the rows of its tokens (zero where there are none)
    float field         v = x * vector of the field, x normalized

Each table has one column more than the vectors are wide where the model has a first-order part: the weight of the
token. One look-up then fetches both, and a table is stored and quantized as one. Weights add up over the fields, and
over the tokens of a token_seq field (Rendle, Factorization Machines, ICDM 2010, eq. 1).

Shape letters: B rows, F fields, D width, S token_seq fields, n tokens of one, V rows of a table, N float fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...runtime.features import FeatureSchema
from .pointwise_protocol import Lookup


class FieldVectors(nn.Module):
    """The tables, and what is made of their rows; fields come out in the order of the schema."""

    def __init__(self, schema: FeatureSchema, width: int, *, first_order: bool) -> None:
        super().__init__()
        self.schema, self.width, self.first_order = schema, width, first_order
        columns = width + first_order
        looked_up = [field for field in schema.fields if field.kind != "float"]
        self.names = [field.name for field in looked_up]
        self.token_tables = nn.ParameterList(
            nn.Parameter(torch.empty(field.size, columns)) for field in looked_up
        )  # (V, D + 1) each
        n_float = len(schema.fields) - len(looked_up)
        self.numeric_table = nn.Parameter(torch.empty(n_float, columns)) if n_float else None  # (N, D + 1)

    @property
    def total_width(self) -> int:
        """F D, the length of all vectors of a row."""
        return len(self.schema.fields) * self.width

    @property
    def tables(self) -> Mapping[str, nn.Parameter]:
        """See `PointwiseModel.tables`: one a field, under the field's name."""
        return dict(zip(self.names, self.token_tables, strict=True))

    @property
    def lookups(self) -> tuple[Lookup, ...]:
        """See `PointwiseModel.lookups`: one a field."""
        return tuple(Lookup(table=name, field=name) for name in self.names)

    def forward(
        self, vectors: Sequence[Tensor], lengths: Tensor, numeric: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The fields' vectors (B, F, D), and the sum of their first-order weights (B,) where there are any."""
        looked_up, counts, values = iter(vectors), iter(lengths.unbind(1)), iter(numeric.unbind(1))
        float_rows = iter(() if self.numeric_table is None else self.numeric_table)
        fields, weights = list[Tensor](), list[Tensor]()
        for field in self.schema.fields:
            match field.kind:
                case "token":
                    row = next(looked_up)  # (B, D + 1)
                    vector, weight = row[:, : self.width], row[:, self.width :]
                case "token_seq":
                    total = next(looked_up).sum(1)  # (B, n, D + 1) -> (B, D + 1)
                    count = next(counts).clamp(min=1).to(total.dtype)[:, None]  # (B, 1)
                    vector, weight = total[:, : self.width] / count, total[:, self.width :]
                case "float":
                    row = next(values)[:, None] * next(float_rows)  # (B, D + 1)
                    vector, weight = row[:, : self.width], row[:, self.width :]
            fields.append(vector)
            weights.append(weight)
        stacked = torch.stack(fields, 1)  # (B, F, D)
        return stacked, torch.cat(weights, 1).sum(1) if self.first_order else None


class FieldModel(nn.Module):
    """What the models over `FieldVectors` answer in the same way: see `PointwiseModel`."""

    config: Any
    fields: FieldVectors

    @property
    def schema(self) -> FeatureSchema:
        return self.fields.schema

    @property
    def tables(self) -> Mapping[str, nn.Parameter]:
        return self.fields.tables

    @property
    def lookups(self) -> tuple[Lookup, ...]:
        return self.fields.lookups
