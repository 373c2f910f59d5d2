"""Accuracy by segment: users with short and long histories, and targets from the head and the tail of the catalogue.

A mean over all users hides who pays for compression: rows of rare items have seen few gradients and round worst, short
histories give an encoder least to work with. Segments are of the split and of the training part alone, the same for
every system:

- history: the users' history lengths, cut at their quartiles (fewer segments where lengths tie);
- target: whether the target is of the *head*, the smallest set of most popular items that holds half of the training
  events, or of the *tail*, the other items; *unseen* ones have no training event at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .evaluate import Ranking
from .protocols import Split
from .ranking_metrics import bootstrap_mean, paired_bootstrap, per_user

SEGMENT_METRICS = ("ndcg@10", "hr@10")
HEAD_SHARE = 0.5
LEAST_USERS = 30
"""A segment of fewer users is left out: its interval would say nothing."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Some users of a split."""

    kind: str
    """`history` or `target`."""
    name: str
    users: NDArray[np.bool_]
    """bool (U,), in the order of the split."""


def segments_of(split: Split, counts: NDArray[np.int64]) -> list[Segment]:
    """The segments of a split that have at least `LEAST_USERS` users.

    Args:
        counts: int64 (N,), training events of each item row.
    """
    found = [*_by_history(split), *_by_target(split, counts)]
    return [segment for segment in found if np.count_nonzero(segment.users) >= LEAST_USERS]


def describe_segments(
    segments: list[Segment], rankings: Mapping[str, Ranking], reference: str | None, *, seed: int = 0
) -> list[dict[str, Any]]:
    """Each segment: how many users, every system's metrics with intervals, and what is kept of the reference, paired."""
    described = []
    for segment in segments:
        systems: dict[str, Any] = {}
        for name, ranking in rankings.items():
            values = {metric: per_user(ranking.ranks, metric)[segment.users] for metric in SEGMENT_METRICS}
            entry: dict[str, Any] = {
                "metrics": {metric: bootstrap_mean(v, seed=seed).to_json() for metric, v in values.items()}
            }
            if reference is not None and name != reference:
                theirs = rankings[reference].ranks[segment.users]
                entry["kept"] = {
                    metric: paired_bootstrap(v, per_user(theirs, metric), seed=seed).ratio.to_json()
                    for metric, v in values.items()
                }
            systems[name] = entry
        described.append(
            {
                "kind": segment.kind,
                "name": segment.name,
                "users": int(np.count_nonzero(segment.users)),
                "systems": systems,
            }
        )
    return described


def head_items(counts: NDArray[np.int64], share: float = HEAD_SHARE) -> NDArray[np.bool_]:
    """Which items are of the head: bool (N,).

    >>> head_items(np.array([1, 6, 2, 1])).tolist()
    [False, True, False, False]
    """
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    head = np.zeros(len(counts), bool)
    head[order[(before < share * counts.sum()) & (counts[order] > 0)]] = True
    return head


def _by_history(split: Split) -> list[Segment]:
    lengths = np.array([len(history) for history in split.histories], np.int64)
    cuts = np.unique(np.quantile(lengths, [0.25, 0.5, 0.75], method="lower"))
    bounds = [0, *(int(cut) for cut in cuts if cut < lengths.max()), int(lengths.max())]
    segments = []
    for low, high in pairwise(bounds):
        first = max(low + 1, int(lengths.min()))
        name = f"{first} events" if first == high else f"{first} to {high} events"
        segments.append(Segment("history", name, (lengths > low) & (lengths <= high)))
    return segments


def _by_target(split: Split, counts: NDArray[np.int64]) -> list[Segment]:
    head, seen = head_items(counts)[split.targets], counts[split.targets] > 0
    return [
        Segment("target", "head", head),
        Segment("target", "tail", ~head & seen),
        Segment("target", "unseen in training", ~seen),
    ]
