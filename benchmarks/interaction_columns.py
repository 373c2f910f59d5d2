"""Which column of a table of interactions is which, and what its values mean.

Columns are found by their usual names, case ignored and RecBole's type suffix (`user_id:token`) cut off; a
name that the caller gives goes before. Times become seconds since 1970 (UTC where the text names no zone).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from ..runtime.errors import InputError

USUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "user": (
        "user", "user_id", "userid", "uid", "reviewerid", "reviewer_id", "visitorid", "visitor_id",
        "customer_id", "customerid", "session_id", "sessionid", "session", "member_id", "u",
    ),
    "item": (
        "item", "item_id", "itemid", "iid", "movie", "movie_id", "movieid", "parent_asin", "asin",
        "product_id", "productid", "product", "article_id", "articleid", "track_id", "artist_id", "artistid",
        "book_id", "bookid", "isbn", "business_id", "poi_id", "sid", "i",
    ),
    "time": (
        "time", "timestamp", "ts", "unixreviewtime", "unix_time", "unixtime", "datetime", "date",
        "event_time", "created_at", "t_dat", "t",
    ),
    "rating": ("rating", "ratings", "overall", "stars", "score", "r"),
}  # fmt: skip
"""The first name that a file has wins, so the order matters where a file has several."""

MISSING = ("", "NA", "N/A", "<NA>", "NULL", "null", "None", "\\N")
"""What stands for a value that is not there (pandas, SQL and R write these)."""

MISSING_IDS = (*MISSING, "nan", "NaN")
"""Ids may be missing as NaN too; a time that is NaN is an error, not a gap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnNames:
    """The columns that the caller named; None leaves it to `USUAL_NAMES`."""

    user: str | None = None
    item: str | None = None
    time: str | None = None
    rating: str | None = None

    def given(self) -> dict[str, str]:
        """Role -> name, for the named ones only."""
        named = {"user": self.user, "item": self.item, "time": self.time, "rating": self.rating}
        return {role: name for role, name in named.items() if name is not None}


def bare_name(header_field: str) -> str:
    """`user_id:token` -> `user_id`.

    >>> bare_name(" user_id:token ")
    'user_id'
    """
    return header_field.strip().split(":")[0].strip()


def find_columns(source: str, header: Sequence[str], names: ColumnNames) -> dict[str, int]:
    """Role ("user", "item", and where found "time", "rating") -> position in `header`.

    Raises:
        InputError: a named column is not there, or no usual name of a user or an item; names what is there.
    """
    bare = [bare_name(field) for field in header]
    lowered = [name.lower() for name in bare]
    found: dict[str, int] = {}
    for role, name in names.given().items():
        exact = [i for i, field in enumerate(header) if name in (field.strip(), bare[i])]
        if not exact:
            raise InputError(f"{source}: no column {name!r} ({role}); the columns are {_listed(bare)}")
        found[role] = exact[0]
    for role, usual in USUAL_NAMES.items():
        position = next(
            (lowered.index(n) for n in usual if n in lowered and lowered.index(n) not in found.values()), None
        )
        if role not in found and position is not None:
            found[role] = position
    for role in ("user", "item"):
        if role not in found:
            raise InputError(
                f"{source}: no {role} column known among {_listed(bare)};"
                f" name it with {role}=... (--{role} NAME)"
            )
    return found


def knows_a_column(header: Sequence[str], names: ColumnNames) -> bool:
    """Whether any field of this first line is a usual name or one that the caller gave."""
    usual = {name for role_names in USUAL_NAMES.values() for name in role_names if len(name) > 1}
    given = set(names.given().values())
    return any(bare_name(f).lower() in usual or f.strip() in given or bare_name(f) in given for f in header)


def seconds(times: pl.Series, fail_at: Callable[[int, str], InputError]) -> pl.Series:
    """Times as float64 seconds since 1970; nulls stay null.

    Numbers are taken as they are; ISO 8601 dates and date-times are parsed (a column holds one or the other).

    Args:
        times: numbers, dates, date-times, or strings of these.
        fail_at: makes the error for (position in `times`, what is wrong).

    Raises:
        InputError: the first value that is no time, NaN or infinite.
    """
    if times.dtype == pl.String:
        found, expected = _text_seconds(times)
        _refuse((found.is_null() & times.is_not_null()), times, fail_at, expected)
    elif times.dtype.is_numeric():
        found = times.cast(pl.Float64)
    elif times.dtype == pl.Date or isinstance(times.dtype, pl.Datetime):
        found = _epoch(times.cast(pl.Datetime("us")))
    else:
        raise fail_at(0, f"times of type {times.dtype}, expected numbers or dates")
    _refuse(~found.is_finite().fill_null(value=True), times, fail_at, "a finite number")
    return found


def numbers(values: pl.Series, fail_at: Callable[[int, str], InputError]) -> pl.Series:
    """Ratings as float32; nulls stay null. `InputError` for the first value that is no finite number."""
    if values.dtype != pl.String and not values.dtype.is_numeric() and values.dtype != pl.Boolean:
        raise fail_at(0, f"ratings of type {values.dtype}, expected numbers")
    found = values.cast(pl.Float32, strict=False)
    _refuse(found.is_null() & values.is_not_null(), values, fail_at, "a number")
    _refuse(~found.is_finite().fill_null(value=True), values, fail_at, "a finite number")
    return found


def _text_seconds(times: pl.Series) -> tuple[pl.Series, str]:
    as_numbers = times.cast(pl.Float64, strict=False)
    first = times.is_not_null().arg_max()
    if first is None or as_numbers[first] is not None:
        return as_numbers, "a number of seconds, as in the lines before"
    spaced = times.str.replace(" ", "T", literal=True)
    zoned = spaced.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False).dt.replace_time_zone(
        None
    )
    for layout in ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"):
        zoned = zoned.fill_null(spaced.str.to_datetime(layout, time_unit="us", strict=False))
    for day in ("%Y-%m-%d", "%Y/%m/%d"):
        zoned = zoned.fill_null(spaced.str.to_date(day, strict=False).cast(pl.Datetime("us")))
    return _epoch(zoned), "a number or an ISO date such as 2024-01-31 or 2024-01-31T12:00:00"


def _epoch(moments: pl.Series) -> pl.Series:
    return moments.dt.epoch("us").cast(pl.Float64) / 1e6


def _refuse(
    wrong: pl.Series, values: pl.Series, fail_at: Callable[[int, str], InputError], expected: str
) -> None:
    positions = np.flatnonzero(wrong.to_numpy())
    if positions.size:
        at = int(positions[0])
        raise fail_at(at, f"got {values[at]!r}, expected {expected}")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:12])
    return shown if len(names) <= 12 else f"{shown}, ... ({len(names)} columns)"
