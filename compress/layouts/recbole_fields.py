"""Which fields a model of RecBole's with features has, and the vocabulary of each, from the data it was trained on.

A checkpoint holds tables, packed end to end, and no word on what their rows are. RecBole numbers the tokens of a field
in order of first appearance, from 1 (0 pads and stands for a missing value): ids of users and items first in the
`.inter` file, then in `.user` or `.item`; every other field in the file that has it. What it loads, leaves out and
makes the label of is in the checkpoint's settings; where they are silent, RecBole's defaults hold.

Fields come in the order of the headers: `.inter`, `.user`, `.item`. Source: RecBole 1.2.1, `recbole.data.dataset`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...benchmarks.atomic_files import AtomicFile, atomic_files_beside, read_atomic_file
from ...runtime.errors import InputError
from ...runtime.item_ids import ItemIds
from ..checkpoint import Checkpoint
from . import recbole

Source = Literal["inter", "user", "item"]
UNSUPPORTED = ("alias_of_user_id", "alias_of_item_id", "discretization", "benchmark_filename")
"""Settings that number tokens or values in another way."""
FILTERS = ("rm_dup_inter", "val_interval", "user_inter_num_interval", "item_inter_num_interval")
"""Settings that drop rows before tokens are numbered: the user has to give what was left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecboleField:
    """One field that the models see."""

    name: str
    kind: Literal["token", "token_seq", "float"]
    source: Source
    """The file that has it; the ids of users and items count as `user` and `item`."""
    tokens: tuple[str, ...] = ()
    """Token i has the id i + 1; empty for a float."""
    max_length: int = 1
    """Longest list of a token_seq field."""
    low: float = 0.0
    high: float = 1.0
    """A float's range in the data, which RecBole maps to 0..1; 0 and 1 where it does not."""

    @property
    def size(self) -> int:
        """Rows of its table: its tokens and the padding, or the two rows that RecBole gives to a float."""
        return 2 if self.kind == "float" else len(self.tokens) + 1

    @property
    def side(self) -> Literal["user", "item", "context"]:
        """Whom it describes."""
        return "context" if self.source == "inter" else self.source


@dataclass(frozen=True, slots=True, kw_only=True)
class RecboleData:
    """The data set that a checkpoint was trained on, as its settings load it."""

    path: Path
    user: str
    item: str
    """Names of the two id fields."""
    label: str
    """The column that says what is to be predicted."""
    threshold: float | None
    """A row is positive where the label is at least this; None: the label is 0 or 1."""
    fields: tuple[RecboleField, ...]
    item_frame: pl.DataFrame | None
    """The `.item` file's rows, None where it is not there or not loaded."""
    filters: tuple[str, ...] = ()
    """Of `FILTERS`, those that the settings use."""

    def field(self, name: str) -> RecboleField:
        return next(field for field in self.fields if field.name == name)

    def of(self, kind: str) -> list[RecboleField]:
        """The fields of one kind."""
        return [field for field in self.fields if field.kind == kind]


def read_recbole_data(checkpoint: Checkpoint, path: Path | None) -> RecboleData:
    """The fields of the checkpoint, from the `.inter` file at `path` and the files beside it.

    Raises:
        InputError: there is no file, it does not fit the settings, or they ask for what is not supported.
    """
    if path is None:
        raise InputError(
            f"{checkpoint.path}: the file does not say which row of its tables is which token; "
            "give the .inter file it was trained on, with .user and .item beside it"
        )
    for name in UNSUPPORTED:
        if checkpoint.settings.get(name):
            raise InputError(f"{checkpoint.path}: its setting {name} is not supported; expected none")
    files = _load(checkpoint, atomic_files_beside(path))
    if "inter" not in files:
        raise InputError(f"{path.with_suffix('.inter')}: no such file; expected the interactions")
    user = recbole.setting(checkpoint, "USER_ID_FIELD", str, "user_id")
    item = recbole.setting(checkpoint, "ITEM_ID_FIELD", str, "item_id")
    files = _filtered(checkpoint, files, user, item)
    label, threshold = _label(checkpoint)
    dropped = {label} if threshold is not None else {recbole.setting(checkpoint, "LABEL_FIELD", str, "label")}
    dropped |= set(_listed(checkpoint, "unused_col"))
    fields: dict[str, RecboleField] = {}
    numerical = recbole.setting(checkpoint, "numerical_features", list, [])
    for source, file in files.items():
        for name, type_ in file.types.items():
            if name in dropped or name in fields or (type_.startswith("float") and name not in numerical):
                continue
            fields[name] = _field(checkpoint, files, source, name, user=user, item=item)
    return RecboleData(
        path=path,
        user=user,
        item=item,
        label=label,
        threshold=threshold,
        fields=tuple(fields.values()),
        item_frame=files["item"].frame if "item" in files else None,
        filters=tuple(name for name in FILTERS if checkpoint.settings.get(name) not in (None, "[0,inf)")),
    )


def vocabulary(field: RecboleField) -> ItemIds:
    """The tokens of rows 1 and on: integers where each is the plain decimal form of one, as in interactions.

    >>> vocabulary(RecboleField(name="age", kind="token", source="user", tokens=("24", "53"))).ids([0])
    [24]
    """
    tokens = field.tokens
    plain = all(token.isascii() and token.isdecimal() and str(int(token)) == token for token in tokens)
    return ItemIds.from_sequence([int(token) for token in tokens] if plain else tokens)


def split_sizes(data: RecboleData, fields: Sequence[RecboleField], n_rows: int, where: str) -> list[slice]:
    """Where each field's rows lie in a table of `n_rows` that RecBole packed; raises `InputError` if they do not fit."""
    ends = np.cumsum([0, *(field.size for field in fields)]).tolist()
    if ends[-1] != n_rows:
        sizes = ", ".join(f"{field.name} {field.size}" for field in fields)
        hint = (
            f"; its settings drop rows ({', '.join(data.filters)}), give what was left"
            if data.filters
            else ""
        )
        raise InputError(
            f"{where} has {n_rows} rows, but the fields of {data.path} need {ends[-1]} ({sizes}); "
            f"expected the very files it was trained on, whole and in their order{hint}"
        )
    return [slice(a, b) for a, b in pairwise(ends)]


def item_rows(data: RecboleData, field: RecboleField) -> NDArray[np.int64]:
    """The ids that every item has in one of its token fields: int64 (items + 1, longest), padded with 0.

    Row 0 is the item that pads; an item that the `.item` file does not have has none.
    """
    items = data.field(data.item)
    if field.name == data.item:
        return np.arange(items.size, dtype=np.int64)[:, None]
    found = np.zeros((items.size, field.max_length), np.int64)
    assert data.item_frame is not None  # a field of items comes from that file
    row_of = {token: row for row, token in enumerate(items.tokens, 1)}
    id_of = {token: id_ for id_, token in enumerate(field.tokens, 1)}
    for token, values in data.item_frame.select(data.item, field.name).iter_rows():
        ids = [
            id_of[value] for value in (values if isinstance(values, list) else [values]) if value is not None
        ]
        found[row_of[token], : len(ids)] = ids[: field.max_length]
    return found


def item_values(data: RecboleData, field: RecboleField) -> NDArray[np.float32]:
    """The normalized value that every item has in one of its float fields: float32 (items + 1,), missing as the mean."""
    assert data.item_frame is not None
    items = data.field(data.item)
    row_of = {token: row for row, token in enumerate(items.tokens, 1)}
    values = np.full(items.size, np.nan)
    for token, value in data.item_frame.select(data.item, field.name).iter_rows():
        values[row_of[token]] = np.nan if value is None else value
    values = np.where(np.isnan(values), np.nanmean(values), values)
    return ((values - field.low) / (field.high - field.low)).astype(np.float32)


def _load(checkpoint: Checkpoint, paths: Mapping[str, Path]) -> dict[Source, AtomicFile]:
    """The files, with the columns that the settings load, lists split."""
    separator = recbole.setting(checkpoint, "field_separator", str, "\t")
    load, leave = (checkpoint.settings.get(name) or {} for name in ("load_col", "unload_col"))
    if not isinstance(load, dict) or not isinstance(leave, dict):
        raise InputError(f"{checkpoint.path}: its setting load_col is {load!r:.60}; expected a dict")
    files: dict[Source, AtomicFile] = {}
    for source in ("inter", "user", "item"):
        wanted = load.get(source) if load else "*"
        if source not in paths or not wanted:
            continue
        file = read_atomic_file(paths[source], separator=separator)
        names = list(file.types) if wanted == "*" else [name for name in file.types if name in wanted]
        names = [name for name in names if name not in (leave.get(source) or ())]
        absent = [] if wanted == "*" else [name for name in wanted if name not in file.types]
        if absent:
            raise InputError(
                f"{file.path}: has no column {absent[0]!r:.60}, which the settings of {checkpoint.path.name} load"
            )
        types = {name: file.types[name] for name in names}
        lists = [name for name, type_ in types.items() if type_ == "token_seq"]
        within = recbole.setting(checkpoint, "seq_separator", str, " ")
        frame = file.frame.select(names).with_columns(
            pl.col(name).fill_null("").str.split(within).list.eval(pl.element().filter(pl.element() != ""))
            for name in lists
        )
        longest = checkpoint.settings.get("seq_len")
        if isinstance(longest, dict):
            frame = frame.with_columns(pl.col(n).list.head(longest[n]) for n in lists if n in longest)
        files[source] = replace(file, types=types, frame=frame)
    return files


def _filtered(
    checkpoint: Checkpoint, files: dict[Source, AtomicFile], user: str, item: str
) -> dict[Source, AtomicFile]:
    """Rows without an id go; so do further rows of a user or item, and interactions of those that have none."""
    kept: dict[Source, AtomicFile] = {}
    inter = files["inter"]
    for name in (user, item):
        if inter.types.get(name) != "token":
            raise InputError(f"{inter.path}: has no column {name}:token; expected users and items")
    frame = inter.frame.drop_nulls([user, item])
    both = recbole.setting(checkpoint, "filter_inter_by_user_or_item", bool, True)
    for source, key in (("user", user), ("item", item)):
        if source not in files:
            continue
        file = files[source]
        if file.types.get(key) != "token":
            raise InputError(f"{file.path}: has no column {key}:token; expected one {source} a row")
        rows = file.frame.drop_nulls([key]).unique(subset=[key], keep="first", maintain_order=True)
        if both:
            frame = frame.filter(pl.col(key).is_in(rows[key].implode()))
        kept[source] = replace(file, frame=rows)
    if frame.is_empty():
        raise InputError(f"{inter.path}: no interaction is left; do the .user and .item files belong to it?")
    return {"inter": replace(inter, frame=frame), **kept}


def _label(checkpoint: Checkpoint) -> tuple[str, float | None]:
    threshold = checkpoint.settings.get("threshold")
    if not threshold:
        return recbole.setting(checkpoint, "LABEL_FIELD", str, "label"), None
    match threshold:
        case dict() if len(threshold) == 1:
            ((name, value),) = threshold.items()
            if isinstance(value, int | float):
                return str(name), float(value)
        case _:
            pass
    raise InputError(
        f"{checkpoint.path}: its setting threshold is {threshold!r:.60}; expected one column's number"
    )


def _listed(checkpoint: Checkpoint, name: str) -> list[str]:
    value: Any = checkpoint.settings.get(name) or {}
    return [column for columns in value.values() for column in columns] if isinstance(value, dict) else []


def _field(
    checkpoint: Checkpoint,
    files: Mapping[Source, AtomicFile],
    source: Source,
    name: str,
    *,
    user: str,
    item: str,
) -> RecboleField:
    file = files[source]
    type_ = file.types[name]
    belongs: Source = {user: "user", item: "item"}.get(name, source)  # type: ignore[assignment]
    if type_ == "float_seq":
        raise InputError(f"{file.path}: {name}:float_seq is not supported; expected tokens and single floats")
    if type_ == "float":
        low, high = _range(checkpoint, file, name)
        return RecboleField(name=name, kind="float", source=source, low=low, high=high)
    columns = [file.frame[name]]
    if belongs != source and belongs in files:
        columns.append(files[belongs].frame[name])
    longest = 1
    if type_ == "token_seq":
        longest = max(int(columns[0].list.len().max() or 0), 1)  # type: ignore[arg-type]
        columns = [column.explode() for column in columns]
    tokens = (
        pl.concat([column.cast(pl.String) for column in columns]).drop_nulls().unique(maintain_order=True)
    )
    if tokens.is_empty():
        raise InputError(f"{file.path}: the column {name} is empty in all rows; expected tokens")
    kind: Literal["token", "token_seq"] = "token_seq" if type_ == "token_seq" else "token"
    return RecboleField(name=name, kind=kind, source=belongs, tokens=tuple(tokens), max_length=longest)


def _range(checkpoint: Checkpoint, file: AtomicFile, name: str) -> tuple[float, float]:
    """What is mapped to 0 and to 1."""
    named = checkpoint.settings.get("normalize_field")
    if name not in (named or ()) and not checkpoint.settings.get("normalize_all"):
        return 0.0, 1.0
    column = file.frame[name]
    low, high = column.min(), column.max()
    if low is None or low == high:
        raise InputError(
            f"{file.path}: the column {name} has one value in all rows; expected a range to normalize"
        )
    return float(low), float(high)  # type: ignore[arg-type]
