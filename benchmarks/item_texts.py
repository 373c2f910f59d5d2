"""Item texts: a title for each item id, from a table with a header.

    item_id<TAB>title              any delimited file: tab, comma, semicolon or bar, quoted where needed
    item_id:token<TAB>title:token_seq        RecBole's `.item`

The id's column is `item_id`, `item`, `id`, `asin`, ..., the text's `title`, `text`, `name`, ..., or whatever the caller
names. An item without a text is left out and counted; of an item that comes twice, the first text counts.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from ..runtime.errors import InputError
from ..runtime.text_tokens import clean_text

ID_COLUMNS = (
    "item_id",
    "item",
    "itemid",
    "id",
    "asin",
    "parent_asin",
    "product_id",
    "movie_id",
    "movieid",
    "iid",
)
TEXT_COLUMNS = ("title", "text", "name", "item_title", "movie_title", "product_title", "description")
MAX_CHARACTERS = 10_000
"""Of one text: no encoder reads more, and a file whose quotes do not close must not be one long title."""


@dataclass(frozen=True, slots=True)
class ItemTexts:
    """Titles by item id, as strings of the file."""

    by_id: dict[str, str]
    """Cleaned (`text_tokens.clean_text`), none empty."""
    missing: int
    """Rows without a text."""
    repeated: int
    """Rows with an id that came before."""
    source: str
    """The file's name."""

    def of(self, item_ids: Sequence[int | str]) -> list[str | None]:
        """The text of each id, None where there is none: integers by their decimal form."""
        return [self.by_id.get(str(item_id)) for item_id in item_ids]

    def describe(self) -> str:
        """One line for people."""
        without = f", {self.missing:,} without a text" if self.missing else ""
        again = f", {self.repeated:,} rows of an item again" if self.repeated else ""
        return f"{self.source}: texts of {len(self.by_id):,} items{without}{again}"


def read_item_texts(
    path: str | PathLike[str], *, id_column: str | None = None, text_column: str | None = None
) -> ItemTexts:
    """Read a table of items.

    Raises:
        InputError: no such file, no such column, a row of too few fields, no text at all, or not UTF-8.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a table with item ids and titles") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a directory; expected a table with item ids and titles") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not UTF-8 at byte {error.start}; convert it first (iconv -t UTF-8)"
        ) from None
    lines = text.splitlines()
    if not lines or not lines[0].strip():
        raise InputError(f"{path}: an empty first line; expected a header such as item_id<TAB>title")
    delimiter = max("\t,;|", key=lines[0].count)
    # a tab never needs quotes, and titles have stray ones: 12" vinyl
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    rows = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, quoting=quoting)
    names = [field.partition(":")[0].strip() for field in next(rows)]
    at_id = _column(path, names, id_column, ID_COLUMNS, "ids of the items")
    at_text = _column(path, names, text_column, TEXT_COLUMNS, "texts of the items")
    by_id: dict[str, str] = {}
    missing = repeated = 0
    try:
        for row in rows:
            if not any(field.strip() for field in row):
                continue
            if len(row) <= max(at_id, at_text):
                if len(row) > at_id and row[at_id].strip():
                    missing += 1
                    continue
                raise InputError(f"{path}: line {rows.line_num}: {len(row)} fields, expected {len(names)}")
            item_id, title = row[at_id].strip(), clean_text(row[at_text])[:MAX_CHARACTERS]
            if not title:
                missing += 1
            elif item_id in by_id:
                repeated += 1
            else:
                by_id[item_id] = title
    except csv.Error as error:
        raise InputError(f"{path}: line {rows.line_num}: {error}") from None
    if not by_id:
        raise InputError(f"{path}: no item has a text in the column {names[at_text]!r}")
    return ItemTexts(by_id, missing, repeated, path.name)


def _column(path: Path, names: list[str], asked: str | None, usual: Sequence[str], what: str) -> int:
    if asked is not None:
        if asked not in names:
            raise InputError(
                f"{path}: no column {asked!r} for the {what}; there are {', '.join(names)[:200]}"
            )
        return names.index(asked)
    lowered = [name.lower() for name in names]
    found = next((name for name in usual if name in lowered), None)
    if found is None:
        raise InputError(
            f"{path}: no column for the {what} among {', '.join(names)[:200]}; expected one of {', '.join(usual)}"
        )
    return lowered.index(found)
