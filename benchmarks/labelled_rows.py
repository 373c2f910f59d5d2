"""Labelled rows of features: what a pointwise model is trained on and measured by, encoded as its tables have them.

    NAME.inter            RecBole's atomic files, with NAME.user and NAME.item beside it: features are joined by id
    train.parquet         FuxiCTR's splits: train, valid and test in one folder, .parquet or .csv, all features in each row
    rows.parquet, .csv    any other table with the fields as columns: split by a seed

Parts: FuxiCTR's are given. RecBole's are cut as RecBole cuts them (`recbole_splits`), which is said in `described`. A
model whose user field is a list of earlier items gets, as RecBole makes it, a row for each event but a user's first, with
the events before it; other models get every event.

A row is positive where its label is at least the threshold; without a threshold the label is 0 or 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..runtime.errors import InputError
from ..runtime.features import FeatureSchema, Field
from ..runtime.item_ids import ItemIds
from ..runtime.vocabularies import token_rows
from .atomic_files import atomic_files_beside, read_atomic_file
from .implicit_rows import Questions, implicit_parts
from .recbole_splits import random_split, user_time_split

PARTS = ("train", "valid", "test")


class FeatureSpec(Protocol):
    """What is known of a model's features: an engine, or a checkpoint on its way into one."""

    @property
    def schema(self) -> FeatureSchema: ...
    @property
    def vocabularies(self) -> Mapping[str, ItemIds]: ...
    @property
    def threshold(self) -> float | None: ...
    @property
    def rows_in_data(self) -> bool: ...
    @property
    def item(self) -> str | None: ...
    @property
    def user(self) -> str | None: ...
    @property
    def history(self) -> str | None: ...


@dataclass(frozen=True, slots=True, eq=False)
class LabelledRows:
    """n encoded rows and their labels."""

    columns: Mapping[str, NDArray[Any]]
    """By field: int64 (n,), int64 (n, L) padded with 0, or float32 (n,)."""
    labels: NDArray[np.float32]
    """0 or 1: float32 (n,)."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.int64]) -> LabelledRows:
        """Some of the rows."""
        return LabelledRows({name: values[rows] for name, values in self.columns.items()}, self.labels[rows])


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSplits:
    """The three parts, and where they come from."""

    train: LabelledRows
    valid: LabelledRows
    test: LabelledRows
    described: dict[str, Any]
    """`file`, `sha256`, `rows` of each part, and `split`: how they were cut."""
    item_features: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """What the data say of every item, by item-side field and row of the item field; empty where they do not."""
    questions: Questions | None = None
    """Of implicit feedback: the test events, to be found in the whole catalogue."""


def read_labelled(path: Path, spec: FeatureSpec, *, seed: int = 2020) -> LabelledSplits:
    """Read and cut the data.

    Args:
        path: the .inter file, one of FuxiCTR's splits, or another table.
        seed: of a random cut; RecBole's default is 2020.

    Raises:
        InputError: a file or column is missing, a value is none that the field can have, or a part is left without rows
            of either label.
    """
    questions: Questions | None = None
    if path.suffix == ".inter" and spec.threshold is None and _has_only_ids(spec):
        parts, how, questions = _implicit(path, spec, seed)
        items = dict[str, NDArray[Any]]()
    elif path.suffix == ".inter":
        parts, how, items = _atomic(path, spec, seed)
    elif path.stem in PARTS and path.suffix in (".parquet", ".csv"):
        files = [path.with_name(f"{part}{path.suffix}") for part in PARTS]
        parts, how, items = [_table(file, spec) for file in files], {"kind": "files"}, {}
    elif path.suffix in (".parquet", ".csv"):
        rows = _table(path, spec)
        parts = [rows.take(part) for part in random_split(len(rows), seed)]
        how, items = {"kind": "random", "seed": seed}, {}
    else:
        raise InputError(
            f"{path}: expected RecBole's .inter, or FuxiCTR's train.parquet or train.csv with valid and test beside it"
        )
    for name, rows in zip(PARTS, parts, strict=True):
        if not 0 < rows.labels.sum() < len(rows):
            raise InputError(
                f"{path}: {len(rows)} {name} rows, {int(rows.labels.sum())} positive; expected rows of either label"
            )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    counted = {name: len(rows) for name, rows in zip(PARTS, parts, strict=True)}
    return LabelledSplits(
        train=parts[0],
        valid=parts[1],
        test=parts[2],
        described={"file": path.name, "sha256": digest, "rows": counted, "split": how},
        item_features=items,
        questions=questions,
    )


def _has_only_ids(spec: FeatureSpec) -> bool:
    """Whether the model reads a user and an item and nothing else, so that events without a label can be its rows."""
    return {field.name for field in spec.schema.fields} == {spec.user, spec.item}


def _implicit(
    path: Path, spec: FeatureSpec, seed: int
) -> tuple[list[LabelledRows], dict[str, Any], Questions]:
    inter = read_atomic_file(path).frame
    user, item = spec.schema.field(spec.user or ""), spec.schema.field(spec.item or "")
    for one in (user, item):
        if one.name not in inter.columns:
            raise InputError(
                f"{path}: has no column {one.name!r}; expected the data that the model was trained on"
            )
    inter = inter.drop_nulls([user.name, item.name])
    rows = [encode_column(inter[one.name], one, spec, path) for one in (user, item)]
    known = (rows[0] > 0) & (rows[1] > 0)
    drawn, questions = implicit_parts(
        rows[0][known], rows[1][known], _times(inter, path)[known], n_items=item.size, seed=seed
    )
    parts = [LabelledRows({user.name: part.users, item.name: part.items}, part.labels) for part in drawn]
    return parts, {"kind": "leave-one-out", "seed": seed}, questions


def _atomic(
    path: Path, spec: FeatureSpec, seed: int
) -> tuple[list[LabelledRows], dict[str, Any], dict[str, NDArray[Any]]]:
    files = {name: read_atomic_file(file) for name, file in atomic_files_beside(path).items()}
    if spec.user is None and spec.item is None:
        raise InputError(f"{path}: the model has neither a user nor an item field to join the features by")
    inter = files["inter"].frame
    keys: dict[str, str | None] = {"user": spec.user or "user_id", "item": spec.item}
    for key in keys.values():
        if key is not None and key not in inter.columns:
            raise InputError(
                f"{path}: has no column {key!r}; expected the data that the model was trained on"
            )
    inter = inter.drop_nulls([key for key in keys.values() if key is not None])
    for side, key in keys.items():
        if side in files and key is not None and key in files[side].frame.columns:
            files_side = (
                files[side].frame.drop_nulls([key]).unique(subset=[key], keep="first", maintain_order=True)
            )
            inter = inter.filter(pl.col(key).is_in(files_side[key].implode()))
    columns, items = dict[str, NDArray[Any]](), dict[str, NDArray[Any]]()
    for feature in spec.schema.fields:
        if feature.name == spec.history:
            continue
        if feature.name in inter.columns:
            columns[feature.name] = encode_column(inter[feature.name], feature, spec, path)
            continue
        side, key = feature.side, keys.get(feature.side)
        if side not in files or key is None or feature.name not in files[side].frame.columns:
            raise InputError(f"{path}: neither it nor the files beside it have a column {feature.name!r}")
        rows = files[side].frame.drop_nulls([key]).unique(subset=[key], keep="first", maintain_order=True)
        encoded = encode_column(rows[feature.name], feature, spec, path)
        place = {token: n for n, token in enumerate(rows[key])}
        columns[feature.name] = encoded[[place[token] for token in inter[key]]]
        if side == "item" and spec.item is not None:
            at = token_rows(spec.vocabularies[spec.item], rows[key].to_list())
            known = np.zeros((spec.schema.field(spec.item).size, *encoded.shape[1:]), encoded.dtype)
            known[at[at > 0]] = encoded[at > 0]
            items[feature.name] = known
    labels = _labels(inter, spec, path)
    users = inter[spec.user or "user_id"].rank("dense").to_numpy().astype(np.int64)
    if spec.history is None:
        rows = LabelledRows(columns, labels)
        return (
            [rows.take(part) for part in random_split(len(rows), seed)],
            {"kind": "recbole-random", "seed": seed},
            items,
        )
    times = _times(inter, path)
    columns[spec.history], follows = _histories(spec, columns, users, times)
    rows = LabelledRows(columns, labels).take(follows)
    parts = user_time_split(users[follows], times[follows])
    return [rows.take(part) for part in parts], {"kind": "recbole-user-time"}, items


def _histories(
    spec: FeatureSpec,
    columns: Mapping[str, NDArray[Any]],
    users: NDArray[np.int64],
    times: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The items before each event, int64 (n, L), and the events that have some, in the order of the file."""
    assert spec.history is not None
    assert spec.item is not None  # a history is one of items
    items, length = columns[spec.item], spec.schema.field(spec.history).max_length
    order = np.lexsort([times, users])
    before = np.zeros((len(items), length), np.int64)
    starts = np.flatnonzero(np.diff(users[order], prepend=-1))
    has_some = np.ones(len(items), bool)
    has_some[order[starts]] = False
    for rows in np.split(order, starts[1:]):
        for n in range(1, len(rows)):
            earlier = items[rows[max(0, n - length) : n]]
            before[rows[n], : len(earlier)] = earlier
    return before, np.flatnonzero(has_some)


def _times(inter: pl.DataFrame, path: Path) -> NDArray[np.float64]:
    floats = [name for name in ("timestamp", "time") if name in inter.columns]
    if not floats:
        raise InputError(f"{path}: has no column timestamp, which says what a history is")
    return inter[floats[0]].cast(pl.Float64).fill_null(0.0).to_numpy()


def _table(path: Path, spec: FeatureSpec) -> LabelledRows:
    try:
        frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected train, valid and test in one folder") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())[:100]})") from None
    absent = [f.name for f in spec.schema.fields if f.name not in frame.columns]
    if absent:
        raise InputError(f"{path}: has no column {absent[0]!r}; expected every field of the model")
    columns = {f.name: encode_column(frame[f.name], f, spec, path) for f in spec.schema.fields}
    return LabelledRows(columns, _labels(frame, spec, path))


def _labels(frame: pl.DataFrame, spec: FeatureSpec, path: Path) -> NDArray[np.float32]:
    name = spec.schema.label
    if name not in frame.columns:
        raise InputError(f"{path}: has no column {name!r}, the label that the model predicts")
    values = frame[name].cast(pl.Float64, strict=False).to_numpy()
    if spec.threshold is not None:
        return (values >= spec.threshold).astype(np.float32)
    if not np.isin(values, (0.0, 1.0)).all():
        raise InputError(f"{path}: {name} has other values than 0 and 1; give --label-threshold")
    return values.astype(np.float32)


def encode_column(column: pl.Series, feature: Field, spec: FeatureSpec, path: Path) -> NDArray[Any]:
    """A column of n raw values as the tables have it; raises `InputError` for values that are none of the field's."""
    if feature.kind == "float":
        numbers = column.cast(pl.Float64, strict=False).to_numpy()
        scaled = (numbers - feature.low) / (feature.high - feature.low)
        return np.where(np.isfinite(scaled), scaled, 0.0).astype(np.float32)
    if column.dtype.is_integer() and spec.rows_in_data:
        rows = column.to_numpy().astype(np.int64)
        if len(rows) and not (rows.min() >= 0 and rows.max() <= feature.size):
            raise InputError(f"{path}: {feature.name} has the row {rows.max()}, its tables {feature.size}")
        return np.where(rows == feature.size, 0, rows)
    vocabulary = spec.vocabularies[feature.name]
    if feature.kind == "token":
        values = column.unique(maintain_order=True)
        row_of = dict(zip(values.to_list(), token_rows(vocabulary, values.to_list()).tolist(), strict=True))
        return np.array([row_of[value] for value in column], np.int64)
    lists = column if column.dtype == pl.List else column.cast(pl.String).fill_null("").str.split(" ")
    found = [
        token_rows(vocabulary, [t for t in (tokens if tokens is not None else ()) if t != ""])
        for tokens in lists
    ]
    found = [rows[rows > 0][: feature.max_length] for rows in found]
    padded = np.zeros((len(found), max(1, *map(len, found)) if found else 1), np.int64)
    for n, rows in enumerate(found):
        padded[n, : len(rows)] = rows
    return padded
