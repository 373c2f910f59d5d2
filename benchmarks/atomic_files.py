"""RecBole's atomic files: tables of features, tab-separated, whose header names the type of every column.

    user_id:token <TAB> item_id:token <TAB> rating:float <TAB> timestamp:float          NAME.inter
    user_id:token <TAB> age:token <TAB> occupation:token                                NAME.user
    item_id:token <TAB> class:token_seq                                                 NAME.item

Types are token, token_seq (tokens with a separator between them), float and float_seq. An empty field, or one of the
words that pandas reads so, is a missing value. Source: RecBole 1.2, the documentation's "Atomic Files".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ..runtime.errors import InputError

TYPES = ("token", "token_seq", "float", "float_seq")
SUFFIXES = ("inter", "user", "item")
# fmt: off
MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
)
# fmt: on
"""What RecBole takes for a missing value, because pandas' `read_csv` does."""


@dataclass(frozen=True, slots=True)
class AtomicFile:
    """One file."""

    path: Path
    types: Mapping[str, str]
    """Type of each column, one of `TYPES`, in the order of the header."""
    frame: pl.DataFrame
    """The columns by their bare names: float64 for float, strings as they stand for the others, null where missing."""


def atomic_files_beside(path: Path) -> dict[str, Path]:
    """The files of the data set that `path` belongs to, by suffix: NAME.inter, NAME.user and NAME.item in its folder.

    Raises:
        InputError: `path` is none of them.
    """
    suffix = path.suffix.removeprefix(".")
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: expected RecBole's NAME.inter, with NAME.user and NAME.item beside it")
    files = {name: path.with_suffix(f".{name}") for name in SUFFIXES}
    return {name: file for name, file in files.items() if name == suffix or file.is_file()}


def read_atomic_file(path: Path, *, separator: str = "\t") -> AtomicFile:
    """Read one file.

    Raises:
        InputError: not there, without types in its header, with rows of another length, or with a float column that
            has something else in it; names the line where there is one.
    """
    try:
        with path.open("rb") as file:
            head = file.readline().decode("utf-8-sig").rstrip("\r\n")
        raw = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected one of RecBole's atomic files") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text; expected one of RecBole's atomic files") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    types = _types(path, head, separator)
    try:
        frame = pl.read_csv(raw, separator=separator, infer_schema=False, null_values=list(MISSING))
    except pl.exceptions.PolarsError as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path}: its rows do not fit its header ({first[:100]})") from None
    frame = frame.rename(dict(zip(frame.columns, types, strict=True)))
    for name, type_ in types.items():
        if type_ == "float":
            frame = frame.with_columns(_floats(path, frame[name]))
    return AtomicFile(path=path, types=types, frame=frame)


def _types(path: Path, head: str, separator: str) -> dict[str, str]:
    types: dict[str, str] = {}
    for field in head.split(separator):
        name, _, type_ = field.partition(":")
        if type_ not in TYPES or not name or name in types:
            raise InputError(
                f"{path}: {field!r:.60} in its header; expected distinct names with their types, such as user_id:token"
            )
        types[name] = type_
    return types


def _floats(path: Path, column: pl.Series) -> pl.Series:
    numbers = column.cast(pl.Float64, strict=False)
    wrong = numbers.is_null() & column.is_not_null()
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise InputError(f"{path}:{row + 2}: {column.name} is {column[row]!r:.40}; expected a number")
    return numbers
