"""Replay: does learning on the device help? Step through what people did, as it would have happened on their device.

For each held-out user, event by event, in time order:

    rank the candidates (the item that was chosen next, and others) -> reveal the choice -> let the system learn

Candidates are the chosen item and `n_negatives` others drawn by popularity without replacement (so that popularity alone
is no help), or the catalogue; in both, without what the user already chose. The systems are those of `replay_systems`, the
figures those of `replay_summary`. Ties count against every system.

What is replayed must be unknown to the bundle: it was trained on what lies before the cut, on `Replay.training` and
nothing else. Of a bundle trained and fitted under leave-one-out only each user's last event is: `replay_last_event` tells
the one before it as feedback, and ranks the last; of other users such a bundle knows what they did later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import InputError
from .popularity import item_counts
from .ranking_metrics import ndcg

Rows = NDArray[np.int64]
Candidates = Literal["popularity", "catalogue"]


@dataclass(frozen=True, slots=True)
class Stream:
    """One user: what the device knows at the cut, and what happens after it."""

    user: int
    """Index into the sequences."""
    history: Rows
    """item_rows before the cut, oldest first; empty for a new user."""
    events: Rows
    """item_rows from the cut on, oldest first, at least one."""
    n_told: int = 0
    """Of the events: the first ones, told as feedback and not ranked, since the bundle was fitted on them."""


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

    candidates: Candidates = "popularity"
    n_negatives: int = 99
    """Candidates beside the chosen item, when drawn by popularity; fewer where the catalogue ends."""
    max_events: int = 100
    """Of a user; what comes later is left out, so that a few heavy users do not take all the time."""
    max_users: int | None = None
    """Drawn with `users_seed`; None takes all."""
    seed: int = 0
    """Of the candidates."""
    users_seed: int = 0
    """Of `max_users`."""

    def __post_init__(self) -> None:
        if self.candidates not in ("popularity", "catalogue"):
            raise InputError(f"replay: candidates {self.candidates!r}, expected 'popularity' or 'catalogue'")
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


def replay_last_event(sequences: Sequence[Rows]) -> Replay:
    """For a bundle made under leave-one-out: the event before the last is told, the last one ranked.

    Raises:
        InputError: nobody has three events.
    """
    streams = [Stream(u, s[:-2], s[-2:], n_told=1) for u, s in enumerate(sequences) if len(s) >= 3]
    if not streams:
        raise InputError("replay: no user has three events; nobody can be asked about the last one")
    training = [sequence[:-2] for sequence in sequences]
    return Replay(streams, training, "each user's last event, after the one before it was told as feedback")


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


@dataclass(slots=True)
class Traces:
    """The ranks that every system gave, event by event."""

    users: list[int] = field(default_factory=list)
    """`Stream.user`."""
    new_user: list[bool] = field(default_factory=list)
    ranks: list[dict[str, Rows]] = field(default_factory=list)
    """One a user: int64 (events,) by system, 1 for the best."""

    def by_user(self, system: str, n_first: int | None = None) -> NDArray[np.float64]:
        """Mean NDCG@10 over the (first) events of each user: float64 (U,)."""
        return np.array([ndcg(ranks[system][:n_first], 10).mean() for ranks in self.ranks])


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
    for stream in drawn(replay.streams, config):
        running = {name: start(stream) for name, start in systems.items()}
        ranks: dict[str, list[int]] = {name: [] for name in systems}
        for n, (target, candidates) in enumerate(candidate_lists(stream, popularity, config)):
            where = int(np.flatnonzero(candidates == target)[0])
            for name, system in running.items():
                scores = system.score(candidates)
                if n >= stream.n_told:
                    ranks[name].append(len(scores) - int(np.count_nonzero(scores < scores[where])))
                system.chosen(target)
        traces.users.append(stream.user)
        traces.new_user.append(len(stream.history) == 0)
        traces.ranks.append({name: np.array(values, np.int64) for name, values in ranks.items()})
        progress(1)
    return traces


def drawn(streams: list[Stream], config: ReplayConfig) -> list[Stream]:
    """The users that are replayed, as many as `config.max_users`; the same ones for every seed's candidates."""
    if config.max_users is None or config.max_users >= len(streams):
        return streams
    chosen = np.random.default_rng(config.users_seed).choice(len(streams), config.max_users, replace=False)
    return [streams[n] for n in sorted(chosen.tolist())]


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
        if config.candidates == "popularity":
            # Gumbel top-k: sampling without replacement in proportion to popularity
            keys = np.where(free, log_popularity + rng.gumbel(size=len(free)), -np.inf)
            n = min(config.n_negatives, int(free.sum()))
            others = np.argpartition(-keys, n - 1)[:n] if n else np.empty(0, np.int64)
        else:
            others = np.flatnonzero(free)
        yield target, np.sort(np.append(others, target))
