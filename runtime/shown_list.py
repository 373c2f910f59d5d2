"""What a user chose from: the list that a click is learned against.

A choice says something only beside what it was chosen from. `ShownList` remembers the last rankings: candidates and the
user vector they were ranked with. `contrast` turns one into at most `LIST_SIZE` items to learn from:

- a list up to that size is taken whole;
- of a longer one, and of the catalogue, the best half are taken, and evenly spaced ones of the rest, each of which
  stands for many: its logit is raised by the logarithm of how many (the softmax over the sample then estimates the
  one over the whole list: Jean et al. 2015, arXiv:1412.2007, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .engine import Engine

LIST_SIZE = 256
LISTS_KEPT = 4
"""Clicks may come this many rankings late, and are still learned against the list they were made on."""


@dataclass(frozen=True, slots=True, eq=False)
class ShownList:
    """One ranking."""

    user: NDArray[np.float32]
    """float32 (D,): the user vector that ranked it."""
    model_user: NDArray[np.float32]
    """float32 (D,): the same without what was learned; its spread sets the scale of logits."""
    rows: NDArray[np.int64] | None
    """int64 (C,), the known candidates, best first; None: the catalogue."""
    scores: NDArray[np.float32] | None
    """float32 (C,), beside `rows`."""

    def __contains__(self, row: int) -> bool:
        return self.rows is None or bool((self.rows == row).any())


def contrast(
    shown: ShownList, row: int, engine: Engine, logit_scale: float, turn: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
    """Items to learn from: rows int64 (C,), logits float32 (C,), and where among them `row` is.

    Args:
        row: the item that was chosen or dismissed; `shown` contains it.
        logit_scale: a score times this is a logit.
        turn: any number; another one draws other items of a long list.
    """
    if shown.rows is not None and shown.scores is not None and len(shown.rows) <= LIST_SIZE:
        logits = shown.scores * np.float32(logit_scale)
        return shown.rows, logits, int(np.flatnonzero(shown.rows == row)[0])
    half = LIST_SIZE // 2
    if shown.rows is None:
        best, _ = engine.top_k(shown.user, half)
        n_rest = engine.n_items - len(best)
        drawn = _evenly(engine.n_items, half, turn)
    else:
        best, rest = shown.rows[:half], shown.rows[half:]
        n_rest = len(rest)
        drawn = rest[_evenly(n_rest, half, turn)]
    drawn = drawn[(drawn != row) & ~np.isin(drawn, best)]
    chosen = np.array([row], np.int64)[: int(row not in best)]
    rows = np.concatenate([best, chosen, drawn])
    logits = engine.score(shown.user[None], rows[None])[0] * np.float32(logit_scale)
    n_known = len(best) + len(chosen)
    if len(drawn):
        logits[n_known:] += np.float32(np.log(max(n_rest - len(chosen), 1) / len(drawn)))
    return rows, logits, int(np.flatnonzero(rows == row)[0])


def _evenly(n: int, count: int, turn: int) -> NDArray[np.int64]:
    """`count` evenly spaced ones of 0..n-1 (all where there are fewer), shifted by `turn`."""
    count = min(n, count)
    spaced = np.arange(count, dtype=np.int64) * n // max(count, 1)
    return (spaced + turn * 7919) % max(n, 1)  # a prime: successive turns land far apart
