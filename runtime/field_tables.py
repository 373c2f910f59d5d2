"""The tables of a pointwise model's fields: many small ones, stored as few large ones, in the format of the item table.

Tables of equal width lie end to end in one group, one pair of parts in the bundle (`item_table`): twenty fields cost the
manifest no more than one, and all fields of a row are looked up in one call.

The network reads one array float32 (B, W) of all vectors that a row looks up for its token fields (`tokens`), and one
array float32 (B, n, D) for each token_seq field that it looks up (`list_0`, ...). W is laid out group by group, in each
group what user and context look up before what the candidate does, so that either is one slice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle
from .errors import BundleError
from .features import FeatureSchema
from .item_table import FloatRows, ItemTable, QuantizedRows, row_bytes

MAX_TABLES = 10_000


@dataclass(frozen=True, slots=True)
class Slot:
    """Where one look-up of a token field lies."""

    lookup: int
    """Its place among the model's look-ups."""
    first_row: int
    """Of its table in the group."""
    start: int
    """Of its vector in W."""


@dataclass(frozen=True, slots=True)
class ListSlot:
    """One look-up of a token_seq field: the n-th input `list_n`."""

    lookup: int
    group: int
    first_row: int


@dataclass(frozen=True, slots=True, eq=False)
class GroupLayout:
    """The tables of one width."""

    width: int
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    """Rows of each."""
    shared: tuple[Slot, ...]
    """What user and context look up."""
    own: tuple[Slot, ...]
    """What each candidate looks up, right behind `shared` in W."""

    @property
    def n_rows(self) -> int:
        return sum(self.sizes)

    @property
    def start(self) -> int:
        """Of the group in W; the group takes `width` for each of its slots."""
        return min((slot.start for slot in (*self.shared, *self.own)), default=0)


@dataclass(frozen=True, slots=True, eq=False)
class TableLayout:
    """Which look-up reads which rows, and where its vector goes."""

    groups: tuple[GroupLayout, ...]
    lists: tuple[ListSlot, ...]
    lookups: tuple[tuple[str, str], ...]
    """(table, field) of each."""
    total_width: int
    """W."""

    @classmethod
    def of(
        cls, schema: FeatureSchema, shapes: Mapping[str, tuple[int, int]], lookups: Sequence[tuple[str, str]]
    ) -> TableLayout:
        """Lay tables of these shapes (rows, width) out for these look-ups (table, field).

        Raises:
            ValueError: a look-up of a table or field that is not there, of a float, or of other rows than the field has.
        """
        fields = {field.name: field for field in schema.fields}
        for table, name in lookups:
            field = fields.get(name)
            if (
                table not in shapes
                or field is None
                or field.kind == "float"
                or shapes[table][0] != field.size
            ):
                raise ValueError(
                    f"field {name!r:.60} looks up table {table!r:.60}, which has no row for each token"
                )
        groups, lists, start = list[GroupLayout](), dict[int, ListSlot](), 0
        for number, width in enumerate(dict.fromkeys(width for _, width in shapes.values())):
            members = {name: rows for name, (rows, w) in shapes.items() if w == width}
            ends = np.cumsum([0, *members.values()]).tolist()
            first = dict(zip(members, ends, strict=False))
            slots: dict[bool, list[Slot]] = {False: [], True: []}
            within = [n for n, (table, _) in enumerate(lookups) if table in members]
            for own in (False, True):
                for n in within:
                    table, field = lookups[n][0], fields[lookups[n][1]]
                    if field.kind == "token_seq":
                        lists[n] = ListSlot(n, number, first[table])
                    elif (field.side == "item") == own:
                        slots[own].append(Slot(n, first[table], start))
                        start += width
            groups.append(
                GroupLayout(
                    width, tuple(members), tuple(members.values()), tuple(slots[False]), tuple(slots[True])
                )
            )
        return cls(tuple(groups), tuple(lists[n] for n in sorted(lists)), tuple(lookups), start)

    def to_json(self, tables: Sequence[ItemTable]) -> dict[str, Any]:
        """What the manifest says: groups in order, each with what `QuantizedRows.describe` says, and the look-ups."""
        groups = [
            {"names": list(group.names), "sizes": list(group.sizes), **table.describe()}
            for group, table in zip(self.groups, tables, strict=True)
        ]
        return {"groups": groups, "lookups": [list(lookup) for lookup in self.lookups]}


def table_parts(tables: Sequence[ItemTable]) -> dict[str, NDArray[Any]]:
    """The bundle's parts that hold the groups."""
    return {f"{name}.{n}": part for n, table in enumerate(tables) for name, part in table.parts().items()}


def read_tables(bundle: Bundle, schema: FeatureSchema) -> tuple[TableLayout, tuple[ItemTable, ...]]:
    """The groups of a bundle, mapped in place; raises `BundleError` where manifest, schema and parts disagree."""
    described = bundle.manifest.get("field_tables")
    try:
        groups = list(described["groups"])  # type: ignore[index]
        lookups = [(str(table), str(field)) for table, field in described["lookups"]]  # type: ignore[index]
        names = [name for group in groups for name in group["names"]]
        if len(names) > MAX_TABLES or len(set(names)) < len(names):
            raise ValueError(f"{len(names)} tables, or one of them twice")
        shapes = {
            str(name): (size, group["width"])
            for group in groups
            for name, size in zip(group["names"], group["sizes"], strict=True)
        }
        if not all(type(value) is int and value > 0 for shape in shapes.values() for value in shape):
            raise ValueError("a table without rows or width")
        layout = TableLayout.of(schema, shapes, lookups)
        tables = tuple(_read_group(bundle, n, group) for n, group in enumerate(groups))
        if [(t.n_items, t.width) for t in tables] != [(g.n_rows, g.width) for g in layout.groups]:
            raise ValueError("two groups of one width")
    except BundleError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"{bundle.path}: the tables of its fields cannot be read ({error}); export the bundle again"
        ) from None
    return layout, tables


def _read_group(bundle: Bundle, n: int, described: Mapping[str, Any]) -> ItemTable:
    n_rows, width = sum(described["sizes"]), described["width"]
    match described["format"]:
        case "float":
            return FloatRows(bundle.array(f"item_values.{n}", np.float32, (n_rows, width)))
        case "rows":
            bits = described["bits"]
            if type(bits) is not int:
                raise ValueError(f"{bits!r:.20} bits")
            return QuantizedRows(
                codes=bundle.array(f"item_codes.{n}", np.uint8, (n_rows, row_bytes(width, bits))),
                scales=bundle.array(f"item_scales.{n}", np.float16, (n_rows,)),
                scale_unit=float(described["scale_unit"]),
                bits=bits,
                width=width,
            )
        case unknown:
            raise ValueError(
                f"format {unknown!r:.40}, this pocketrec reads rows and float; upgrade pocketrec"
            )
