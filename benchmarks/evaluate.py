"""Full ranking: the rank of each user's target among the whole catalogue, through whatever scores it.

The candidates of a user are the catalogue without the items of the user's history (`keep_repeats` keeps
them, for data where people come back to items). A target that is itself in the history can then not be
recommended: it counts as a miss, ranked behind every candidate, and is counted in
`Ranking.repeated_targets`, so that a data set that needs `keep_repeats` is noticed.

Ranks are counted, not sorted: with N items, H of them masked, and s the target's score,

    rank = 1 + #{other candidates whose score is not below s} = (N - H) - #{candidates with score < s}

which is one comparison a score. Users are scored in blocks of histories of equal length, because the engine
takes no padding, and of at most `BLOCK_SCORES` scores, which bounds the memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ..runtime.engine import Engine
    from .protocols import Split

BLOCK_SCORES = 1 << 23
"""Scores held at once (32 MB): large enough for efficient products, small enough to stay near the caches."""
MAX_BATCH = 512


class Scorer(Protocol):
    """Anything that scores the whole catalogue: an engine, a torch model, popularity."""

    n_items: int

    def __call__(self, histories: NDArray[np.int64]) -> NDArray[np.float32]:
        """histories: int64 (B, n) item rows, oldest first, all of length n -> float32 (B, N)."""
        ...


class EngineScorer:
    """The `Scorer` of a loaded bundle; an empty history gets the engine's prior.

    Integer products round their activations with one scale a call: in a batch, users would share a scale and the
    ranks would be such as no device ever computes. So an encoder of that form gets one user at a time, as on the
    device.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.n_items = engine.n_items
        self.max_length = engine.max_length
        self.one_by_one = engine.manifest.get("encoder", {}).get("products") == "int8"

    def __call__(self, histories: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.engine.score_all(self.encode(histories))

    def encode(self, histories: NDArray[np.int64]) -> NDArray[np.float32]:
        """User vectors (B, D) of histories (B, n), at once where that changes nothing."""
        engine = self.engine
        if histories.shape[1] == 0:
            return np.repeat(engine.prior()[None], len(histories), axis=0)
        if self.one_by_one:
            return np.concatenate([engine.encode(history[None]) for history in histories])
        return engine.encode(histories)


@dataclass(frozen=True, slots=True)
class Ranking:
    """What one system did on one split, in the order of the split's users."""

    ranks: NDArray[np.int64]
    """(U,), 1 for the best."""
    top_rows: NDArray[np.int32]
    """(U, K) the best candidates, best first, -1 where the candidates ran out."""
    n_items: int
    repeated_targets: int
    """Users whose target is in their history, hence a miss; 0 with `keep_repeats`."""
    seconds: float


def evaluate_ranks(
    scorer: Scorer,
    split: Split,
    *,
    keep_repeats: bool = False,
    n_top: int = 10,
    batch_size: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Ranking:
    """Rank each target of `split` with `scorer`.

    Args:
        scorer: scores the catalogue; where it has a `max_length`, longer histories are cut to their last
        items
            before they are scored (masking still sees all of them).
        split: histories and targets in item rows.
        n_top: length of the lists kept for coverage and agreement; 0 keeps none and saves their time.
        batch_size: users at once; None fits it to the catalogue.
        progress: called with the number of users just done.
    """
    n_items, n_users = scorer.n_items, len(split.targets)
    ranks = np.empty(n_users, dtype=np.int64)
    top_rows = np.full((n_users, n_top), -1, dtype=np.int32)
    repeated, began = 0, time.perf_counter()
    batch_size = batch_size or int(np.clip(BLOCK_SCORES // max(n_items, 1), 1, MAX_BATCH))
    for users, histories in equal_length_batches(
        split.histories, batch_size, getattr(scorer, "max_length", None)
    ):
        scores = scorer(histories)
        if scores.shape != (len(users), n_items):
            raise ValueError(f"scorer: scores of shape {scores.shape}, expected {(len(users), n_items)}")
        targets = split.targets[users]
        masked = [] if keep_repeats else [np.unique(split.histories[user]) for user in users]
        ranks[users], misses = count_ranks(scores, targets, masked)
        repeated += misses
        if n_top:
            top_rows[users] = top_lists(scores, masked, n_top)
        if progress is not None:
            progress(len(users))
    return Ranking(ranks, top_rows, n_items, repeated, time.perf_counter() - began)


def equal_length_batches(
    histories: list[NDArray[np.int64]], batch_size: int, max_length: int | None = None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Users (B,) and their histories (B, n), n the same within a batch, shortest first.

    >>> histories = [np.array([7]), np.array([1, 2, 3]), np.array([4, 5])]
    >>> [(users.tolist(), rows.tolist()) for users, rows in equal_length_batches(histories, 8, max_length=2)]
    [([0], [[7]]), ([1, 2], [[2, 3], [4, 5]])]
    """
    lengths = np.array([len(history) for history in histories], dtype=np.int64)
    if max_length is not None:
        lengths = np.minimum(lengths, max_length)
    by_length = np.argsort(lengths, kind="stable")
    starts = np.flatnonzero(np.diff(lengths[by_length], prepend=-1))
    for group in np.split(by_length, starts[1:]):
        length = lengths[group[0]] if len(group) else 0
        for start in range(0, len(group), batch_size):
            users = group[start : start + batch_size]
            rows = [histories[user][len(histories[user]) - length :] for user in users]
            yield users, np.stack(rows).astype(np.int64, copy=False)


def count_ranks(
    scores: NDArray[np.float32], targets: NDArray[np.int64], masked: list[NDArray[np.int64]]
) -> tuple[NDArray[np.int64], int]:
    """Ranks (B,) of targets (B,) in scores (B, N), and how many targets were masked.

    masked: distinct item rows of each user that are no candidates; an empty list masks nothing.
    """
    wanted = np.take_along_axis(scores, targets[:, None], axis=1)  # (B, 1)
    below = np.count_nonzero(scores < wanted, axis=1).astype(np.int64)
    candidates = np.full(len(targets), scores.shape[1], dtype=np.int64)
    misses = 0
    for user, rows in enumerate(masked):
        below[user] -= np.count_nonzero(scores[user, rows] < wanted[user])
        candidates[user] -= len(rows)
        if targets[user] in rows:
            misses += 1
            below[user], candidates[user] = 0, candidates[user] + 1  # behind every candidate
    return candidates - below, misses


def top_lists(scores: NDArray[np.float32], masked: list[NDArray[np.int64]], k: int) -> NDArray[np.int32]:
    """The k best candidates of each user: int32 (B, k), best first, -1 where there are fewer than k."""
    k_found = min(k, scores.shape[1])
    if masked:
        scores = np.array(scores)
        for user, rows in enumerate(masked):
            scores[user, rows] = -np.inf
    best = np.argpartition(scores, scores.shape[1] - k_found, axis=1)[:, scores.shape[1] - k_found :]
    values = np.take_along_axis(scores, best, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    best, values = np.take_along_axis(best, order, axis=1), np.take_along_axis(values, order, axis=1)
    lists = np.full((len(scores), k), -1, dtype=np.int32)
    lists[:, :k_found] = np.where(np.isneginf(values), -1, best)
    return lists
