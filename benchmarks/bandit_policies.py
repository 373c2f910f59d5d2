"""Policies for the counterfactual evaluation: from a log to the probability of each item at each of its rounds.

What a policy knows at a round is what another log taught it, or the rounds before that one: never the round itself. Those
that learn explore, so that they can be evaluated by a log of any policy that gives every item a chance: `EXPLORATION` of
the time they draw evenly.

    uniform          each item alike
    popularity       as the smoothed click rates of the other log, weighted by 1 / propensity
    other log        as often as the other log's policy showed each item at each position
    click counts     as the smoothed click rates of the rounds so far, of all users together
    online softmax   the runtime's learner (`residual_user`) on the items' features: one vector for all users and one for each
                     of their categories, which add up; each click is learned against all items
    re-ranker        online softmax, and log(1 + affinity): what the device of that user has counted
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..runtime.item_space import ItemSpace
from ..runtime.item_table import FloatRows
from ..runtime.residual_user import ResidualUser
from .open_bandit import BanditLog

Floats = NDArray[np.float64]
Policy = Callable[[BanditLog, BanditLog, NDArray[np.float32]], Floats]
"""(log, other log, items' features (A, D)) -> probabilities, float64 (n, A)."""

EXPLORATION = 0.1
SMOOTHING = 200.0
"""Rounds of the average click rate that every item begins with."""


def uniform(log: BanditLog, other: BanditLog, items: NDArray[np.float32]) -> Floats:
    """1 / A."""
    return np.full((len(log), len(items)), 1 / len(items))


def popularity(log: BanditLog, other: BanditLog, items: NDArray[np.float32]) -> Floats:
    """In proportion to the other log's click rates."""
    weights = 1 / (other.propensities * len(items))
    rates = _rates(other.actions, other.clicks * weights, weights, len(items), float(other.clicks.mean()))
    return np.tile(_explored(rates / rates.sum()), (len(log), 1))


def as_the_other_log(log: BanditLog, other: BanditLog, items: NDArray[np.float32]) -> Floats:
    """The other policy, as far as it does not depend on the user or the time."""
    n_positions = int(max(log.positions.max(), other.positions.max())) + 1
    counts = np.zeros((n_positions, len(items)))
    np.add.at(counts, (other.positions, other.actions), 1.0)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    return shares[log.positions]


def click_counts(log: BanditLog, other: BanditLog, items: NDArray[np.float32]) -> Floats:
    """In proportion to the click rates so far; the average that they begin with is the other log's."""
    average = float(other.clicks.mean())
    shown = np.zeros((len(log), len(items)))
    shown[np.arange(len(log)), log.actions] = 1 / (log.propensities * len(items))
    before = np.cumsum(shown, axis=0) - shown
    clicked = shown * log.clicks[:, None]
    clicked_before = np.cumsum(clicked, axis=0) - clicked
    rates = (clicked_before + SMOOTHING * average) / (before + SMOOTHING)
    return _explored(rates / rates.sum(axis=1, keepdims=True))


def online_softmax(log: BanditLog, other: BanditLog, items: NDArray[np.float32]) -> Floats:
    """The runtime's learner."""
    return _learned(log, items, np.zeros_like(log.affinities))


def reranker(log: BanditLog, other: BanditLog, items: NDArray[np.float32]) -> Floats:
    """The runtime's learner, and the user's own counts."""
    return _learned(log, items, np.log1p(log.affinities))


POLICIES: dict[str, Policy] = {
    "uniform": uniform,
    "popularity": popularity,
    "other log": as_the_other_log,
    "click counts": click_counts,
    "online softmax": online_softmax,
    "re-ranker": reranker,
}


def _learned(log: BanditLog, items: NDArray[np.float32], offsets: Floats) -> Floats:
    space = ItemSpace.of(FloatRows(items))
    contexts = np.concatenate([np.zeros((len(log), 1), np.int64), log.user_features + 1], axis=1)
    users: dict[tuple[int, int], ResidualUser] = {}
    probabilities = np.empty((len(log), len(items)))
    first = 0
    for click in [*np.flatnonzero(log.clicks), len(log)]:
        rounds = np.arange(first, min(click + 1, len(log)))  # nothing is learned between two clicks
        logits = offsets[rounds].copy()
        for n in range(contexts.shape[1]):
            for value in np.unique(contexts[rounds, n]):
                if (n, int(value)) in users:
                    with_value = contexts[rounds, n] == value
                    logits[with_value] += items @ (users[n, int(value)].vector / space.radius)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities[rounds] = odds / odds.sum(axis=1, keepdims=True)
        if click < len(log):
            q = probabilities[click].astype(np.float32)
            for n, value in enumerate(contexts[click].tolist()):
                user = users.setdefault((n, value), ResidualUser.new(space.width))
                user.learn_(items, q, int(log.actions[click]), radius=space.radius, chosen=True)
        first = click + 1
    return _explored(probabilities)


def _rates(actions: NDArray[np.int64], clicks: Floats, shown: Floats, n_items: int, average: float) -> Floats:
    clicked = np.bincount(actions, clicks, n_items) + SMOOTHING * average
    return clicked / (np.bincount(actions, shown, n_items) + SMOOTHING)


def _explored(probabilities: Floats) -> Floats:
    return (1 - EXPLORATION) * probabilities + EXPLORATION / probabilities.shape[-1]
