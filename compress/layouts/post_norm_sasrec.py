"""The part that S3-Rec's and RecBole's SASRec share: the same modules under two sets of names.

ours                      S3-Rec                                          RecBole
item_table                item_embeddings.weight                          item_embedding.weight
position_table            position_embeddings.weight                      position_embedding.weight
norm                      LayerNorm                                       LayerNorm
layers.i.attention.q      item_encoder.layer.i.attention.query            trm_encoder.layer.i.multi_head_attention.query
         .k .v .out            .key .value .dense                              .key .value .dense
layers.i.attention_norm        .LayerNorm                                      .LayerNorm
layers.i.dense_1          item_encoder.layer.i.intermediate.dense_1       trm_encoder.layer.i.feed_forward.dense_1
         .dense_2 .dense_norm  .dense_2 .LayerNorm                             .dense_2 .LayerNorm
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from ...runtime.errors import InputError
from ..models.sasrec import SASRec, SASRecConfig
from .assemble import assemble, make_config, take_items
from .weights import Weights

_MODULES = {
    "attention.q": "{attention}.query",
    "attention.k": "{attention}.key",
    "attention.v": "{attention}.value",
    "attention.out": "{attention}.dense",
    "attention_norm": "{attention}.LayerNorm",
    "dense_1": "{feed_forward}.dense_1",
    "dense_2": "{feed_forward}.dense_2",
    "dense_norm": "{feed_forward}.LayerNorm",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """One framework's names."""

    items: str
    positions: str
    layers: str
    attention: str
    feed_forward: str

    def keys(self, n_layers: int) -> dict[str, str]:
        """The checkpoint's key of each of our parameters."""
        modules = {"norm": "LayerNorm"}
        for i in range(n_layers):
            for ours, theirs in _MODULES.items():
                name = theirs.format(attention=self.attention, feed_forward=self.feed_forward)
                modules[f"layers.{i}.{ours}"] = f"{self.layers}.{i}.{name}"
        parameters = {f"{a}.{kind}": f"{b}.{kind}" for a, b in modules.items() for kind in ("weight", "bias")}
        return {"item_table": self.items, "position_table": self.positions, **parameters}

    def knows(self, key: str) -> bool:
        """Whether the key is of this naming, whatever its layer."""
        return re.sub(rf"^({re.escape(self.layers)})\.\d+\.", r"\1.0.", key) in self.keys(1).values()

    def matches(self, keys: Collection[str]) -> bool:
        """Whether there is any layer of this naming, complete or not."""
        return any(key.startswith(f"{self.layers}.") and self.knows(key) for key in keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the weights do not say."""

    n_heads: int
    positions: Literal["end", "start"]
    activation: str = "gelu"
    eps: float = 1e-12
    dropout: float = 0.5
    """S3-Rec's default; only a teacher that is trained on has a use for it."""


def read_post_norm_sasrec(
    weights: Weights, naming: Naming, facts: Facts, *, rows_before: int, rows_after: int
) -> SASRec:
    """The model, in eval mode. `rows_before` and `rows_after` rows of the item table are no items and are dropped.

    Raises:
        InputError: a tensor is missing or misshapen, or heads do not divide the width.
    """
    numbers = sorted({int(m[1]) for key in weights.unused if (m := _layer(naming, key))})
    if numbers != list(range(len(numbers))) or not numbers:
        raise InputError(
            f"{weights.path}: layers are numbered {numbers[:9]}; expected 0 to {len(numbers) - 1}"
        )
    keys = naming.keys(len(numbers))
    width = weights.size(keys["norm.weight"], 0)
    if facts.n_heads < 1 or width % facts.n_heads:
        raise InputError(
            f"{weights.path}: {facts.n_heads} heads do not divide the width {width}; give its number of heads"
        )
    _, table, _ = take_items(weights, naming.items, width, before=rows_before, after=rows_after)
    config = make_config(
        weights,
        SASRecConfig,
        n_items=len(table),
        width=width,
        n_layers=len(numbers),
        n_heads=facts.n_heads,
        inner_widths=tuple(weights.size(keys[f"layers.{i}.dense_1.bias"], 0) for i in numbers),
        max_length=weights.size(naming.positions, 0),
        positions=facts.positions,
        activation=facts.activation,
        eps=facts.eps,
        dropout=facts.dropout,
    )
    return assemble(weights, SASRec, config, keys, {"item_table": table})


def _layer(naming: Naming, key: str) -> re.Match[str] | None:
    return re.match(rf"{re.escape(naming.layers)}\.(\d{{1,6}})\.", key)
