"""What RecBole's context-aware models have in common: tables for all fields, first-order weights, an MLP.

ours                                theirs, E `*embedding_table` and W `first_order_linear.*embedding_table`
fields.token_tables: token_seq      token_seq_E.j.weight, its column of weights token_seq_W.j.weight
fields.token_tables: token          rows of token_E.embedding.weight, where all token fields lie end to end
fields.numeric_table                every second row of float_E.embedding.weight: RecBole gives a float field two
bias                                first_order_linear.bias
mlp.layers.i                        mlp_layers.mlp_layers.(1 + 3 i), with batch normalization 1 + 4 i and the one behind

Fields come as RecBole concatenates them: token_seq, then token, then float; each in the order of the data's headers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...runtime.errors import InputError
from ...runtime.features import FeatureSchema, Field
from ..checkpoint import Checkpoint
from ..models.pointwise_protocol import PointwiseModel
from . import recbole
from .recbole_fields import RecboleData, RecboleField, read_recbole_data, split_sizes, vocabulary
from .teacher import LoadOptions, PointwiseTeacher
from .weights import Weights

TOKENS = "token_embedding_table.embedding.weight"
LISTS = "token_seq_embedding_table."
FLOATS = "float_embedding_table.embedding.weight"
FIRST_ORDER = "first_order_linear."
MLP = "mlp_layers.mlp_layers."
BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
BATCH_NORM_EPS = 1e-5
"""torch's default, which RecBole keeps."""
_FIELDS = re.compile(
    r"(first_order_linear\.)?((token|float)_embedding_table\.embedding|token_seq_embedding_table\.\d+)\.weight"
    r"|first_order_linear\.bias"
)


def knows_fields(key: str) -> bool:
    """Whether a key belongs to the fields' tables."""
    return _FIELDS.fullmatch(key) is not None


def knows_mlp(key: str, prefix: str = MLP) -> bool:
    """Whether a key belongs to an MLP."""
    return re.fullmatch(rf"{re.escape(prefix)}\d+\.({'|'.join(BATCH_NORM)})", key) is not None


class ContextFields:
    """The fields of one checkpoint, and their tables."""

    def __init__(self, checkpoint: Checkpoint, options: LoadOptions, weights: Weights) -> None:
        self.data = read_recbole_data(checkpoint, options.data)
        self.fields = [*self.data.of("token_seq"), *self.data.of("token"), *self.data.of("float")]
        self.width = recbole.setting(checkpoint, "embedding_size", int, None) or weights.size(TOKENS, 1)
        self._weights = weights

    @property
    def schema(self) -> FeatureSchema:
        return make_schema(self.data, self.fields)

    def take(self, *, first_order: bool) -> dict[str, Tensor]:
        """The model's parameters below `fields`, and `bias`; `first_order` says whether the model has that part."""
        vectors = self._tables("", self.width)
        weights = self._tables(FIRST_ORDER, 1)
        bias = self._weights.take(f"{FIRST_ORDER}bias", (1,))
        joined = (
            [torch.cat(pair, 1) for pair in zip(vectors, weights, strict=True)] if first_order else vectors
        )
        n_looked_up = len(self.fields) - len(self.data.of("float"))
        taken = {f"fields.token_tables.{i}": table for i, table in enumerate(joined[:n_looked_up])}
        if joined[n_looked_up:]:
            taken["fields.numeric_table"] = torch.cat(joined[n_looked_up:])
        return taken | ({"bias": bias} if first_order else {})

    def _tables(self, prefix: str, width: int) -> list[Tensor]:
        """One table a field, in the order of `fields`; one row for a float."""
        weights, tables = self._weights, list[Tensor]()
        for j, field in enumerate(self.data.of("token_seq")):
            key = f"{prefix}{LISTS}{j}.weight"
            split_sizes(self.data, [field], weights.size(key, 0), f"{weights.path}: {key}")
            tables.append(weights.take(key, (field.size, width)))
        tables += self._packed(f"{prefix}{TOKENS}", self.data.of("token"), width)
        if self.data.of("float"):
            tables += [rows[1:] for rows in self._packed(f"{prefix}{FLOATS}", self.data.of("float"), width)]
        return tables

    def _packed(self, key: str, fields: Sequence[RecboleField], width: int) -> list[Tensor]:
        weights = self._weights
        table = weights.take(key, (None, width))
        slices = split_sizes(self.data, fields, len(table), f"{weights.path}: {key}")
        return [table[rows].clone() for rows in slices]


def make_schema(data: RecboleData, fields: Sequence[RecboleField]) -> FeatureSchema:
    """The schema of these fields, in this order."""
    return FeatureSchema(fields=tuple(map(make_field, fields)), label=data.label)


def make_field(field: RecboleField) -> Field:
    """One field of a schema."""
    if field.kind == "float":
        return Field(name=field.name, kind="float", side=field.side, low=field.low, high=field.high)
    return Field(
        name=field.name, kind=field.kind, side=field.side, size=field.size, max_length=field.max_length
    )


def take_mlp(
    weights: Weights, ours: str, theirs: str, width: int, *, batch_norm: bool = False
) -> tuple[tuple[int, ...], dict[str, Tensor]]:
    """The widths behind each layer of an MLP of input `width`, and its parameters, batch norms folded in."""
    stride = 4 if batch_norm else 3
    numbers = [key.removeprefix(theirs).split(".")[0] for key in weights.unused if key.startswith(theirs)]
    found = [int(text) for text in numbers if text.isdecimal() and len(text) <= 6]
    if not found:
        raise InputError(f"{weights.path}: {theirs}1.weight is missing; is the checkpoint complete?")
    widths, taken = list[int](), dict[str, Tensor]()
    for i, number in enumerate(range(1, max(found) + 1, stride)):
        after = weights.size(f"{theirs}{number}.weight", 0)
        weight = weights.take(f"{theirs}{number}.weight", (after, width))
        bias = weights.take(f"{theirs}{number}.bias", (after,))
        if batch_norm:
            weight, bias = fold_batch_norm(weights, f"{theirs}{number + 1}.", weight, bias)
        taken |= {f"{ours}.layers.{i}.weight": weight, f"{ours}.layers.{i}.bias": bias}
        widths.append(after)
        width = after
    return tuple(widths), taken


def fold_batch_norm(weights: Weights, prefix: str, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """W and b of a linear layer and the batch normalization behind it, as one linear layer."""
    gain, shift, mean, variance = (weights.take(prefix + kind, tuple(bias.shape)) for kind in BATCH_NORM[:4])
    weights.leave(prefix + BATCH_NORM[4])
    if (variance < 0).any():
        raise InputError(f"{weights.path}: {prefix}running_var is negative; expected variances")
    scale = gain / (variance + BATCH_NORM_EPS).sqrt()
    return weight * scale[:, None], (bias - mean) * scale + shift


def linear_keys(**modules: str) -> dict[str, str]:
    """The checkpoint's key of each parameter of some linear layers: ours=theirs."""
    return {f"{a}.{kind}": f"{b}.{kind}" for a, b in modules.items() for kind in ("weight", "bias")}


def finish(
    checkpoint: Checkpoint,
    weights: Weights,
    model: PointwiseModel,
    data: RecboleData,
    fields: Sequence[RecboleField],
    *,
    name: str,
    layout: str,
    notes: Sequence[str] = (),
    same: Mapping[str, str] = {},
) -> PointwiseTeacher:
    """The teacher, with the user's tokens; raises `InputError` where tensors are left over.

    `same` names fields that have the vocabulary of another one.
    """
    vocabularies = {field.name: vocabulary(field) for field in fields if field.kind != "float"}
    recbole.refuse_leftovers(weights, name)
    return PointwiseTeacher(
        model=model,
        vocabularies=vocabularies | {name: vocabularies[other] for name, other in same.items()},
        threshold=data.threshold,
        layout=layout,
        source=checkpoint,
        notes=(*notes, "tokens: in order of first appearance in the data, as RecBole numbers them"),
    )
