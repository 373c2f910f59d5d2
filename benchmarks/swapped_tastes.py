"""A person's taste is swapped with another's: how soon does the device rank as if it had never met the other one?

Of each person with enough events after the cut, the first `before` are lived through once, ranking and learning. Their later
events are then met by five copies of the device, that rank the same candidates:

    steady       goes on where this person's first events left it: the steady state
    swapped      goes on where another person's first events left it; `partners` others, one after the other
    new          knows nothing and learns: what forgetting everything would give
    live steady, live swapped    the same by the model alone, which follows the history and learns nothing

Recovered, by events since the swap, is the ratio of the NDCG@10 of swapped to that of steady at the same events: a mean over
the events of a span, over the bundles and partners, then over people, with a paired bootstrap over people. What either of
the two chose before the swap is no candidate later, and events with items of the other's are left out: the device of an app
that never shows an item twice would not meet them either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.reranker import Reranker
from ..runtime.user import User
from ..runtime.user_state import UserState
from .popularity import item_counts
from .ranking_metrics import ndcg, paired_bootstrap
from .replay import Replay, ReplayConfig, Rows, Start, Stream, candidate_lists, drawn, trace
from .replay_systems import AdaptiveUser, LiveModel

SYSTEMS = ("steady", "swapped", "new", "live steady", "live swapped")
RECOVERED = 0.95
"""Of the steady state's NDCG@10."""
RATIOS = {
    "recovered": ("swapped", "steady"),
    "recovered_live": ("live swapped", "live steady"),
    "new_over_steady": ("new", "steady"),
    "swapped_over_live": ("swapped", "live swapped"),
}
_LEAST_USERS = 2  # fewer have no interval

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """Who is swapped, and how long both last."""

    before: int = 30
    """Events before the swap."""
    edges: tuple[int, ...] = (1, 6, 11, 21, 31, 41)
    """First events of the spans after it, and the end."""
    partners: int = 4
    """Others, of each person."""

    @property
    def after(self) -> int:
        """Events that are ranked after the swap; people with fewer than these and `before` are left out."""
        return self.edges[-1] - 1


class ResumedUser(AdaptiveUser):
    """A device that goes on from a state."""

    def __init__(self, ranker: Reranker, state: UserState) -> None:
        self._item_ids = ranker.engine.item_ids
        self.user = User(ranker, state)


def swapped_ranks(
    ranker: Reranker,
    replay: Replay,
    config: ReplayConfig,
    swap: Swap,
    progress: Callable[[int], object] = lambda done: None,
) -> dict[int, Values]:
    """By person, `Stream.user`: NDCG@10 of every swap, system and event, float64 (swaps, S, `swap.after`)."""
    config = replace(config, max_events=max(swap.before, swap.after))
    people = [s for s in drawn(replay.streams, config) if len(s.events) >= swap.before + swap.after]
    counts = item_counts(replay.training, ranker.engine.n_items).astype(np.float64)
    first = [replace(s, history=np.empty(0, np.int64), events=s.events[: swap.before]) for s in people]
    states = [_lived(ranker, stream, counts, config) for stream in first]
    order = np.random.default_rng(config.users_seed).permutation(len(people))
    place = np.argsort(order)
    found: dict[int, Values] = {}
    for own, stream in enumerate(people):
        others = [order[(place[own] + n) % len(people)] for n in range(1, swap.partners + 1)]
        swaps: list[Values] = []
        for other in [int(n) for n in others if n != own]:
            met = np.union1d(first[own].events, first[other].events)
            later = stream.events[swap.before :]
            later = later[~np.isin(later, first[other].events)][: swap.after]
            if len(later) == swap.after:
                after = Replay([Stream(stream.user, met, later)], replay.training, "")
                systems = _systems(ranker, first[own].events, states[own], first[other].events, states[other])
                (ranks,) = trace(systems, after, len(counts), config).ranks
                swaps.append(np.stack([ndcg(ranks[name], 10) for name in SYSTEMS]))
        if swaps:
            found[stream.user] = np.stack(swaps)
        progress(1)
    return found


def _systems(
    ranker: Reranker, own: Rows, own_state: UserState, other: Rows, other_state: UserState
) -> dict[str, Start]:
    return {
        "steady": lambda _: ResumedUser(ranker, own_state),
        "swapped": lambda _: ResumedUser(ranker, other_state),
        "new": lambda _: ResumedUser(ranker, UserState()),
        "live steady": lambda stream: LiveModel(ranker, replace(stream, history=own)),
        "live swapped": lambda stream: LiveModel(ranker, replace(stream, history=other)),
    }


def _lived(ranker: Reranker, stream: Stream, popularity: Values, config: ReplayConfig) -> UserState:
    """The state after all events of a stream."""
    system = AdaptiveUser(ranker, stream)
    for target, candidates in candidate_lists(stream, popularity, config):
        system.score(candidates)
        system.chosen(target)
    return system.user.state


def summarize_swaps(runs: Sequence[dict[int, Values]], swap: Swap, *, seed: int = 0) -> dict[str, Any] | None:
    """The curve of one or more bundles, ready for JSON; None where fewer than two people have enough events."""
    users = sorted({user for run in runs for user in run})
    if len(users) < _LEAST_USERS:
        return None
    # (U, S, events): a mean over all swaps of a person
    curves = np.stack([np.concatenate([run[u] for run in runs if u in run]).mean(axis=0) for u in users])
    spans: list[dict[str, Any]] = []
    for first, end in pairwise(swap.edges):
        of: dict[str, Values] = dict(
            zip(SYSTEMS, curves[:, :, first - 1 : end - 1].mean(axis=2).T, strict=True)
        )
        point: dict[str, Any] = {"first": first, "last": end - 1}
        point["ndcg@10"] = {name: float(values.mean()) for name, values in of.items()}
        for name, (a, b) in RATIOS.items():
            point[name] = paired_bootstrap(of[a], of[b], seed=seed).ratio.to_json()
        spans.append(point)
    return {
        "people": len(users),
        "swaps": sum(len(values) for run in runs for values in run.values()),
        "runs": len(runs),
        "events_before": swap.before,
        "spans": spans,
        "recovered_within": _recovered_within(spans),
    }


def _recovered_within(spans: Sequence[dict[str, Any]]) -> int | None:
    """The event before the first span from which on `RECOVERED` holds in every span; None where it does not in the last one."""
    within: int | None = None
    for n, span in enumerate(spans):
        value = span["recovered"]["value"]
        if value is None or value < RECOVERED:
            within = None
        elif within is None:
            within = spans[n - 1]["last"] if n else 0
    return within


def swap_lines(found: dict[str, Any]) -> list[str]:
    """For people."""
    within = found["recovered_within"]
    lines = [
        f"tastes swapped after {found['events_before']} events: {found['people']} people, {found['swaps']} swaps, "
        + (
            f"{RECOVERED:.0%} of the steady state after {within} events"
            if within is not None
            else f"not back to {RECOVERED:.0%} of the steady state"
        ),
        "  events since  swapped over steady   the same, model alone  new device over steady  swapped over model alone",
    ]
    for span in found["spans"]:
        cells = [_ratio(span[name]) for name in RATIOS]
        lines.append(
            f"  {span['first']:>3}-{span['last']:<9}" + "".join(f"  {cell:<20}" for cell in cells).rstrip()
        )
    return lines


def _ratio(interval: dict[str, float | None]) -> str:
    value, low, high = (interval[name] for name in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return "n/a"
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
