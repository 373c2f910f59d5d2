"""Item ids: from the ids that the app uses to the rows of the item table, and back.

Three kinds, the cheapest that fits is chosen:

- `range`: integers first, first + 1, ...: nothing is stored.
- `int64`: any other integers: 8 bytes an item.
- `utf8`: strings: their UTF-8 bytes and a uint32 end offset each.

An id is known by its type: 7 and "7" are different ids, except that a table of integers also answers to numpy integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

ItemId = int | str


class ItemIds:
    """The ids of N items in the order of their rows.

    >>> ids = ItemIds.from_sequence(["b", "a"])
    >>> ids.rows(["a", "b", "never seen"])
    array([ 1,  0, -1])
    >>> ids.ids([0])
    ['b']
    """

    def __init__(self, kind: str, values: range | list[int] | list[str]):
        self.kind = kind
        self._values = values
        self._row_of: dict[Any, int] | None = None

    @classmethod
    def from_sequence(cls, ids: Iterable[ItemId]) -> ItemIds:
        """Choose the kind; raises `InputError` for an empty list, mixed types, or an id that occurs twice."""
        values = list(ids)
        if not values:
            raise InputError("item ids: got none, expected at least one")
        if all(isinstance(v, int | np.integer) and not isinstance(v, bool) for v in values):
            numbers = [int(v) for v in values]
            kind: str
            table: range | list[int] | list[str]
            if numbers == list(range(numbers[0], numbers[0] + len(numbers))):
                kind, table = "range", range(numbers[0], numbers[0] + len(numbers))
            else:
                kind, table = "int64", numbers
                if not all(-(2**63) <= n < 2**63 for n in numbers):
                    raise InputError("item ids: an integer does not fit 64 bits; give the ids as strings")
        elif all(isinstance(v, str) for v in values):
            kind, table = "utf8", [str(v) for v in values]
        else:
            odd = next((v for v in values if not isinstance(v, type(values[0]))), None)
            said = repr(values[0]) if odd is None else f"{values[0]!r} and {odd!r}"
            raise InputError(f"item ids: {said}; expected all integers or all strings")
        found = cls(kind, table)
        if kind != "range" and len(found.row_of) < len(values):
            seen: set[Any] = set()
            twice = next(v for v in table if v in seen or seen.add(v))  # type: ignore[func-returns-value]
            raise InputError(f"item ids: {twice!r} occurs twice; each item has one row")
        return found

    def describe(self) -> dict[str, Any]:
        """What the manifest says of them, and what `from_bytes` needs beside the bytes."""
        if isinstance(self._values, range):
            return {"kind": self.kind, "count": len(self), "first": self._values.start}
        return {"kind": self.kind, "count": len(self)}

    def to_bytes(self) -> bytes:
        """The stored form: nothing for `range`."""
        if self.kind == "range":
            return b""
        if self.kind == "int64":
            return np.asarray(self._values, "<i8").tobytes()
        encoded = [str(v).encode() for v in self._values]
        ends = np.cumsum([len(e) for e in encoded], dtype=np.int64)
        if ends[-1] >= 2**32:
            raise InputError(
                f"item ids: {int(ends[-1])} bytes of text, at most {2**32 - 1} can be stored; shorten the ids"
            )
        return ends.astype("<u4").tobytes() + b"".join(encoded)

    @classmethod
    def from_bytes(cls, description: dict[str, Any], raw: bytes) -> ItemIds:
        """The inverse of `describe` and `to_bytes`; raises `InputError` where they do not fit together."""
        kind, count = description.get("kind"), description.get("count")
        if type(count) is not int or count < 1:
            raise InputError(f"item ids: count {count!r}, expected a positive integer")
        if kind == "range" and type(description.get("first")) is int and not raw:
            return cls("range", range(description["first"], description["first"] + count))
        if kind == "int64" and len(raw) == 8 * count:
            return cls("int64", np.frombuffer(raw, "<i8").tolist())
        if kind == "utf8" and len(raw) >= 4 * count:
            ends = np.frombuffer(raw[: 4 * count], "<u4").astype(np.int64)
            text = raw[4 * count :]
            if np.all(np.diff(ends, prepend=0) >= 0) and ends[-1] == len(text):
                starts = [0, *ends[:-1].tolist()]
                try:
                    return cls(
                        "utf8", [text[a:b].decode() for a, b in zip(starts, ends.tolist(), strict=True)]
                    )
                except UnicodeDecodeError:
                    pass
        raise InputError(
            f"item ids: {len(raw)} bytes do not hold {count} ids of kind {kind!r}; export the bundle again"
        )

    def __len__(self) -> int:
        return len(self._values)

    def rows(self, ids: Iterable[ItemId]) -> NDArray[np.int64]:
        """Rows of the given ids, int64 of the same length, -1 where an id is unknown."""
        if isinstance(self._values, range):
            if isinstance(ids, np.ndarray) and ids.dtype.kind in "iu":
                rows = ids.astype(np.int64, copy=False) - self._values.start
                return np.where((rows >= 0) & (rows < len(self)), rows, -1)
            return np.asarray([self._range_row(i) for i in ids], np.int64)
        index = self.row_of
        listed: Sequence[Any] = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
        if set(map(type, listed)) in ({int}, {str}):  # nothing to take care of: three times as fast
            return np.fromiter((index.get(i, -1) for i in listed), np.int64, len(listed))
        return np.asarray([_row(index, i) for i in listed], np.int64)

    @property
    def span(self) -> range | None:
        """The ids of a table of kind `range`; None of the others."""
        return self._values if isinstance(self._values, range) else None

    def row(self, item_id: ItemId) -> int:
        """Row of one id, -1 where it is unknown."""
        return self._range_row(item_id) if isinstance(self._values, range) else _row(self.row_of, item_id)

    def ids(self, rows: Iterable[int]) -> list[ItemId]:
        """The ids of the given rows."""
        values = self._values
        return [values[int(r)] for r in rows]

    def _range_row(self, item_id: Any) -> int:
        if isinstance(item_id, bool) or not isinstance(item_id, int | np.integer):
            return -1
        row = int(item_id) - self._values.start  # type: ignore[union-attr]
        return row if 0 <= row < len(self) else -1

    @property
    def row_of(self) -> dict[Any, int]:
        """Row of each id, by plain integer or string; of a range it would be as large as the table."""
        if self._row_of is None:
            self._row_of = {value: row for row, value in enumerate(self._values)}
        return self._row_of


def _row(index: dict[Any, int], item_id: Any) -> int:
    if isinstance(item_id, bool | float):
        return -1  # True == 1 and 1.0 == 1 in a dict, but neither is an id
    return index.get(int(item_id) if isinstance(item_id, np.integer) else item_id, -1)
