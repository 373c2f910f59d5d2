"""What the compression steps know of a pointwise model.

A pointwise model scores one row of features at a time. Its tables are looked up outside: the network gets vectors,
never rows, so that tables can be stored and quantized on their own, and so that the runtime can gather them.

    logit(row) = network(tables[lookup.table][rows of lookup.field] for each lookup, lengths, numbers)

The probability is the sigmoid of the logit. Fields and their rows are those of `runtime.features`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from ...runtime.features import FeatureSchema


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """One gather of the network's inputs: the rows of a field out of a table.

    Several may share a field (NeuMF has two tables an id) or a table (DIN's candidate and history).
    """

    table: str
    field: str


@runtime_checkable
class PointwiseModel(Protocol):
    """A `torch.nn.Module` of the pointwise family. B rows, n list length, D width of a table, V its rows."""

    @property
    def config(self) -> Any:
        """A frozen dataclass that rebuilds the architecture: `type(model)(model.config)`."""
        ...

    @property
    def schema(self) -> FeatureSchema:
        """The fields, each with the number of its rows."""
        ...

    @property
    def tables(self) -> Mapping[str, nn.Parameter]:
        """float32 (V, D) each, by name: they are part of the module's parameters, and no network reads them."""
        ...

    @property
    def lookups(self) -> tuple[Lookup, ...]:
        """What is looked up, in the order of `vectors`; only token and token_seq fields."""
        ...

    def logits(self, vectors: Sequence[Tensor], lengths: Tensor, numeric: Tensor) -> Tensor:
        """The logit of every row. This is what is exported.

        Args:
            vectors: for each lookup float32 (B, D) of a token, or (B, n, D) of a token_seq with zeros beyond its end.
            lengths: int64 (B, S), how many of the n there are, a column for each lookup of a token_seq in order.
            numeric: float32 (B, N), the normalized numbers, a column for each float field in order.

        Returns:
            float32 (B,).
        """
        ...
