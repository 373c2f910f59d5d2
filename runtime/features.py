"""The fields of a pointwise model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Field:
    name: str
    kind: Literal["token", "token_seq", "float"]
    side: Literal["user", "item", "context"]
    size: int = 0
    max_length: int = 1
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True)
class FeatureSchema:
    fields: tuple[Field, ...]
    label: str
