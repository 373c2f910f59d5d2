"""What a user chose from: the list that a click is learned against.

A choice says something only beside what it was chosen from. `ShownList` remembers a ranking: its candidates, and the
experts that ranked them. `contrast` turns it into at most `LIST_SIZE` items to learn from:

- a list up to that size is taken whole;
- of a longer one, and of the catalogue, the best half are taken, and evenly spaced ones of the rest, each of which
  stands for many: its logit is raised by the logarithm of how many (the softmax over the sample then estimates the
  one over the whole list: Jean et al. 2015, arXiv:1412.2007, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .experts import Experts
from .item_ids import ItemId
from .list_items import ListItems

LIST_SIZE = 256
LISTS_KEPT = 4
"""Clicks may come this many rankings late, and are still learned against the list they were made on."""


@dataclass(slots=True, eq=False)  # not frozen, which costs a microsecond: one is made for each ranking
class ShownList:
    """One ranking."""

    experts: Experts
    source: str
    """One of `adaptation.SOURCES`."""
    rows: NDArray[np.int64]
    """int64 (C,), the known candidates; of the catalogue the best `LIST_SIZE / 2`, or none."""
    scores: NDArray[np.float32] | None = None
    """float32 (C,), beside `rows`; None for the catalogue."""
    offset: NDArray[np.float32] | None = None
    """float32 (C,), beside `rows`: what a server's scores added to the logits."""
    is_catalogue: bool = False
    ranking: int = 0
    """`Ranking.id`."""
    server: NDArray[np.float32] | None = None
    """float32 (C,), beside `rows`: a server's scores, standardized."""
    ids: list[ItemId] | None = None
    """Beside `rows`, where somebody has them."""
    items: ListItems | None = None
    """What was looked up to rank `rows`; kept of a user's newest list only, up to `LIST_SIZE`."""

    def place(self, item_id: ItemId, row: int) -> int:
        """Which of `rows` it is; -1 where it is none of them."""
        if self.ids is not None and len(self.ids) <= LIST_SIZE:  # a few comparisons, and no array
            try:
                return self.ids.index(item_id)
            except ValueError:
                return -1
        if len(self.rows) == 0:
            return -1
        n = int((self.rows == row).argmax())
        return n if self.rows[n] == row else -1


@dataclass(slots=True, eq=False)
class Contrast:
    """C items to learn from."""

    rows: NDArray[np.int64]
    """int64 (C,)."""
    added: NDArray[np.float32] | None
    """float32 (C,), what their logits have beside the experts' scores; None: nothing."""
    item: int
    """Which of them was chosen, or dismissed."""


def contrast(shown: ShownList, row: int, place: int, n_items: int, turn: int) -> Contrast:
    """Items to learn from.

    Args:
        row: the item that was chosen or dismissed.
        place: `shown.place(row)`; -1 in a list of the catalogue only.
        n_items: of the catalogue.
        turn: any number; another one draws other items of a long list.
    """
    if shown.is_catalogue or shown.scores is None:
        best, drawn = shown.rows, _evenly(n_items, LIST_SIZE // 2, turn)
        n_rest = n_items - len(best)
    elif len(shown.rows) <= LIST_SIZE:
        return Contrast(shown.rows, shown.offset, place)
    else:
        ranked = shown.rows[np.argsort(-shown.scores, kind="stable")]
        best, rest = np.split(ranked, [LIST_SIZE // 2])
        drawn = rest[_evenly(len(rest), LIST_SIZE // 2, turn)]
        n_rest = len(rest)
    drawn = drawn[(drawn != row) & ~np.isin(drawn, best)]
    chosen = np.array([row], np.int64)[: int(row not in best)]
    rows = np.concatenate([best, chosen, drawn])
    added = np.zeros(len(rows), np.float32)
    if len(drawn):
        added[len(rows) - len(drawn) :] = np.log(max(n_rest - len(chosen), 1) / len(drawn))
    if shown.offset is not None:
        added += beside(shown.rows, shown.offset, rows)
    return Contrast(rows, added, int(np.flatnonzero(rows == row)[0]))


def beside(
    all_rows: NDArray[np.int64], values: NDArray[np.float32], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Of values beside `all_rows`, those of `rows`, all of which are among them."""
    order = np.argsort(all_rows)
    return values[order[np.searchsorted(all_rows, rows, sorter=order)]]


def _evenly(n: int, count: int, turn: int) -> NDArray[np.int64]:
    """`count` evenly spaced ones of 0..n-1 (all where there are fewer), shifted by `turn`."""
    count = min(n, count)
    spaced = np.arange(count, dtype=np.int64) * n // max(count, 1)
    return (spaced + turn * 7919) % max(n, 1)  # a prime: successive turns land far apart
