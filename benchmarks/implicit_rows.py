"""Rows for pointwise models of implicit feedback (NeuMF): what happened is positive, what did not is drawn.

Leave-one-out in time order: a user's last event is tested, the one before validates, the others train. To every event
come items that the user never met, drawn with a seed: `TRAIN_NEGATIVES` to a training event, `NEGATIVES` to one that is
held out. AUC is over these rows; the whole catalogue is ranked beside it (`rank_catalogue`), which draws nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .evaluate import count_ranks
from .ranking_metrics import bootstrap_mean, paired_bootstrap, per_user

if TYPE_CHECKING:
    from ..runtime.pointwise_engine import PointwiseEngine

TRAIN_NEGATIVES = 4
"""As He et al. 2017 (arXiv:1708.05031, section 4.1) train NeuMF."""
NEGATIVES = 100
METRICS = ("hr@10", "ndcg@10", "mrr@10")


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """Which item does each user choose next, among all that the user has not met? Rows of the tables throughout."""

    users: NDArray[np.int64]
    """int64 (U,)."""
    histories: list[NDArray[np.int64]]
    targets: NDArray[np.int64]
    """int64 (U,)."""


@dataclass(frozen=True, slots=True, eq=False)
class ImplicitRows:
    """Events and drawn items of one part."""

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    labels: NDArray[np.float32]


def implicit_parts(
    users: NDArray[np.int64], items: NDArray[np.int64], times: NDArray[np.float64], *, n_items: int, seed: int
) -> tuple[list[ImplicitRows], Questions]:
    """Training, validation and test rows, and the test's questions to the whole catalogue.

    Args:
        users, items: int64 (n,) rows of each event's user and item.
        n_items: rows of the item field, row 0 included, which is never drawn.
    """
    random = np.random.default_rng(seed)
    order = np.lexsort([times, users])
    starts = np.flatnonzero(np.diff(users[order], prepend=-1))
    events: list[list[tuple[int, NDArray[np.int64]]]] = [[], [], []]
    met = dict[int, NDArray[np.int64]]()
    asked = list[tuple[int, NDArray[np.int64], int]]()
    for places in np.split(order, starts[1:]):
        user, chosen = int(users[places[0]]), items[places]
        met[user] = np.unique(chosen)
        if len(chosen) < 3:
            events[0].append((user, chosen))
            continue
        for part, kept in enumerate((chosen[:-2], chosen[-2:-1], chosen[-1:])):
            events[part].append((user, kept))
        asked.append((user, chosen[:-1], int(chosen[-1])))
    parts = [
        _with_negatives(part, met, n_items, TRAIN_NEGATIVES if n == 0 else NEGATIVES, random)
        for n, part in enumerate(events)
    ]
    questions = Questions(
        np.array([user for user, _, _ in asked], np.int64),
        [history for _, history, _ in asked],
        np.array([target for _, _, target in asked], np.int64),
    )
    return parts, questions


def rank_catalogue(engine: PointwiseEngine, questions: Questions) -> NDArray[np.int64]:
    """The rank of each user's target among all items that the user has not met, ties against the model: int64 (U,)."""
    assert engine.user is not None
    assert engine.item is not None
    n_items = engine.schema.field(engine.item).size
    catalogue = engine.features_of(np.arange(1, n_items))
    ranks = np.empty(len(questions.users), np.int64)
    for n, user in enumerate(questions.users):
        scores = engine.logits({**catalogue, engine.user: np.array([user])}, n_items - 1)[None]
        seen = np.setdiff1d(questions.histories[n] - 1, [questions.targets[n] - 1])
        ranks[n] = count_ranks(scores, questions.targets[n : n + 1] - 1, [seen])[0][0]
    return ranks


def describe_ranks(ours: NDArray[np.int64], theirs: NDArray[np.int64], seed: int) -> dict[str, Any]:
    """What the manifest says of the whole catalogue, ranked: bundle, teacher, and the share kept, paired over users."""
    return {
        "users": len(ours),
        "accuracy": {m: bootstrap_mean(per_user(ours, m), seed=seed).to_json() for m in METRICS},
        "teacher": {m: bootstrap_mean(per_user(theirs, m), seed=seed).to_json() for m in METRICS},
        "kept": {
            m: paired_bootstrap(per_user(ours, m), per_user(theirs, m), seed=seed).ratio.to_json()
            for m in METRICS
        },
    }


def _with_negatives(
    events: list[tuple[int, NDArray[np.int64]]],
    met: dict[int, NDArray[np.int64]],
    n_items: int,
    count: int,
    random: np.random.Generator,
) -> ImplicitRows:
    users, items, labels = list[NDArray[np.int64]](), list[NDArray[np.int64]](), list[NDArray[np.float32]]()
    every = np.arange(1, n_items)
    for user, chosen in events:
        unmet = np.setdiff1d(every, met[user], assume_unique=True)
        drawn = unmet[random.integers(0, len(unmet), count * len(chosen))] if len(unmet) else unmet
        items.append(np.concatenate([chosen, drawn]))
        labels.append(np.repeat(np.array([1, 0], np.float32), [len(chosen), len(drawn)]))
        users.append(np.full(len(items[-1]), user, np.int64))
    return ImplicitRows(np.concatenate(users), np.concatenate(items), np.concatenate(labels))
