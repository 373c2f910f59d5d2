"""What checkpoints of FuxiCTR 2.x have in common: plain state dicts, a table for each feature, an MLP.

ours                              theirs
fields.token_tables               embedding_layer.embedding_layer.embedding_layers.NAME.weight, its column of weights
                                  below lr_layer; their last row first, without their row 0 (see `fuxictr_fields`)
fields.numeric_table              the same keys, a column each: FuxiCTR makes a linear layer for a numeric feature
mlp.layers.i, output              PREFIX.mlp.n, batch norms folded in; n skips activations and dropouts

Fields come in the order of the keys, which is that of FuxiCTR's concatenation. Neither file says what the activations
are: ReLU, FuxiCTR's default, is assumed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ...runtime.errors import InputError
from ...runtime.features import FeatureSchema, Field
from ..checkpoint import Checkpoint
from ..models.pointwise_protocol import PointwiseModel
from .fuxictr_fields import FuxictrField, read_fuxictr_data, vocabulary
from .recbole_context import BATCH_NORM, fold_batch_norm
from .teacher import LoadOptions, PointwiseTeacher
from .weights import Weights

VECTORS = "embedding_layer.embedding_layer.embedding_layers."
ASSUMED = "activations: ReLU assumed (FuxiCTR's default), the file does not say"


def knows_fields(key: str, lr_layer: str = "") -> bool:
    """Whether a key belongs to the features' tables; `lr_layer` is the prefix of their first-order weights."""
    if lr_layer and key.startswith(lr_layer):
        return key == f"{lr_layer}bias" or knows_fields(key.removeprefix(lr_layer))
    return key.startswith(VECTORS) and re.fullmatch(r"[^.]+\.weight", key.removeprefix(VECTORS)) is not None


def knows_mlp(key: str, prefix: str) -> bool:
    """Whether a key belongs to an MLP."""
    return re.fullmatch(rf"{re.escape(prefix)}\d+\.({'|'.join(BATCH_NORM)})", key) is not None


class FuxictrFields:
    """The fields of one checkpoint, and their tables."""

    def __init__(self, checkpoint: Checkpoint, options: LoadOptions, weights: Weights) -> None:
        self.data = read_fuxictr_data(checkpoint, options.data)
        names = [
            key.removeprefix(VECTORS).removesuffix(".weight") for key in weights.unused if knows_fields(key)
        ]
        unknown = [name for name in names if name not in self.data.fields]
        if unknown:
            raise InputError(
                f"{self.data.path}: has no feature {unknown[0]!r:.60}, but {checkpoint.path.name} has; "
                "expected the feature map of the data it was trained on"
            )
        self.fields = [self.data.fields[name] for name in names]
        self._weights = weights
        self.width = self._take_width()

    @property
    def schema(self) -> FeatureSchema:
        return FeatureSchema(fields=tuple(map(_schema_field, self.fields)), label=self.data.label)

    def check_input(self, key: str) -> int:
        """How many values an MLP reads whose first weight is `key`; raises `InputError` where the fields have others."""
        expected, got = len(self.fields) * self.width, self._weights.size(key, 1)
        if got != expected:
            left = [name for name in self.data.fields if name not in {field.name for field in self.fields}]
            hint = f"; {', '.join(left[:3])} of {self.data.path} are not in it" if left else ""
            raise InputError(
                f"{self._weights.path}: {key} reads {got} values, but its {len(self.fields)} features have "
                f"{expected}; is the checkpoint complete?{hint}"
            )
        return expected

    def take(self, *, lr_layer: str = "") -> dict[str, Tensor]:
        """The model's parameters below `fields`; with first-order weights where `lr_layer` is their prefix."""
        tables = self._tables(VECTORS, self.width)
        if lr_layer:
            tables = [
                torch.cat(pair, 1) for pair in zip(tables, self._tables(lr_layer + VECTORS, 1), strict=True)
            ]
        by_kind = {
            floats: [t for t, f in zip(tables, self.fields, strict=True) if (f.kind == "float") == floats]
            for floats in (False, True)
        }
        taken = {f"fields.token_tables.{i}": table for i, table in enumerate(by_kind[False])}
        return taken | ({"fields.numeric_table": torch.cat(by_kind[True])} if by_kind[True] else {})

    def _take_width(self) -> int:
        if not self.fields:
            raise InputError(f"{self._weights.path}: {VECTORS}* are missing; is the checkpoint complete?")
        first = self.fields[0]
        return self._weights.size(f"{VECTORS}{first.name}.weight", 0 if first.kind == "float" else 1)

    def _tables(self, prefix: str, width: int) -> list[Tensor]:
        """One table a field, in the order of `fields`; one row for a float."""
        return [self._table(f"{prefix}{field.name}.weight", field, width) for field in self.fields]

    def _table(self, key: str, field: FuxictrField, width: int) -> Tensor:
        if field.kind == "float":
            return self._weights.take(key, (width, 1)).T.contiguous()
        theirs = self._weights.take(key, (field.size + 1, width))
        return torch.cat([theirs[-1:], theirs[1:-1]])


def take_mlp(
    weights: Weights, prefix: str, fields: FuxictrFields, *, scores: bool = True
) -> tuple[tuple[int, ...], dict[str, Tensor]]:
    """The hidden widths of an MLP over all fields, and its parameters.

    Its last layer is the model's `output` where it `scores`, with one number a row, else the last of `mlp`.
    """
    found = {key.removeprefix(prefix).split(".")[0] for key in weights.unused if key.startswith(prefix)}
    numbers = sorted(int(text) for text in found if text.isdecimal() and len(text) <= 6)
    layers, width = list[tuple[int, Tensor, Tensor]](), fields.check_input(f"{prefix}0.weight")
    for number in numbers:
        key = f"{prefix}{number}."
        if f"{key}running_mean" not in weights.unused:
            after = weights.size(f"{key}weight", 0)
            layers.append(
                (number, weights.take(f"{key}weight", (after, width)), weights.take(f"{key}bias", (after,)))
            )
            width = after
        elif layers:
            last, weight, bias = layers[-1]
            layers[-1] = (last, *fold_batch_norm(weights, key, weight, bias))
        else:
            raise InputError(
                f"{weights.path}: {key}running_mean: normalization of the input is not supported"
            )
    steps = {after - before for (before, *_), (after, *_) in pairwise(layers)}
    if len(layers) < 1 + scores or layers[0][0] != 0 or len(steps) > 1:
        raise InputError(
            f"{weights.path}: {prefix}* has linear layers {[number for number, *_ in layers][:9]}; "
            f"expected {1 + scores} and more, from 0 at even distances"
        )
    if scores and len(layers[-1][2]) != 1:
        raise InputError(
            f"{weights.path}: {prefix}{layers[-1][0]} has {len(layers[-1][2])} outputs; expected 1"
        )
    n_hidden = len(layers) - scores
    names = [*(f"mlp.layers.{i}" for i in range(n_hidden)), "output"][: len(layers)]
    taken: dict[str, Tensor] = {}
    for name, (_, weight, bias) in zip(names, layers, strict=True):
        taken |= {f"{name}.weight": weight, f"{name}.bias": bias}
    return tuple(len(bias) for _, _, bias in layers[:n_hidden]), taken


def refuse_heads(checkpoint: Checkpoint, options: LoadOptions, model: str) -> None:
    """Refuse a number of attention heads for a model that has none."""
    if options.n_heads is not None:
        raise InputError(
            f"{checkpoint.path}: {options.n_heads} heads asked for, but a {model} has none; leave the option out"
        )


def finish(
    checkpoint: Checkpoint,
    weights: Weights,
    model: PointwiseModel,
    fields: FuxictrFields,
    *,
    name: str,
    layout: str,
    notes: Sequence[str] = (),
) -> PointwiseTeacher:
    """The teacher; raises `InputError` where tensors are left over."""
    if weights.unused:
        raise InputError(
            f"{checkpoint.path}: {weights.unused[0]} and {len(weights.unused) - 1} more tensors are not {name}'s; "
            "it is another model of FuxiCTR"
        )
    return PointwiseTeacher(
        model=model,
        vocabularies={field.name: vocabulary(field) for field in fields.fields if field.kind != "float"},
        threshold=None,
        rows_in_data=True,
        layout=layout,
        source=checkpoint,
        notes=tuple(notes),
    )


def _schema_field(field: FuxictrField) -> Field:
    if field.kind == "float":
        return Field(name=field.name, kind="float", side=field.side)
    return Field(
        name=field.name, kind=field.kind, side=field.side, size=field.size, max_length=field.max_length
    )
