"""What the compression steps know of a pointwise model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from ...runtime.features import FeatureSchema


@dataclass(frozen=True)
class Lookup:
    table: str
    field: str


@runtime_checkable
class PointwiseModel(Protocol):
    @property
    def config(self) -> Any: ...

    @property
    def schema(self) -> FeatureSchema: ...

    @property
    def tables(self) -> Mapping[str, nn.Parameter]: ...

    @property
    def lookups(self) -> tuple[Lookup, ...]: ...

    def logits(self, vectors: Sequence[Tensor], lengths: Tensor, numeric: Tensor) -> Tensor: ...
