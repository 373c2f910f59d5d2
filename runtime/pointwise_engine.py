"""The engine of a pointwise bundle: features of a user and of candidates -> a logit for each candidate.

    rows of all fields --lookup--> vectors --scorer.onnx--> logits (C,)

All candidates are one batch. What user and context look up is looked up once and repeated; tables of one width are
looked up in one call, and the network itself never indexes. Features that a row lacks have a defined outcome
(`features`), and so has an item that the bundle knows the features of, or does not know at all.

An engine is shared by threads: its arrays are read-only and onnxruntime sessions may run concurrently.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from .bundle import Bundle
from .deflated_part import inflated
from .devices import Device, execution_providers
from .engine import session_options
from .errors import BundleError, InputError
from .features import FeatureSchema, Field
from .field_tables import read_tables
from .item_features import read_item_features
from .item_table import FloatRows, ItemTable
from .vocabularies import read_vocabularies, token_rows

Rows = Mapping[str, NDArray[Any]]
"""Encoded features by field: int64 (n,) of a token, int64 (n, L) padded with 0 of a token_seq, float32 (n,) of a float.
n is the number of rows, or 1 where the feature is the same in all of them."""
MAX_BATCH = 4096
"""Rows that the network reads at once: bounds the memory of scoring a whole catalogue."""
RESTORED_BYTES = 2 << 20
"""A group of tables that takes no more than this in float32 is restored once, when it is loaded: looking up a few hundred
rows of it then costs what it costs in float, and the memory is little beside onnxruntime's own."""


class PointwiseEngine:
    """A loaded model: `encode` raw features, `logits` of encoded ones."""

    def __init__(self, bundle: Bundle, *, threads: int = 1, device: Device = "cpu"):
        if threads < 1:
            raise InputError(f"threads: got {threads}, expected at least 1")
        family = bundle.manifest.get("family")
        if family != "pointwise":
            raise BundleError(
                f"{bundle.path}: model family {family!r}, expected 'pointwise'; load it with pocketrec.runtime.Reranker"
            )
        self.bundle = bundle
        self.manifest = bundle.manifest
        described: Any = bundle.manifest.get("features")
        try:
            self.schema = FeatureSchema.from_json(
                {name: described.get(name) for name in ("label", "fields")}
                if isinstance(described, dict)
                else None
            )
        except InputError as error:
            raise BundleError(f"{bundle.path}: {error}") from None
        self.threshold: float | None = described.get("threshold")
        """A row is positive where its label is at least this; None: the label is 0 or 1."""
        self.item: str | None = self._named(described, "item")
        """The field that holds the item's id."""
        self.rows_in_data = described.get("rows_in_data") is True
        """Integers in FuxiCTR's tables are rows already; of no matter for ranking."""
        self.user: str | None = self._named(described, "user")
        """The field that holds the user's id."""
        self.vocabularies = read_vocabularies(bundle, self.schema)
        self.layout, tables = read_tables(bundle, self.schema)
        self.tables = tuple(map(_restored, tables))
        self.item_features = read_item_features(bundle, self.schema, self.item)
        self.history = self._history()
        self._session = self._make_session(threads, device)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, threads: int = 1, device: Device = "cpu", verify: bool = True
    ) -> PointwiseEngine:
        """Open a bundle and make its model ready; `verify` checks the sha256 of each part.

        Raises:
            BundleError: not a bundle, truncated, edited, of a newer version, or of another family.
            InputError: the device is not there.
        """
        return cls(Bundle.open(path, verify=verify), threads=threads, device=device)

    def encode(self, name: str, values: Sequence[Any]) -> NDArray[Any]:
        """One feature of n rows as the tables have it: see `Rows`; None is a missing value.

        Raises:
            InputError: the model has no such field, or a value is of another kind.
        """
        field = self.schema.field(name)
        match field.kind:
            case "token":
                return token_rows(self.vocabularies[name], values)
            case "token_seq":
                lists = [self._list(field, value) for value in values]
                padded = np.zeros((len(lists), max(1, *map(len, lists)) if lists else 1), np.int64)
                for n, found in enumerate(lists):
                    padded[n, : len(found)] = found
                return padded
            case _:
                return np.array([_normalized(field, value) for value in values], np.float32)

    def features_of(self, items: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """The item-side features of items, int64 (n,) rows of the item field, as far as the bundle has them."""
        found: dict[str, NDArray[Any]] = {} if self.item is None else {self.item: items}
        if self.item_features is not None:
            found |= {name: column[items] for name, column in self.item_features.columns.items()}
        return found

    def logits(self, rows: Rows, n_rows: int) -> NDArray[np.float32]:
        """Logits of n encoded rows: float32 (n,). A field that `rows` lacks is missing in all of them.

        Columns of length 1 count for all rows; user and context fields should be such, they are looked up once then.
        """
        parts = [
            self._run(
                {name: _part(values, start, n_rows) for name, values in rows.items()},
                min(MAX_BATCH, n_rows - start),
            )
            for start in range(0, n_rows, MAX_BATCH)
        ]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def _run(self, rows: Rows, n_rows: int) -> NDArray[np.float32]:
        feeds = dict[str, NDArray[Any]]()
        layout = self.layout
        if layout.total_width:
            vectors = np.empty((n_rows, layout.total_width), np.float32)
            for group, table in zip(layout.groups, self.tables, strict=True):
                for slots in (group.shared, group.own):
                    if slots:
                        span = vectors[:, slots[0].start : slots[0].start + len(slots) * group.width]
                        span[...] = self._look_up(table, slots, rows, n_rows)
            feeds["tokens"] = vectors
        lengths = dict[str, NDArray[np.int64]]()
        for n, slot in enumerate(layout.lists):
            name = layout.lookups[slot.lookup][1]
            found = rows.get(name, _NO_LIST)
            known = found > 0
            vectors = self.tables[slot.group].lookup(found + slot.first_row) * known[..., None]
            feeds[f"list_{n}"] = np.ascontiguousarray(_repeated(vectors, n_rows))
            lengths[name] = _repeated(np.count_nonzero(known, axis=1).astype(np.int64), n_rows)
        if layout.lists:
            feeds["lengths"] = np.stack([lengths[layout.lookups[slot.lookup][1]] for slot in layout.lists], 1)
        if numeric := self.schema.of("float"):
            columns = [_repeated(rows.get(field.name, _NOTHING), n_rows) for field in numeric]
            feeds["numeric"] = np.stack(columns, 1).astype(np.float32)
        return self._session.run(None, feeds)[0]  # type: ignore[return-value]

    def _look_up(self, table: ItemTable, slots: Any, rows: Rows, n_rows: int) -> NDArray[np.float32]:
        """Vectors of some token fields, end to end: float32 (n or 1, slots * D)."""
        columns = [rows.get(self.layout.lookups[slot.lookup][1], _UNKNOWN) + slot.first_row for slot in slots]
        longest = max(map(len, columns))
        index = np.stack([_repeated(column, longest) for column in columns], 1)  # (n or 1, slots)
        return table.lookup(index).reshape(longest, -1)

    def _list(self, field: Field, value: Any) -> NDArray[np.int64]:
        if value is None:
            return np.empty(0, np.int64)
        if isinstance(value, str | bytes) or not isinstance(value, Sequence | np.ndarray):
            raise InputError(f"feature {field.name!r}: got {value!r:.60}, expected a list of tokens")
        rows = token_rows(self.vocabularies[field.name], value)
        return rows[rows > 0][-field.max_length :]

    def _named(self, described: Mapping[str, Any], what: str) -> str | None:
        name = described.get(what)
        if name is None:
            return None
        if not any(field.name == name and field.kind == "token" for field in self.schema.fields):
            raise BundleError(
                f"{self.bundle.path}: {what} field {name!r:.60} is no token field; export the bundle again"
            )
        return name

    def _history(self) -> str | None:
        """The list of items that grows with feedback: the user's token_seq field that reads the item's own table."""
        tables = {table for table, field in self.layout.lookups if field == self.item}
        for table, name in self.layout.lookups:
            field = self.schema.field(name)
            if table in tables and field.kind == "token_seq" and field.side == "user":
                return name
        return None

    def _make_session(self, threads: int, device: Device) -> onnxruntime.InferenceSession:
        network = self.manifest.get("network")
        graph = inflated(
            self.bundle, "scorer.onnx", network.get("bytes") if isinstance(network, dict) else None
        )
        try:
            return onnxruntime.InferenceSession(
                graph,
                session_options(threads),
                providers=execution_providers(device),
            )
        except InputError:
            raise
        except Exception as error:  # onnxruntime raises many types of its own, none of them public
            raise BundleError(
                f"{self.bundle.path}: onnxruntime {onnxruntime.__version__} refuses part 'scorer.onnx': {error}"
            ) from error


_UNKNOWN = np.zeros(1, np.int64)
_NO_LIST = np.zeros((1, 1), np.int64)
_NOTHING = np.zeros(1, np.float32)


def _restored(table: ItemTable) -> ItemTable:
    if isinstance(table, FloatRows) or table.n_items * table.width * 4 > RESTORED_BYTES:
        return table
    return FloatRows(table.lookup(np.arange(table.n_items)))


def _part(values: NDArray[Any], start: int, n_rows: int) -> NDArray[Any]:
    return values if len(values) == 1 and n_rows > 1 else values[start : start + MAX_BATCH]


def _repeated(values: NDArray[Any], n_rows: int) -> NDArray[Any]:
    return np.broadcast_to(values, (n_rows, *values.shape[1:])) if len(values) == 1 else values


def _normalized(field: Field, value: Any) -> float:
    if value is None:
        return 0.0
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"feature {field.name!r}: got {value!r:.60}, expected a number or None") from None
    return (number - field.low) / (field.high - field.low) if np.isfinite(number) else 0.0
