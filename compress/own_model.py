"""A model of the user's own: `--model package.module:factory` beside a plain state dict.

The factory (`own_factory`) returns an `nn.Module` that follows `models.protocol.SequenceModel` or, where it has `logits`,
`models.pointwise_protocol.PointwiseModel`. Beside the protocol's members, the module says whose rows its tables are:

    item_ids       of a sequence model, optional: the user's id of each row of the item table; 1 to N otherwise
    vocabularies   of a pointwise model: {field: the user's tokens of rows 1 and on} for each token and token_seq field
    threshold      of a pointwise model, optional: a row is positive where its label is at least this; the label is 0 or 1
                   otherwise
"""

from __future__ import annotations

import dataclasses
from os import PathLike
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..runtime.errors import InputError
from ..runtime.features import FeatureSchema
from ..runtime.item_ids import ItemIds
from .checkpoint import Checkpoint, read_checkpoint
from .layouts import PointwiseTeacher, Teacher
from .models.pointwise_protocol import PointwiseModel
from .models.protocol import SequenceModel
from .own_factory import load_own_weights, make_own_module, run_own

LAYOUT = "own-model"
"""What the manifest records for a layout."""
AGREEMENT = 1e-3
"""Largest difference of `encode` and `hidden_states`, as a share of the largest value: they sum in another order, and a
wrong position is off by as much as the values themselves."""
SEQUENCE = ("config", "max_length", "width", "item_table", "item_bias", "hidden_states", "encode")
POINTWISE = ("config", "schema", "tables", "lookups", "logits", "vocabularies")


def load_own_model(path: str | PathLike[str], factory: str) -> Teacher | PointwiseTeacher:
    """The teacher that `factory`, "package.module:attribute", makes of the checkpoint's tensors.

    Raises:
        InputError: no such factory, its code failed, what it made follows no protocol, or the tensors do not fit it.
    """
    checkpoint = read_checkpoint(path)
    module = make_own_module(factory, checkpoint)
    if hasattr(module, "logits"):
        return _pointwise_teacher(factory, module, checkpoint)
    return _sequence_teacher(factory, module, checkpoint)


def _sequence_teacher(name: str, module: nn.Module, checkpoint: Checkpoint) -> Teacher:
    model = _sequence_model(name, module)
    load_own_weights(name, checkpoint, module)
    module.float().eval()
    _check_encoding(name, model)
    notes = list[str]()
    listed = getattr(model, "item_ids", None)
    n_items = len(model.item_table)
    if listed is None:
        listed = range(1, n_items + 1)
        notes.append(f"item ids: 1 to {n_items} assumed; an attribute item_ids of the model says otherwise")
    if len(listed) != n_items:
        raise InputError(
            f"--model {name}: item_ids has {len(listed)} ids; expected one for each of {n_items} items"
        )
    ids = ItemIds.from_sequence(listed)
    return Teacher(model=model, item_ids=ids, layout=LAYOUT, source=checkpoint, notes=tuple(notes))


def _pointwise_teacher(name: str, module: nn.Module, checkpoint: Checkpoint) -> PointwiseTeacher:
    _check_members(name, module, POINTWISE)
    load_own_weights(name, checkpoint, module)
    module.float().eval()
    model = cast(PointwiseModel, module)
    vocabularies = _vocabularies(name, model)
    _check_logits(name, model)
    threshold: Any = getattr(model, "threshold", None)
    return PointwiseTeacher(
        model=model,
        vocabularies=vocabularies,
        threshold=None if threshold is None else float(threshold),
        layout=LAYOUT,
        source=checkpoint,
    )


def _check_members(name: str, module: nn.Module, members: tuple[str, ...]) -> None:
    missing = [member for member in members if not hasattr(module, member)]
    if missing:
        raise InputError(
            f"--model {name}: {type(module).__name__} has no {', '.join(missing)}; "
            "expected what docs/your-own-model.md lists"
        )
    config: Any = module.config
    if not dataclasses.is_dataclass(config):
        raise InputError(
            f"--model {name}: config is a {type(config).__name__}; expected a frozen dataclass of plain values"
        )


def _sequence_model(name: str, module: nn.Module) -> SequenceModel:
    """What the factory made, if it is a sequence model."""
    _check_members(name, module, SEQUENCE)
    model = cast(SequenceModel, module)
    table = dict(module.named_parameters(recurse=False)).get("item_table")
    if table is None or tuple(table.shape) != (len(table), model.width):
        got = "no parameter" if table is None else f"of shape {tuple(table.shape)}"
        raise InputError(
            f"--model {name}: item_table is {got}; expected an nn.Parameter of the module itself, (items, {model.width})"
        )
    return model


def _check_encoding(name: str, model: SequenceModel) -> None:
    """`encode` gives a user vector, and `hidden_states` the same at the last item."""
    n = max(1, min(3, model.max_length))
    rows = torch.arange(2 * n).reshape(2, n) % len(model.item_table)
    with torch.no_grad():
        vectors = model.item_table[rows]
        users: Any = run_own(name, lambda: model.encode(vectors))
        states: Any = run_own(name, lambda: model.hidden_states(vectors, torch.full((2,), n)))
    for what, got, expected in (
        ("encode", users, (2, model.width)),
        ("hidden_states", states, (2, n, model.width)),
    ):
        if not isinstance(got, Tensor) or tuple(got.shape) != expected or not bool(got.isfinite().all()):
            shape = f"of shape {tuple(got.shape)}" if isinstance(got, Tensor) else type(got).__name__
            raise InputError(
                f"--model {name}: {what} of {tuple(vectors.shape)} gave {shape}; expected finite numbers, {expected}"
            )
    difference = float((states[:, -1] - users).abs().max() / users.abs().max().clamp(min=1e-12))
    if difference > AGREEMENT:
        raise InputError(
            f"--model {name}: hidden_states at the last item and encode differ by {difference:.1%}; "
            "expected the same user vector (is it in eval mode, without dropout?)"
        )


def _vocabularies(name: str, model: PointwiseModel) -> dict[str, ItemIds]:
    """The tokens of each field, each as long as its field and as the tables that it is looked up in."""
    schema: Any = model.schema
    if not isinstance(schema, FeatureSchema):
        raise InputError(f"--model {name}: schema is a {type(schema).__name__}; expected a FeatureSchema")
    given: Any = cast(Any, model).vocabularies
    found: dict[str, ItemIds] = {}
    for field in schema.of("token", "token_seq"):
        if field.name not in given:
            raise InputError(
                f"--model {name}: vocabularies has no {field.name}; expected its tokens, in order"
            )
        found[field.name] = ItemIds.from_sequence(given[field.name])
        if len(found[field.name]) + 1 != field.size:
            raise InputError(
                f"--model {name}: {len(found[field.name])} tokens of {field.name}; expected {field.size - 1}, one for each "
                "row but the first, which is any other token's"
            )
    for lookup in model.lookups:
        table = model.tables.get(lookup.table)
        rows = schema.field(lookup.field).size
        if table is None or table.dim() != 2 or len(table) != rows:
            got = "missing" if table is None else f"of shape {tuple(table.shape)}"
            raise InputError(
                f"--model {name}: table {lookup.table} is {got}; expected {rows} rows of {lookup.field}"
            )
    return found


def _check_logits(name: str, model: PointwiseModel) -> None:
    """Two rows make two finite logits."""
    vectors, lengths = list[Tensor](), list[Tensor]()
    with torch.no_grad():
        for lookup in model.lookups:
            table, field = model.tables[lookup.table].detach(), model.schema.field(lookup.field)
            if field.kind == "token":
                vectors.append(table[:2].expand(2, -1))
            else:
                vectors.append(table[:1].expand(2, field.max_length, -1))
                lengths.append(torch.full((2,), field.max_length))
        numeric = torch.zeros(2, len(model.schema.of("float")))
        counts = torch.stack(lengths, 1) if lengths else torch.zeros(2, 0, dtype=torch.int64)
        logits: Any = run_own(name, lambda: model.logits(vectors, counts, numeric))
    if not isinstance(logits, Tensor) or tuple(logits.shape) != (2,) or not bool(logits.isfinite().all()):
        shape = f"of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"--model {name}: logits of 2 rows gave {shape}; expected 2 finite numbers, (2,)")
