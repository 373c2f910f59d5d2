"""Replay: does learning on the device help? Step through what people did, as it would have happened on their device.

For each held-out user, event by event, in time order:

    rank the candidates (the item that was chosen next, and others) -> reveal the choice -> let the system learn

Systems, all on the same events and candidates:

    frozen    the bundle, its scores computed once, before the user's first event here: a list from a server
    live      the model sees the history up to now, and learns nothing
    calibrated  where the bundle has a prior: the live model and popularity, weighted as fitted; all that the mixture
                gains over it, it owes to its other experts and to learning
    adaptive  the history and the prior's mixture of experts, learning from each choice: `User.feedback`

Candidates are the chosen item and `n_negatives` others drawn by popularity without replacement (so that popularity alone
is no help), or the catalogue; in both, without what the user already chose. The figure is NDCG@10, mean over the events
of a user, then over users; intervals are paired bootstrap over users. Ties count against every system.

What is replayed must be unknown to the bundle: it was trained on what lies before the cut, on `Replay.training` and
nothing else. The last two events of a bundle trained under leave-one-out are unknown to it too, but of other users it
knows their future: good for a smoke test, not for a claim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import InputError
from .popularity import item_counts
from .ranking_metrics import Interval, bootstrap_mean, ndcg, paired_bootstrap

if TYPE_CHECKING:
    from ..runtime.item_ids import ItemId
    from ..runtime.reranker import Reranker, User

Rows = NDArray[np.int64]
CURVE_EDGES = (1, 2, 3, 6, 11, 21, 51, 101)
"""First events of the spans of the learning curve: 1, 2, 3-5, 6-10, 11-20, 21-50, 51-100, 101 and later."""
LOSS_TOLERANCE = 0.02
"""A user loses where the adaptive NDCG is more than this share below the live one."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One user: what the device knows at the cut, and what happens after it."""

    user: int
    """Index into the sequences."""
    history: Rows
    """item_rows before the cut, oldest first; empty for a new user."""
    events: Rows
    """item_rows from the cut on, oldest first, at least one."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What is replayed, and what a bundle may have been trained on."""

    streams: list[Stream]
    training: list[Rows]
    """The events before the cut, one array for each sequence."""
    protocol: str
    """As it is printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayConfig:
    """How to replay."""

    candidates: Literal["sampled", "catalogue"] = "sampled"
    n_negatives: int = 99
    """Candidates beside the chosen item, when sampled; fewer where the catalogue ends."""
    max_events: int = 100
    """Of a user; what comes later is left out, so that a few heavy users do not take all the time."""
    max_users: int | None = None
    """Drawn with the seed; None takes all."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.candidates not in ("sampled", "catalogue"):
            raise InputError(f"replay: candidates {self.candidates!r}, expected 'sampled' or 'catalogue'")
        for name in ("n_negatives", "max_events"):
            if getattr(self, name) < 1:
                raise InputError(f"replay: {name} {getattr(self, name)}, expected at least 1")
        if self.max_users is not None and self.max_users < 1:
            raise InputError(f"replay: max_users {self.max_users}, expected at least 1")


def replay_from_time(
    sequences: Sequence[Rows], times: Sequence[NDArray[np.float64]] | None, *, quantile: float = 0.9
) -> Replay:
    """Cut all users at one moment, before which lies the share `quantile` of the events; new users are kept.

    Raises:
        InputError: no times, or no event on one side of the cut.
    """
    if times is None:
        raise InputError(
            "replay from a moment needs times, and the data have none; replay the last share of each user"
        )
    if not 0 < quantile < 1:
        raise InputError(f"quantile={quantile}; expected a share of the events between 0 and 1")
    everything = np.concatenate([*times, np.empty(0)])
    cut = float(np.quantile(everything, quantile, method="higher")) if everything.size else np.inf
    n_before = [int(np.searchsorted(user_times, cut, side="left")) for user_times in times]
    return _replay(sequences, n_before, f"events from time {cut:.0f} on")


def replay_last_share(sequences: Sequence[Rows], *, share: float = 0.2) -> Replay:
    """Cut each user by itself: the last `share` of the events, at least one. For data with order only.

    Raises:
        InputError: no event on one side of the cut.
    """
    if not 0 < share < 1:
        raise InputError(f"share={share}; expected a share of a user's events between 0 and 1")
    n_before = [len(sequence) - max(round(share * len(sequence)), 1) for sequence in sequences]
    return _replay(sequences, n_before, f"the last {share:.0%} of each user's events")


def _replay(sequences: Sequence[Rows], n_before: list[int], protocol: str) -> Replay:
    streams = [
        Stream(user, sequence[:n], sequence[n:])
        for user, (sequence, n) in enumerate(zip(sequences, n_before, strict=True))
        if 0 <= n < len(sequence)
    ]
    training = [sequence[: max(n, 0)] for sequence, n in zip(sequences, n_before, strict=True)]
    if not streams or not any(len(sequence) for sequence in training):
        raise InputError("replay: all events lie on one side of the cut; choose another one")
    return Replay(streams, training, protocol)


class System(Protocol):
    """What is replayed: knows one user's history, scores candidates, and is told what was chosen."""

    def score(self, candidates: Rows) -> NDArray[np.float32]:
        """item_rows (C,) -> float32 (C,)."""
        ...

    def chosen(self, row: int) -> None:
        """The user chose this item_row of the last candidates."""
        ...


Start = Callable[[Stream], System]
"""Makes a system for one user, who has the stream's history."""


class FrozenList:
    """The bundle's scores at the cut."""

    def __init__(self, ranker: Reranker, stream: Stream) -> None:
        engine = ranker.engine
        history = stream.history[-engine.max_length :]
        user = engine.encode(history[None]) if len(history) else engine.prior()[None]
        self._scores = engine.score(user, np.arange(engine.n_items)[None])[0]

    def score(self, candidates: Rows) -> NDArray[np.float32]:
        return self._scores[candidates]

    def chosen(self, row: int) -> None:
        pass


class LiveModel:
    """The bundle's model on the history up to now, with a weight of popularity: `weights` are of both."""

    def __init__(self, ranker: Reranker, stream: Stream, weights: Sequence[float] = (1.0, 0.0)) -> None:
        self._engine = ranker.engine
        self._weights = np.asarray(weights, np.float32)
        self._history = stream.history.tolist()

    def score(self, candidates: Rows) -> NDArray[np.float32]:
        engine = self._engine
        user = engine.prior()
        if self._history:  # with none, popularity is all that the model has to say
            history = np.array([self._history[-engine.max_length :]], np.int64)
            user = self._weights @ np.stack([engine.encode(history)[0], user])
        return engine.score(user[None], candidates[None])[0]

    def chosen(self, row: int) -> None:
        self._history.append(row)


class AdaptiveUser:
    """The bundle as an app uses it: `rerank`, then `feedback`."""

    def __init__(self, ranker: Reranker, stream: Stream) -> None:
        self._item_ids = ranker.engine.item_ids
        self.user: User = ranker.user()
        self.user.observe(*self._item_ids.ids(stream.history))

    def score(self, candidates: Rows) -> NDArray[np.float32]:
        ids = self._item_ids.ids(candidates)
        score_of: dict[ItemId, float] = dict(self.user.rerank(ids, k=len(ids)))
        return np.array([score_of[item_id] for item_id in ids], np.float32)

    def chosen(self, row: int) -> None:
        (item_id,) = self._item_ids.ids([row])
        self.user.feedback(item_id, clicked=True)


def standard_systems(ranker: Reranker) -> dict[str, Start]:
    """Those of the module's docstring; `live` is what the others are compared with."""
    systems: dict[str, Start] = {
        "frozen": lambda stream: FrozenList(ranker, stream),
        "live": lambda stream: LiveModel(ranker, stream),
    }
    if ranker.prior is not None:
        calibrated = ranker.prior.calibrated[ranker.candidates]
        systems["calibrated"] = lambda stream: LiveModel(ranker, stream, calibrated.tolist())
    return systems | {"adaptive": lambda stream: AdaptiveUser(ranker, stream)}


@dataclass(slots=True)
class Traces:
    """The ranks that every system gave, event by event."""

    new_user: list[bool] = field(default_factory=list)
    ranks: list[dict[str, Rows]] = field(default_factory=list)
    """One a user: int64 (events,) by system, 1 for the best."""

    def by_user(self, system: str) -> NDArray[np.float64]:
        """Mean NDCG@10 over the events of each user: float64 (U,)."""
        return np.array([ndcg(ranks[system], 10).mean() for ranks in self.ranks])


def trace(
    systems: dict[str, Start],
    replay: Replay,
    n_items: int,
    config: ReplayConfig,
    progress: Callable[[int], object] = lambda done: None,
) -> Traces:
    """Step through the streams with all systems at once; `progress` gets the number of users just done.

    Every system gets the same candidates in the same order.
    """
    popularity = item_counts(replay.training, n_items).astype(np.float64)
    traces = Traces()
    for stream in _drawn(replay.streams, config):
        running = {name: start(stream) for name, start in systems.items()}
        ranks: dict[str, list[int]] = {name: [] for name in systems}
        for target, candidates in candidate_lists(stream, popularity, config):
            where = int(np.flatnonzero(candidates == target)[0])
            for name, system in running.items():
                scores = system.score(candidates)
                ranks[name].append(len(scores) - int(np.count_nonzero(scores < scores[where])))
                system.chosen(target)
        traces.new_user.append(len(stream.history) == 0)
        traces.ranks.append({name: np.array(values, np.int64) for name, values in ranks.items()})
        progress(1)
    return traces


def replay_systems(
    ranker: Reranker,
    replay: Replay,
    config: ReplayConfig | None = None,
    *,
    systems: dict[str, Start] | None = None,
    progress: Callable[[int], object] = lambda done: None,
) -> dict[str, Any]:
    """Replay and summarize: a dict that is ready for JSON.

    Args:
        systems: `standard_systems` by default; one of them is called `live`.
        progress: called with the number of users just done, out of `n_replayed(replay, config)`.
    """
    config = config or ReplayConfig()
    systems = systems or standard_systems(ranker)
    traces = trace(systems, replay, ranker.engine.n_items, config, progress)
    return {
        "protocol": replay.protocol,
        "candidates": f"{config.n_negatives} by popularity"
        if config.candidates == "sampled"
        else "catalogue",
        "users": len(traces.ranks),
        "new_users": sum(traces.new_user),
        "events": sum(len(ranks["live"]) for ranks in traces.ranks),
        "seed": config.seed,
        **summarize_traces(traces, list(systems), seed=config.seed),
    }


def n_replayed(replay: Replay, config: ReplayConfig) -> int:
    """Users that `replay_systems` goes through: the length of its progress bar."""
    return min(len(replay.streams), config.max_users or len(replay.streams))


def summarize_traces(traces: Traces, systems: Sequence[str], *, seed: int = 0) -> dict[str, Any]:
    """NDCG@10 of every system, gains over `live` and of `adaptive` over `frozen`, learning curve, users who lose."""
    by_user = {name: traces.by_user(name) for name in systems}

    def gain(a: str, b: str) -> dict[str, Any]:
        found = paired_bootstrap(by_user[a], by_user[b], seed=seed)
        ratio = found.ratio
        percent = Interval(*(100.0 * (value - 1.0) for value in (ratio.value, ratio.low, ratio.high)))
        return {
            "system": a,
            "over": b,
            "percent": percent.to_json(),
            "difference": found.difference.to_json(),
        }

    pairs = [(name, "live") for name in systems if name != "live"]
    pairs += [("adaptive", name) for name in ("calibrated", "frozen") if {name, "adaptive"} <= {*by_user}]
    losing = {
        name: float(np.mean(by_user[name] < (1.0 - LOSS_TOLERANCE) * by_user["live"] - 1e-12))
        for name in systems
        if name != "live"
    }
    return {
        "ndcg@10": {name: bootstrap_mean(by_user[name], seed=seed).to_json() for name in systems},
        "gains": [gain(a, b) for a, b in pairs],
        "share_of_users_that_lose": losing,
        "learning_curve": _learning_curve(traces, systems),
    }


def _learning_curve(traces: Traces, systems: Sequence[str]) -> list[dict[str, Any]]:
    """Mean NDCG@10 by the number of the event, over the users who have such events."""
    curve: list[dict[str, Any]] = []
    longest = max(len(ranks["live"]) for ranks in traces.ranks)
    for first, after in pairwise((*CURVE_EDGES, max(longest + 1, CURVE_EDGES[-1] + 1))):
        span = slice(first - 1, after - 1)
        users = [ranks for ranks in traces.ranks if len(ranks["live"]) >= first]
        if not users:
            break
        point: dict[str, Any] = {
            "first": first,
            "last": min(after - 1, longest),
            "users": len(users),
        }
        for name in systems:
            point[name] = float(np.mean([ndcg(ranks[name][span], 10).mean() for ranks in users]))
        curve.append(point)
    return curve


def replay_lines(result: dict[str, Any]) -> list[str]:
    """The result for people, a few lines."""
    lines = [
        f"replay: {result['users']:,} users ({result['new_users']:,} new), {result['events']:,} events, "
        f"{result['protocol']}; candidates: {result['candidates']}"
    ]
    for name, value in result["ndcg@10"].items():
        line = f"  {name:<10} NDCG@10 {value['value']:.4f}"
        gain = next((g for g in result["gains"] if (g["system"], g["over"]) == (name, "live")), None)
        if gain is not None and name not in ("frozen", "calibrated"):
            percent = gain["percent"]
            line += f"   {percent['value']:+.1f}% [{percent['low']:+.1f}, {percent['high']:+.1f}] over live"
        over = next((g for g in result["gains"] if (g["system"], g["over"]) == (name, "calibrated")), None)
        if over is not None:
            percent = over["percent"]
            line += (
                f"; {percent['value']:+.1f}% [{percent['low']:+.1f}, {percent['high']:+.1f}] over calibrated"
            )
        lines.append(line)
    curve = result["learning_curve"]
    spans = [f"{p['first']}" + ("" if p["first"] == p["last"] else f"-{p['last']}") for p in curve]
    lines.append("  by event   " + " ".join(f"{span:>7}" for span in spans))
    lines += [
        f"    {name:<9}" + " ".join(f"{point[name]:>7.4f}" for point in curve) for name in result["ndcg@10"]
    ]
    return lines


def candidate_lists(
    stream: Stream, popularity: NDArray[np.float64], config: ReplayConfig
) -> Iterator[tuple[int, Rows]]:
    """The chosen item and its candidates, event by event. The order of the candidates says nothing of the choice.

    What the user chose before is no candidate, unless it is chosen again.
    """
    rng = np.random.default_rng([config.seed, stream.user])
    log_popularity = np.log(
        popularity + 0.5
    )  # items that nobody met before the cut may be candidates, rarely
    free = np.ones(len(popularity), np.bool_)
    free[stream.history] = False
    for target in stream.events[: config.max_events].tolist():
        free[target] = False
        if config.candidates == "sampled":
            # Gumbel top-k: sampling without replacement in proportion to popularity
            keys = np.where(free, log_popularity + rng.gumbel(size=len(free)), -np.inf)
            n = min(config.n_negatives, int(free.sum()))
            others = np.argpartition(-keys, n - 1)[:n] if n else np.empty(0, np.int64)
        else:
            others = np.flatnonzero(free)
        yield target, np.sort(np.append(others, target))


def _drawn(streams: list[Stream], config: ReplayConfig) -> list[Stream]:
    if config.max_users is None or config.max_users >= len(streams):
        return streams
    drawn = np.random.default_rng(config.seed).choice(len(streams), config.max_users, replace=False)
    return [streams[n] for n in sorted(drawn.tolist())]
