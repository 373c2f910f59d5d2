from __future__ import annotations

from pathlib import Path

import pytest

from pocketrec.benchmarks.item_texts import read_item_texts
from pocketrec.runtime import InputError


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "items.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        "item_id\ttitle\n7\tRed Ball\n8\tBlue\n",
        "item_id:token\ttitle:token_seq\n7\tRed Ball\n8\tBlue\n",
        "title,asin\nRed Ball,7\nBlue,8\n",
        '\ufeffid;name\n7;"Red Ball"\n8;Blue\n',
        "Item_ID\tTitle\r\n7\tRed Ball\r\n8\tBlue\r\n",
    ],
    ids=["tab", "recbole", "comma", "semicolon with a mark", "windows"],
)
def test_tables_of_all_kinds(text: str, tmp_path: Path) -> None:
    assert read_item_texts(write(tmp_path, text)).by_id == {"7": "Red Ball", "8": "Blue"}


def test_ids_are_asked_for_as_integers_or_strings(tmp_path: Path) -> None:
    texts = read_item_texts(write(tmp_path, "item_id\ttitle\n7\tRed\n"))
    assert texts.of([7, 8]) == ["Red", None]
    assert texts.of(["7"]) == ["Red"]


def test_titles_are_cleaned_and_what_is_missing_is_counted(tmp_path: Path) -> None:
    text = 'item_id\ttitle\n1\tA &amp; B "12\n2\t\n3\n1\tAgain\n4\t\u202e\U0001f3b2 x\n\n'
    texts = read_item_texts(write(tmp_path, text))
    assert texts.by_id == {"1": 'A & B "12', "4": "\u202e\U0001f3b2 x"}
    assert (texts.missing, texts.repeated) == (2, 1)
    assert texts.describe() == "items.txt: texts of 2 items, 2 without a text, 1 rows of an item again"


def test_the_columns_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path, "title\tdescription\tsku\nred\tA red ball\tx\n")
    assert read_item_texts(path, id_column="sku", text_column="description").by_id == {"x": "A red ball"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty first line"),
        ("item_id\ttitle\n", "no item has a text in the column 'title'"),
        ("item_id\tcolor\n1\tred\n", "no column for the texts of the items among item_id, color"),
        ("number\ttitle\n1\tred\n", "no column for the ids of the items"),
        ("a\titem_id\ttitle\nx\n", "line 2: 1 fields, expected 3"),
        (b"item_id\ttitle\n1\tr\xe9d\n", "not UTF-8 at byte 17"),
    ],
)
def test_bad_tables_are_told_in_a_line(text: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_item_texts(write(tmp_path, text))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_item_texts(tmp_path / "none.tsv")
    with pytest.raises(InputError, match="a directory"):
        read_item_texts(tmp_path)
    with pytest.raises(InputError, match="no column 'sku'"):
        read_item_texts(write(tmp_path, "item_id\ttitle\n1\tred\n"), id_column="sku")
