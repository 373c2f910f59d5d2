"""From the bytes of an interactions file to one frame of events, whatever the format.

    sequence    user item item ...          one line a user, in time order; whitespace
    pairs       user item                   one line an event, in time order; whitespace
    delimited   a header, then rows         tab, comma, semicolon, pipe or spaces; columns found by name
    recbole     user_id:token<TAB>...       RecBole's atomic `.inter`; `item_id_list:token_seq` is unrolled
    movielens   user item rating time       GroupLens' files without a header: u.data (tab), ratings.dat (::)
    parquet     columns found by name

The frame has `user` and `item` (String or Int64, null where missing), `place` (line or row number, from 1),
and where the file has them `time` (float64 seconds) and `rating` (float32). Rows stay in file order.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import polars as pl

from ..runtime.errors import InputError
from .interaction_columns import (
    MISSING,
    MISSING_IDS,
    ColumnNames,
    find_columns,
    knows_a_column,
    numbers,
    seconds,
)

Format = Literal["sequence", "pairs", "delimited", "recbole", "movielens", "parquet"]
FORMATS: tuple[str, ...] = get_args(Format)

_RECBOLE_FIELD = re.compile(r"[^:\s]+:(token|float|token_seq|float_seq)")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?")
_LINE_BREAK_IN_QUOTES = "\x1e"


@dataclass(frozen=True, slots=True)
class Events:
    """The events of a file as they stand in it; see the module's docstring for the columns of `frame`."""

    frame: pl.DataFrame
    format: str
    counts: dict[str, int] = field(default_factory=dict)


def parse_events(path: Path, raw: bytes, format: str | None, names: ColumnNames) -> Events:
    """Parse the bytes of `path`; `format` None detects it by content.

    Raises:
        InputError: with the file and, where there is one, the line.
    """
    if format is not None and format not in FORMATS:
        raise InputError(f"format {format!r}; expected one of {', '.join(FORMATS)}")
    if not raw.strip():
        raise InputError(f"{path}: the file is empty; expected interactions")
    if raw[:4] == b"PAR1" or format == "parquet":
        return _parquet(path, raw, names)
    text = _decode(path, raw)
    lines = pl.Series("text", [text]).str.split("\n").explode().to_frame().with_row_index("place", offset=1)
    lines = lines.filter(pl.col("text").str.strip_chars() != "")
    if lines.is_empty():
        raise InputError(f"{path}: only blank lines; expected interactions")
    head: list[str] = lines["text"].head(100).to_list()
    match format or _detect(path, head, names):
        case "sequence" | "pairs" | "whitespace" as found:
            return _whitespace_lines(path, lines, found, names)
        case "movielens":
            return _movielens(path, lines)
        case "delimited" | "recbole" as found:
            return _delimited(path, lines, found, names)
        case other:
            raise AssertionError(other)


def _decode(path: Path, raw: bytes) -> str:
    if raw[:2] == b"\x1f\x8b" or raw[:4] == b"PK\x03\x04":
        raise InputError(f"{path}: a compressed file; unpack it first")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}:{line}: not UTF-8 text (byte 0x{raw[error.start]:02x});"
            " expected interactions as text or Parquet"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(
            f"{path}:{line}: a zero byte; the file is binary, expected interactions as text or Parquet"
        )
    if "\r" in text:
        text = text.replace("\r\n", "\n") if "\n" in text else text.replace("\r", "\n")
    return text


def _detect(path: Path, head: list[str], names: ColumnNames) -> str:
    first = head[0]
    if first.lstrip()[0] in "{[":
        raise InputError(
            f"{path}: JSON; expected a table or lines of `user item ...`, convert it to CSV or Parquet"
        )
    if "\t" in first and all(_RECBOLE_FIELD.fullmatch(f.strip()) for f in first.split("\t")):
        return "recbole"
    if names.given() or knows_a_column(_header_fields(first, _delimiter(first)), names):
        return "delimited"
    if all(_is_movielens_row(line) for line in head):
        return "movielens"
    delimiter = _delimiter(first)
    same_count = all(line.count(delimiter) == first.count(delimiter) for line in head)
    if delimiter in ",;|" and same_count:
        return "delimited"
    if delimiter == "\t" and any(" " in field.strip() for field in first.split("\t")) and same_count:
        return "delimited"  # names of several words
    fields = first.split()
    numbers_below = len(head) > 1 and all(_is_number(field) for line in head[1:] for field in line.split())
    if len(set(fields)) == len(fields) > 1 and numbers_below and not any(map(_is_number, fields)):
        return "delimited"  # a header with names that we do not know: find_columns says so
    return "whitespace"


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None


def _is_movielens_row(line: str) -> bool:
    fields = line.split("::") if "::" in line else line.split("\t")
    if len(fields) != 4 or not all(_is_number(f.strip()) for f in fields):
        return False
    return float(fields[2]) <= 10 and float(fields[3]) >= 1e8  # a rating, and a unix time after 1973


def _delimiter(header: str) -> str:
    best = max("\t,;|", key=header.count)
    return best if best in header else " "


def _header_fields(header: str, delimiter: str) -> list[str]:
    return header.split() if delimiter == " " else next(csv.reader([header], delimiter=delimiter))


def _whitespace_lines(path: Path, lines: pl.DataFrame, format: str, names: ColumnNames) -> Events:
    if names.given():
        raise InputError(
            f"{path}: format {format!r} has no header, so no column can be named; leave the names out"
        )
    tokens = (
        lines.with_columns(pl.col("text").str.replace_all("\t", " ", literal=True).str.split(" "))
        .explode("text")
        .filter(pl.col("text") != "")
    )
    place = tokens["place"].to_numpy()
    starts = np.flatnonzero(np.diff(place, prepend=0))
    n_tokens = np.diff(starts, append=len(place))
    users = tokens["text"].gather(starts)
    n_users = users.n_unique()
    if (n_tokens == 1).all():
        raise InputError(
            f"{path}:{place[0]}: one column; expected `user item` or `user item item ...` on each line"
        )
    if format == "whitespace":
        format = _lines_or_pairs(path, n_tokens, n_users, place[starts])
    if format == "pairs":
        ragged = np.flatnonzero(n_tokens != 2)
        if ragged.size:
            line, n = place[starts[ragged[0]]], n_tokens[ragged[0]]
            raise InputError(
                f"{path}:{line}: {n} fields, expected 2 (`user item`);"
                " a file of whole sequences is format='sequence'"
            )
    is_item = np.ones(len(place), bool)
    is_item[starts] = False
    frame = pl.DataFrame(
        {
            "user": users.gather(np.repeat(np.arange(len(starts)), n_tokens - 1)),
            "item": tokens["text"].filter(pl.Series(is_item)),
            "place": place[is_item],
        }
    )
    n_with_items = frame["user"].n_unique()
    return Events(frame, format, {"empty_users": n_users - n_with_items})


def _lines_or_pairs(path: Path, n_tokens: np.ndarray, n_users: int, places: np.ndarray) -> str:
    if (n_tokens == 2).all():
        return "pairs"
    if n_users < len(n_tokens):  # several lines a user: events, not sequences
        if (n_tokens == 2).mean() > 0.9:
            return "pairs"  # with a ragged line, which the caller names
        if n_tokens[0] > 2 and (n_tokens == n_tokens[0]).all() and 2 * n_users <= len(n_tokens):
            raise InputError(
                f"{path}:{places[0]}: {n_tokens[0]} columns and no header; add a first line that names them,"
                " such as `user item time`, or say format='sequence' where each line is a user with items"
            )
    return "sequence"


def _movielens(path: Path, lines: pl.DataFrame) -> Events:
    header = pl.DataFrame({"place": [0], "text": ["user\titem\trating\ttime"]}, schema=lines.schema)
    body = lines.with_columns(pl.col("text").str.replace_all("::", "\t", literal=True))
    return _delimited(path, pl.concat([header, body]), "movielens", ColumnNames())


def _delimited(path: Path, lines: pl.DataFrame, format: str, names: ColumnNames) -> Events:
    header_line: str = lines["text"][0]
    delimiter = "\t" if format == "recbole" else _delimiter(header_line)
    if delimiter == " ":
        lines = lines.with_columns(pl.col("text").str.strip_chars().str.replace_all(r"\s+", " "))
    header = _header_fields(header_line, delimiter)
    if format == "delimited" and all(_is_number(f.strip()) for f in header):
        raise InputError(
            f"{path}:1: no header line (got {header_line[:60]!r}); add one such as `user{delimiter}item`"
        )
    sequences = next(
        (i for i, f in enumerate(header) if f.strip().endswith(":token_seq") and "item" in f), None
    )
    if sequences is not None and names.item is None:
        return _unrolled(path, lines, header, sequences, names)
    columns = find_columns(str(path), header, names)
    frame = _read_rows(path, lines, delimiter, len(header), columns)
    return Events(_typed(path, frame), format)


def _read_rows(
    path: Path, lines: pl.DataFrame, delimiter: str, n_columns: int, columns: dict[str, int]
) -> pl.DataFrame:
    rows = lines.slice(1)
    if rows.is_empty():
        raise InputError(f"{path}: a header and no rows; expected interactions")
    # In tab- and space-separated files a quote is a letter like any other (5" screen); they have no way to escape.
    quoted = delimiter in ",;|" and bool(rows["text"].str.contains('"', literal=True).any())
    if quoted:
        rows = _join_quoted_breaks(path, rows)
    fields = rows["text"].str.replace_all(r'"[^"]*"', "") if quoted else rows["text"]
    n_fields = fields.str.count_matches(delimiter, literal=True).to_numpy() + 1
    ragged = np.flatnonzero(n_fields != n_columns)
    if ragged.size:
        at = int(ragged[0])
        raise InputError(
            f"{path}:{rows['place'][at]}: {n_fields[at]} fields, expected {n_columns} as in the header"
        )
    names = [
        f"c{i}" for i in range(n_columns)
    ]  # our own header: polars 1 and 2 number nameless columns differently
    frame = pl.read_csv(
        io.BytesIO("\n".join([delimiter.join(names), rows["text"].str.join("\n").item()]).encode()),
        separator=delimiter,
        quote_char='"' if quoted else None,
        columns=[names[i] for i in sorted(set(columns.values()))],
        infer_schema=False,
    )
    if frame.height != rows.height:
        raise InputError(f"{path}: {rows.height} rows of text read as {frame.height}; check the quotes")
    frame = frame.select(pl.col(names[i]).alias(role) for role, i in columns.items())
    if quoted:
        frame = frame.with_columns(pl.all().str.replace_all(_LINE_BREAK_IN_QUOTES, "\n", literal=True))
    else:
        frame = frame.with_columns(pl.all().str.replace(r'^"(.*)"$', "${1}"))
    return frame.with_columns(pl.all().str.strip_chars(), place=rows["place"])


def _join_quoted_breaks(path: Path, rows: pl.DataFrame) -> pl.DataFrame:
    """Make one line of each row whose quoted field holds line breaks; `place` is the row's first line.

    Blank lines are gone by now, also those inside quotes; no id has one.
    """
    odd = rows["text"].str.count_matches('"', literal=True).to_numpy() % 2
    if not odd.any():
        return rows
    if odd.sum() % 2:
        raise InputError(f"{path}:{rows['place'][int(np.flatnonzero(odd)[-1])]}: a quote that is not closed")
    inside = np.cumsum(odd) % 2 == 1  # the row goes on behind this line
    row_of_line = np.cumsum(~np.concatenate([[False], inside[:-1]]))
    joined = rows.with_columns(row=pl.Series(row_of_line)).group_by("row", maintain_order=True)
    return joined.agg(pl.col("place").first(), pl.col("text").str.join(_LINE_BREAK_IN_QUOTES)).drop("row")


def _unrolled(path: Path, lines: pl.DataFrame, header: list[str], at: int, names: ColumnNames) -> Events:
    """RecBole's sequential `.inter`: user, history, and the target that follows; one row a user."""
    flat = [f if i != at else "history" for i, f in enumerate(header)]
    columns = find_columns(str(path), flat, names)
    wanted = {"user": columns["user"], "target": columns["item"], "item": at}
    frame = _read_rows(path, lines, "\t", len(header), wanted)
    again = np.flatnonzero(frame["user"].is_duplicated().to_numpy())
    if again.size:
        raise InputError(
            f"{path}:{frame['place'][int(again[0])]}: user {frame['user'][int(again[0])]!r} has several rows"
            f" of {header[at]}; expected one row a user, or one event a row (user_id, item_id, timestamp)"
        )
    history = pl.concat_str("item", "target", separator=" ", ignore_nulls=True).str.split(" ")
    frame = frame.with_columns(item=history).drop("target").explode("item").filter(pl.col("item") != "")
    return Events(_typed(path, frame), "recbole")


def _parquet(path: Path, raw: bytes, names: ColumnNames) -> Events:
    try:
        schema = pl.read_parquet_schema(io.BytesIO(raw))
        columns = find_columns(str(path), list(schema), names)
        frame = pl.read_parquet(io.BytesIO(raw), columns=[list(schema)[i] for i in columns.values()])
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path}: not a whole Parquet file ({str(error).splitlines()[0]})") from None
    if frame.is_empty():
        raise InputError(f"{path}: no rows; expected interactions")
    frame = frame.select(pl.col(list(schema)[i]).alias(role) for role, i in columns.items())
    for role in ("user", "item"):
        frame = frame.with_columns(_parquet_ids(path, frame[role]))
    return Events(_typed(path, frame.with_row_index("place", offset=1)), "parquet")


def _parquet_ids(path: Path, ids: pl.Series) -> pl.Series:
    dtype = ids.dtype
    if dtype.is_nested() or dtype == pl.Binary or dtype == pl.Object:
        raise InputError(
            f"{path}: column of {ids.name}s has type {dtype}; expected integers or strings, one event a row"
        )
    if dtype.is_float():  # pandas makes floats of integers with gaps
        ids = ids.fill_nan(None)
        if not (ids.drop_nulls() == ids.drop_nulls().round()).all():
            raise InputError(f"{path}: column of {ids.name}s holds fractions; expected integers or strings")
    if dtype.is_numeric():
        as_int = ids.cast(pl.Int64, strict=False)
        return as_int if as_int.null_count() == ids.null_count() else ids.cast(pl.String)
    return ids.cast(pl.String)


def _typed(path: Path, frame: pl.DataFrame) -> pl.DataFrame:
    """Missing values as nulls, times in seconds, ratings as numbers."""

    def missing(column: str, marks: tuple[str, ...]) -> pl.Series:
        values = frame[column]
        if values.dtype != pl.String:
            return values
        return (
            values.to_frame().select(pl.when(~pl.col(column).is_in(marks)).then(pl.col(column))).to_series()
        )

    def fail_at(position: int, what: str) -> InputError:
        return InputError(f"{path}:{frame['place'][position]}: {role}: {what}")

    for role, marks, convert in (("time", MISSING, seconds), ("rating", MISSING_IDS, numbers)):
        if role in frame.columns:
            frame = frame.with_columns(convert(missing(role, marks), fail_at).alias(role))
    return frame.with_columns(missing("user", MISSING_IDS), missing("item", MISSING_IDS))
