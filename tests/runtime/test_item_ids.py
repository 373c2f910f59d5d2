"""Item ids: what goes in comes out, and nothing else is known."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.runtime import InputError
from pocketrec.runtime.item_ids import ItemIds

TABLES = {
    "range": list(range(5, 25)),
    "int64": [7, -3, 2**62, 0, 9],
    "utf8": ["B00", "", "é", "😀", "a\0b", "7"],
}


@pytest.mark.parametrize("kind", TABLES)
def test_round_trip(kind: str) -> None:
    ids = ItemIds.from_sequence(TABLES[kind])
    again = ItemIds.from_bytes(ids.describe(), ids.to_bytes())
    for table in (ids, again):
        assert table.kind == kind
        assert table.ids(range(len(table))) == TABLES[kind]
        assert table.rows(TABLES[kind]).tolist() == list(range(len(TABLES[kind])))
    assert bool(ids.to_bytes()) == (kind != "range")


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("odd", ["nobody", 10**30, -(10**30), 4, 25, True, 1.0, None, 7.5, b"B00"])
def test_unknown_ids(kind: str, odd: object) -> None:
    assert ItemIds.from_sequence(TABLES[kind]).rows([odd]).tolist() == [-1]  # type: ignore[list-item]


def test_types_tell_ids_apart() -> None:
    assert ItemIds.from_sequence([6, 7]).rows(["7", 7]).tolist() == [-1, 1]
    assert ItemIds.from_sequence(["6", "7"]).rows(["7", 7]).tolist() == [1, -1]


@pytest.mark.parametrize("kind", ["range", "int64"])
@pytest.mark.parametrize("dtype", [np.int16, np.int64, np.uint8])
def test_numpy_integers(kind: str, dtype: type) -> None:
    table = ItemIds.from_sequence([7, 8, 9] if kind == "range" else [7, 9, 8])
    asked = np.array([9, 7, 100], dtype)
    expected = [2, 0, -1] if kind == "range" else [1, 0, -1]
    assert table.rows(asked).tolist() == expected
    assert table.rows(list(asked)).tolist() == expected


def test_numpy_ids_become_a_table() -> None:
    assert ItemIds.from_sequence(np.array([3, 1])).ids([0, 1]) == [3, 1]


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([], "got none"),
        ([1, "a"], "1 and 'a'; expected all integers or all strings"),
        ([True, False], "True and False|expected all integers"),
        ([1, 2, 1], "1 occurs twice"),
        (["a", "b", "a"], "'a' occurs twice"),
        ([2**63, 1], "does not fit 64 bits"),
        ([1.5, 2.5], "expected all integers or all strings"),
    ],
)
def test_lists_that_are_no_tables(ids: list, text: str) -> None:
    with pytest.raises(InputError, match=text):
        ItemIds.from_sequence(ids)


@pytest.mark.parametrize(
    ("description", "raw"),
    [
        ({}, b""),
        ({"kind": "range", "count": 3}, b""),
        ({"kind": "range", "count": 0, "first": 1}, b""),
        ({"kind": "range", "count": 3, "first": 1}, b"x"),
        ({"kind": "int64", "count": 2}, bytes(15)),
        ({"kind": "utf8", "count": 2}, bytes(7)),
        ({"kind": "utf8", "count": 1}, b"\2\0\0\0a"),
        ({"kind": "utf8", "count": 2}, b"\2\0\0\0\1\0\0\0aa"),
        ({"kind": "utf8", "count": 1}, b"\1\0\0\0\xff"),
        ({"kind": "guid", "count": 1}, b"a"),
        ({"kind": "utf8", "count": True}, b"\1\0\0\0a"),
    ],
)
def test_bytes_that_do_not_fit(description: dict, raw: bytes) -> None:
    with pytest.raises(InputError, match="item ids: "):
        ItemIds.from_bytes(description, raw)
