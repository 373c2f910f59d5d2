"""A click model of the user's own: a factorization machine over a user, an item and a price.

logit = b + user . item + weight price

pocketrec compress weights.pt --model own_pointwise_model:make --data clicks.csv -o own.pocket
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pocketrec.compress.models.pointwise_protocol import Lookup
from pocketrec.runtime.features import FeatureSchema, Field

USERS = ["ann", "bob", "eve"]
ITEMS = [10, 20, 30, 40]
"""The tokens of rows 1 and on, in the order of training; row 0 is whoever training never saw."""


@dataclasses.dataclass(frozen=True)
class MachineConfig:
    n_users: int = len(USERS) + 1
    n_items: int = len(ITEMS) + 1
    width: int = 8


class Machine(nn.Module):
    lookups = (Lookup(table="users", field="user"), Lookup(table="items", field="item"))
    vocabularies = {"user": USERS, "item": ITEMS}  # noqa: RUF012 (no one writes to it)
    threshold = None  # the label is 0 or 1

    def __init__(self, config: MachineConfig) -> None:
        super().__init__()
        self.config = config
        self.users = nn.Parameter(torch.zeros(config.n_users, config.width))
        self.items = nn.Parameter(torch.zeros(config.n_items, config.width))
        self.bias = nn.Parameter(torch.zeros(1))
        self.price = nn.Linear(1, 1, bias=False)

    @property
    def schema(self) -> FeatureSchema:
        fields = (
            Field(name="user", kind="token", side="user", size=self.config.n_users),
            Field(name="item", kind="token", side="item", size=self.config.n_items),
            Field(name="price", kind="float", side="item", low=0.0, high=100.0),
        )
        return FeatureSchema(fields=fields, label="click")

    @property
    def tables(self) -> dict[str, nn.Parameter]:
        return {"users": self.users, "items": self.items}

    def logits(self, vectors: Sequence[Tensor], lengths: Tensor, numeric: Tensor) -> Tensor:
        """(B, D) for each lookup, numbers (B, 1) already between 0 and 1 -> (B,)."""
        users, items = vectors
        return self.bias + (users * items).sum(1) + self.price(numeric)[:, 0]


def make() -> Machine:
    return Machine(MachineConfig())
