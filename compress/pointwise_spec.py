"""What compression knows of a pointwise checkpoint's features, beside the model: `benchmarks.labelled_rows.FeatureSpec`."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping

import numpy as np
import torch

from ..runtime.errors import InputError
from ..runtime.features import FeatureSchema, Field
from ..runtime.item_ids import ItemIds
from .layouts import PointwiseTeacher
from .models.pointwise_protocol import PointwiseModel


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PointwiseSpec:
    """The features as the bundle will know them."""

    schema: FeatureSchema
    vocabularies: Mapping[str, ItemIds]
    threshold: float | None
    rows_in_data: bool
    item: str | None
    user: str | None
    history: str | None


def spec_of(
    teacher: PointwiseTeacher,
    *,
    item: str | None = None,
    user: str | None = None,
    threshold: float | None = None,
) -> PointwiseSpec:
    """The spec of a teacher; names of the id fields where the user knows them, a threshold of the label likewise.

    RecBole's first token field of a side is its id; FuxiCTR's files do not say which one is.

    Raises:
        InputError: the model has no token field of that name.
    """
    schema = teacher.model.schema
    for name in (item, user):
        if name is not None and schema.field(name).kind != "token":
            raise InputError(f"field {name!r}: is a {schema.field(name).kind}, expected a token field of ids")
    item = item or (_first(schema, "item") if not teacher.rows_in_data else None)
    user = user or (_first(schema, "user") if not teacher.rows_in_data else None)
    return PointwiseSpec(
        schema=schema,
        vocabularies=teacher.vocabularies,
        threshold=teacher.threshold if threshold is None else threshold,
        rows_in_data=teacher.rows_in_data,
        item=item,
        user=user,
        history=_history(teacher.model, item),
    )


def sort_tokens(teacher: PointwiseTeacher) -> PointwiseTeacher:
    """The same model with the rows of integer tokens in ascending order: 1, 2, 3, ... then costs no bytes.

    Rows of tables move together with the tokens, so nothing else changes. Text stays in its order.
    """
    model, vocabularies = copy.deepcopy(teacher.model), dict(teacher.vocabularies)
    orders: dict[int, tuple[ItemIds, np.ndarray]] = {}
    for ids in {id(ids): ids for ids in vocabularies.values()}.values():
        tokens = ids.ids(range(len(ids)))
        if ids.kind == "int64":
            order = np.argsort(np.array(tokens, np.int64), kind="stable")
            orders[id(ids)] = (
                ItemIds.from_sequence([tokens[n] for n in order]),
                np.concatenate([[0], order + 1]),
            )
    moved = set[str]()
    for lookup in model.lookups:
        found = orders.get(id(teacher.vocabularies[lookup.field]))
        if found is None or lookup.table in moved:
            continue
        moved.add(lookup.table)
        with torch.no_grad():
            table = model.tables[lookup.table]
            table.copy_(table[torch.from_numpy(found[1])].clone())
    for name, ids in teacher.vocabularies.items():
        if id(ids) in orders:
            vocabularies[name] = orders[id(ids)][0]
    return dataclasses.replace(teacher, model=model, vocabularies=vocabularies)


def _first(schema: FeatureSchema, side: str) -> str | None:
    fields: list[Field] = [field for field in schema.fields if field.kind == "token" and field.side == side]
    return fields[0].name if fields else None


def _history(model: PointwiseModel, item: str | None) -> str | None:
    """The user's list of items: it reads a table that the item itself reads."""
    tables = {lookup.table for lookup in model.lookups if lookup.field == item}
    for lookup in model.lookups:
        field = model.schema.field(lookup.field)
        if lookup.table in tables and field.kind == "token_seq" and field.side == "user":
            return field.name
    return None
