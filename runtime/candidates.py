"""The candidates of one ranking: what an app may pass, brought into one shape.

Defined outcomes, so that no list can break a ranking:

- an id that comes twice counts where it came first, with the server score that it had there;
- an id that the bundle does not know has row -1;
- server scores are standardized over the list (mean 0, deviation 1), so that scores of any scale mix; one that is NaN or
  infinite says nothing, and counts as the mean.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .item_ids import ItemId, ItemIds

_FEW = 4  # ids, for which making an array takes longer than it spares
_SAME = 1e-9  # scores whose deviation is below this share of the largest differ by rounding only


@dataclass(slots=True, eq=False)  # not frozen, which costs a microsecond: one is made for each ranking
class Candidates:
    """C distinct candidates, in the order in which they were given."""

    ids: list[ItemId]
    """As given."""
    rows: NDArray[np.int64]
    """int64 (C,), -1 where unknown."""
    known: NDArray[np.bool_] | None
    """bool (C,); None where all are."""
    server: NDArray[np.float32] | None = None
    """float32 (C,), standardized; None without server scores, or where all of them say the same."""
    has_server: NDArray[np.bool_] | None = None
    """bool (C,): which server scores were finite."""

    def __len__(self) -> int:
        return len(self.ids)

    def without(self, left_out: Collection[Any]) -> Candidates:
        """Those that are not among `left_out`."""
        kept = np.array([item_id not in left_out for item_id in self.ids], bool)
        if kept.all():
            return self
        return Candidates(
            [item_id for item_id, stays in zip(self.ids, kept.tolist(), strict=True) if stays],
            self.rows[kept],
            None if self.known is None or self.known[kept].all() else self.known[kept],
            None if self.server is None else self.server[kept],
            None if self.has_server is None else self.has_server[kept],
        )


def read_candidates(
    item_ids: ItemIds, candidate_ids: Iterable[ItemId], scores: Iterable[float] | None = None
) -> Candidates:
    """Bring candidates and their server scores into shape.

    >>> found = read_candidates(ItemIds.from_sequence([7, 8, 9]), [9, 5, 9, 7], [1.0, 0.0, 4.0, -1.0])
    >>> found.ids, found.rows, found.server
    ([9, 5, 7], array([ 2, -1,  0]), array([ 1.2247449,  0.       , -1.2247449], dtype=float32))

    Raises:
        InputError: no list of ids (`listed_ids`), or the scores are not one number a candidate.
    """
    ids: list[Any] = list(candidate_ids) if type(candidate_ids) is list else listed_ids(candidate_ids)
    values = None if scores is None else _numbers(scores, len(ids))
    try:
        distinct = set(ids)
    except TypeError:
        odd = next(i for i in ids if not isinstance(i, int | str | np.integer))
        raise InputError(f"candidates: {odd!r} is no item id; expected integers or strings") from None
    if len(distinct) < len(ids):
        first = {item_id: n for n, item_id in reversed(list(enumerate(ids)))}  # 1 and True are one key: rare
        kept = sorted(first.values())
        ids = [ids[n] for n in kept]
        values = None if values is None else values[kept]
    rows = _known_rows(item_ids, ids, distinct)
    known = None
    if rows is None:
        rows = item_ids.rows(ids)
        known = None if len(rows) == 0 or rows.min() >= 0 else rows >= 0
    if values is None:
        return Candidates(ids, rows, known)
    finite = np.isfinite(values)
    return Candidates(ids, rows, known, _standardized(values, finite), finite)


def item_rows(item_ids: ItemIds, ids: Sequence[Any]) -> NDArray[np.int64]:
    """`ItemIds.rows`, several times faster where all ids are plain and known."""
    try:
        rows = _known_rows(item_ids, ids, set(ids))
    except TypeError:  # something that cannot be an id
        rows = None
    return item_ids.rows(ids) if rows is None else rows


def _known_rows(item_ids: ItemIds, ids: Sequence[Any], distinct: set[Any]) -> NDArray[np.int64] | None:
    """Rows where all of the ids are plain integers, or plain strings, that the table has; else None."""
    if len(ids) <= _FEW:
        return None
    span = item_ids.span
    if span is not None:
        return _rows_of_range(span, ids, distinct)
    kinds = set(map(type, ids))
    if kinds != {int} and kinds != {str}:
        return None
    try:
        return np.array(itemgetter(*ids)(item_ids.row_of))
    except KeyError:
        return None


def _rows_of_range(span: range, ids: Sequence[Any], distinct: set[Any]) -> NDArray[np.int64] | None:
    """What numpy takes for int64 is integers and booleans, and a boolean is as good as 0 or 1."""
    if (0 in distinct or 1 in distinct) and set(map(type, ids)) != {int}:
        return None
    try:
        rows = np.array(ids)
    except ValueError:  # a tuple among them
        return None
    if rows.dtype != np.int64 or rows.ndim != 1:
        return None
    rows -= span.start
    # by their places: a reduction takes three times as long
    return rows if rows[rows.argmin()] >= 0 and rows[rows.argmax()] < len(span) else None


def listed_ids(candidate_ids: Any) -> list[Any]:
    """What an app passed as candidates, as a list.

    Raises:
        InputError: that is none, as a string, whose letters would be ids.
    """
    if isinstance(candidate_ids, np.ndarray) and candidate_ids.ndim == 1:
        return candidate_ids.tolist()
    if isinstance(candidate_ids, str | bytes | np.ndarray) or not isinstance(candidate_ids, Iterable):
        raise InputError(f"candidates: got {candidate_ids!r:.60}, expected a list of item ids")
    return list(candidate_ids)


def plain_id(item_id: Any) -> ItemId:
    """A plain integer or string; raises `InputError` for anything else."""
    if isinstance(item_id, str):
        return str(item_id)
    if isinstance(item_id, int | np.integer) and not isinstance(item_id, bool):
        return int(item_id)
    raise InputError(
        f"item id {item_id!r} of type {type(item_id).__name__}: expected an integer or a string"
        + ("; give the ids one by one: observe(*item_ids)" if isinstance(item_id, list | tuple) else "")
    )


def _numbers(scores: Iterable[float], count: int) -> NDArray[np.float64]:
    try:
        values = np.asarray(scores if isinstance(scores, np.ndarray) else list(scores), np.float64)
    except (TypeError, ValueError):
        raise InputError("scores: not all of them are numbers; expected one number a candidate") from None
    if values.shape != (count,):
        raise InputError(
            f"scores: shape {values.shape} for {count} candidates; expected one number a candidate"
        )
    return values


def _standardized(values: NDArray[np.float64], finite: NDArray[np.bool_]) -> NDArray[np.float32] | None:
    """Mean 0, deviation 1, with the mean for what is not finite; None where they do not differ."""
    if not finite.any():
        return None
    largest = np.abs(values[finite]).max()
    scaled = np.where(finite, values, 0.0) / (largest or 1.0)  # so that the square of 1e300 is not infinite
    scaled[~finite] = scaled[finite].mean()
    deviation = scaled.std()
    if not deviation > _SAME:
        return None
    return ((scaled - scaled.mean()) / deviation).astype(np.float32)
