"""Interaction logs: who met which item, in time order.

`read_interactions` reads any of the usual formats (`interaction_formats`) and cleans them the same way:

- a row without user, item or (where the file has times) time is dropped and counted (`missing_dropped`);
- a row with the same user, item and time as one before it is dropped and counted (`duplicates_dropped`);
  without times nothing tells a duplicate from a repeat, so all are kept;
- `repeats` counts the events with an item that the user met before; they stay;
- events of a user are sorted by time, ties stay in file order; `unsorted_users` counts whom this changed;
- a line with a user and no item leaves no user and is counted (`empty_users`);
- whatever else is wrong is one `InputError` with the file and the line.

Ids are integers where each of them is the plain decimal form of one (so "007" keeps a file's ids strings).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import InputError, MissingExtraError
from ..runtime.item_ids import ItemIds

if TYPE_CHECKING:
    import polars as pl

Scalar = TypeVar("Scalar", bound=np.generic)

LOW_COVERAGE = 0.5
"""Data that use less than this share of a checkpoint's items may be of another data set: a warning."""


@dataclass(frozen=True)
class Interactions:
    """The events of U users with M distinct items, E in all, in time order within each user."""

    user_ids: list[int] | list[str]
    """U users, in order of first appearance in the file."""
    item_ids: list[int] | list[str]
    """M distinct items of the data, in order of first appearance in the file."""
    indptr: NDArray[np.int64]
    """int64 (U+1,): user u has the events indptr[u] to indptr[u+1]."""
    items: NDArray[np.int64]
    """int64 (E,), index into `item_ids`."""
    times: NDArray[np.float64] | None
    """float64 (E,), seconds since 1970 or the numbers of the file; None where it has order only."""
    ratings: NDArray[np.float32] | None
    """float32 (E,), NaN where a row has none."""
    counts: dict[str, int] = field(default_factory=dict)
    """What was cleaned; see the module's docstring."""
    source: str = ""
    """The file's name."""
    sha256: str = ""
    """Of the file's bytes, hexadecimal."""
    format: str = ""
    """One of `interaction_formats.FORMATS`."""

    @property
    def n_users(self) -> int:
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        return len(self.item_ids)

    @property
    def n_interactions(self) -> int:
        return len(self.items)

    def history(self, u: int) -> NDArray[np.int64]:
        """All events of user u in time order: int64 indices into `item_ids`."""
        return self.items[self.indptr[u] : self.indptr[u + 1]]

    def sequences(self) -> list[NDArray[np.int64]]:
        """`history` of each user."""
        return _split(self.items, self.indptr)

    def describe(self) -> str:
        """One line for people.

        >>> interactions = Interactions([1], [7], np.array([0, 1]), np.array([0]), None, None, {}, "a.txt")
        >>> interactions.describe()
        'a.txt: 1 users, 1 items, 1 interactions'
        """
        cleaned = "".join(f", {n:,} {name.replace('_', ' ')}" for name, n in self.counts.items() if n)
        sizes = f"{self.n_users:,} users, {self.n_items:,} items, {self.n_interactions:,} interactions"
        return f"{self.source}: {sizes}{cleaned}"


def read_interactions(
    path: str | PathLike[str],
    *,
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    rating: str | None = None,
    format: str | None = None,
    item_ids_as: Literal["auto", "str"] = "auto",
) -> Interactions:
    """Read and clean a file of interactions.

    Args:
        path: the file, UTF-8 text or Parquet.
        user, item, time, rating: names of the columns; None finds them by their usual names.
        format: one of `interaction_formats.FORMATS`; None detects it by content.
        item_ids_as: "str" keeps item ids strings; "auto" makes integers of them where no character is lost.

    Raises:
        InputError: the file cannot be read as interactions; names the line where there is one.
        MissingExtraError: the extra `bench` is not installed.
    """
    try:
        from .interaction_columns import ColumnNames
        from .interaction_formats import parse_events
    except ModuleNotFoundError as error:
        if error.name != "polars":
            raise
        raise MissingExtraError("reading interactions", "bench") from None
    if item_ids_as not in ("auto", "str"):
        raise InputError(f"item_ids_as={item_ids_as!r}; expected 'auto' or 'str'")
    path = Path(path)
    raw = _read_bytes(path)
    events = parse_events(path, raw, format, ColumnNames(user=user, item=item, time=time, rating=rating))
    counts = {
        "missing_dropped": 0,
        "duplicates_dropped": 0,
        "repeats": 0,
        "unsorted_users": 0,
        "empty_users": 0,
    }
    counts |= events.counts
    return _clean(path, events.frame, counts, hashlib.sha256(raw).hexdigest(), events.format, item_ids_as)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a file of interactions") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a directory; expected a file of interactions") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _clean(
    path: Path, frame: pl.DataFrame, counts: dict[str, int], sha256: str, format: str, item_ids_as: str
) -> Interactions:
    needed = [role for role in ("user", "item", "time") if role in frame.columns]
    for role in needed:
        if frame[role].null_count() == frame.height:
            raise InputError(f"{path}: the {role} column is empty in all {frame.height:,} rows")
    n_rows = frame.height
    frame = frame.drop_nulls(needed)
    counts["missing_dropped"] = n_rows - frame.height
    if frame.is_empty():
        raise InputError(
            f"{path}: no row is complete; each of the {n_rows:,} lacks one of {', '.join(needed)}"
        )
    if "time" in needed:
        n_rows = frame.height
        frame = frame.unique(subset=needed, keep="first", maintain_order=True)
        counts["duplicates_dropped"] = n_rows - frame.height
    user_ids, users = _factorize(frame["user"], as_str=False)
    item_ids, met = _factorize(frame["item"], as_str=item_ids_as == "str")
    times = frame["time"].to_numpy() if "time" in needed else None
    ratings = frame["rating"].to_numpy() if "rating" in frame.columns else None

    order = np.argsort(users, kind="stable")
    if times is not None:
        by_user, their_times = users[order], times[order]
        backwards = (np.diff(their_times) < 0) & (np.diff(by_user) == 0)
        counts["unsorted_users"] = len(np.unique(by_user[1:][backwards]))
        if counts["unsorted_users"]:
            order = np.lexsort((times, users))  # stable: ties stay in file order
    items = met[order]
    meetings = np.sort(users * len(item_ids) + met)  # np.unique hashes, ten times slower here
    counts["repeats"] = int((np.diff(meetings) == 0).sum())
    if "rating" in frame.columns:
        counts["missing_ratings"] = frame["rating"].null_count()
    return Interactions(
        user_ids=user_ids,
        item_ids=item_ids,
        indptr=np.concatenate([[0], np.cumsum(np.bincount(users, minlength=len(user_ids)))]).astype(np.int64),
        items=items,
        times=None if times is None else times[order],
        ratings=None if ratings is None else ratings[order],
        counts=counts,
        source=path.name,
        sha256=sha256,
        format=format,
    )


def _factorize(ids: pl.Series, *, as_str: bool) -> tuple[list[int] | list[str], NDArray[np.int64]]:
    """Distinct ids in order of first appearance, and each row's index into them."""
    import polars as pl

    distinct = ids.unique(maintain_order=True)
    codes = ids.replace_strict(
        distinct, pl.int_range(len(distinct), eager=True), return_dtype=pl.Int64
    ).to_numpy()
    if as_str:
        distinct = distinct.cast(pl.String)
    elif distinct.dtype == pl.String:
        numbers = distinct.cast(pl.Int64, strict=False)
        if numbers.null_count() == 0 and (numbers.cast(pl.String) == distinct).all():
            distinct = numbers
    return distinct.to_list(), codes


@dataclass(frozen=True)
class MappedSequences:
    """Each user's events as rows of a checkpoint's item table."""

    sequences: list[NDArray[np.int64]]
    """One array of item_rows a user of the `Interactions` (same order; empty where nothing was known)."""
    times: list[NDArray[np.float64]] | None
    """Beside `sequences`; None where the data have no times."""
    unknown_items: int
    """Distinct item ids of the data that the checkpoint does not have."""
    unknown_interactions: int
    """Events left out because of them."""
    coverage: float
    """Share of the checkpoint's items that occur in the data."""
    warning: str | None
    """One line where the coverage is so low that the data may be of another data set."""


def describe_data(data: Interactions) -> dict[str, Any]:
    """Where the interactions come from, and what was cleaned."""
    return {
        "source": data.source,
        "sha256": data.sha256,
        "users": data.n_users,
        "items": data.n_items,
        "interactions": data.n_interactions,
        "cleaned": data.counts,
    }


def map_items(interactions: Interactions, item_ids: ItemIds, *, max_unknown: float = 0.0) -> MappedSequences:
    """Map each user's items to rows of a checkpoint's item table.

    An id is looked up as it is and, where that is unknown, in its other spelling (7 for "7"): checkpoints of
    frameworks that keep all ids as strings meet files whose ids were read as integers.

    Args:
        max_unknown: share of the interactions, 0 to 1, that may have items unknown to the checkpoint; they
            are left out. Beyond it, and where every item is unknown, the data are refused.

    Raises:
        InputError: too many unknown items; names the first, and how many.
    """
    rows = item_ids.rows(interactions.item_ids)
    unknown = np.flatnonzero(rows < 0)
    if unknown.size:
        rows[unknown] = item_ids.rows([_respelled(interactions.item_ids[i]) for i in unknown])
        unknown = np.flatnonzero(rows < 0)
    mapped = rows[interactions.items]
    known = mapped >= 0
    n_unknown = int((~known).sum())
    if unknown.size and (not known.any() or n_unknown > max_unknown * len(mapped)):
        raise InputError(
            f"{interactions.source}: {len(unknown):,} of {interactions.n_items:,} item ids (first:"
            f" {interactions.item_ids[unknown[0]]!r}) are not in the checkpoint's {len(item_ids):,} items;"
            " is this the data set that the checkpoint was trained on?"
            + (" (--allow-unknown-items drops them)" if known.any() else "")
        )
    indptr = np.concatenate([[0], np.cumsum(known)])[interactions.indptr]
    times = interactions.times
    n_found = len(np.unique(rows[rows >= 0]))
    coverage = n_found / len(item_ids)
    warning = None
    if coverage < LOW_COVERAGE:
        warning = (
            f"{interactions.source}: uses {n_found:,} of the checkpoint's {len(item_ids):,} items"
            f" ({coverage:.0%}); is this the data set that the checkpoint was trained on?"
        )
    return MappedSequences(
        sequences=_split(mapped[known], indptr),
        times=None if times is None else _split(times[known], indptr),
        unknown_items=len(unknown),
        unknown_interactions=n_unknown,
        coverage=coverage,
        warning=warning,
    )


def _respelled(item_id: int | str) -> int | str:
    if isinstance(item_id, int):
        return str(item_id)
    try:
        number = int(item_id)
    except ValueError:
        return item_id
    return number if str(number) == item_id else item_id


def _split(values: NDArray[Scalar], indptr: NDArray[np.int64]) -> list[NDArray[Scalar]]:
    ends = indptr.tolist()
    return [values[a:b] for a, b in pairwise(ends)]
