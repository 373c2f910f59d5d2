"""A user goes on with a new bundle: what is what they taught the old one still worth?

    python -m pocketrec.benchmarks.transfer OLD.pocket NEW.pocket --data ratings.inter --quantile 0.7 \\
        --json benchmarks/results/adaptation/transfer.json

Both bundles were made from what lies before the cut, as different trainings of one model, or as different models. Each
user with at least `--min-events` events after it lives the first half of them with the old bundle, ranking and learning;
then the new one takes over, learns on, and is measured on the second half, by NDCG@10 of each user:

    frozen     the new model alone, on the live history
    history    the history went over, nothing of what was learned
    replayed   what was learned is learned again, from the history
    mapped     vectors and weights are mapped, with both bundles at hand (`state_transfer`)
    always     the user lived with the new bundle from the first event on: what no migration can be expected to beat
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import InputError
from ..runtime.reranker import Reranker
from ..runtime.state_transfer import migrate
from ..runtime.user import User
from ..runtime.user_state import UserState
from .interactions import map_items, read_interactions
from .measurement_file import write_measurement
from .ranking_metrics import bootstrap_mean, paired_bootstrap
from .replay import Replay, ReplayConfig, Rows, Start, Stream, replay_from_time, trace
from .replay_systems import AdaptiveUser, LiveModel

WAYS = ("history", "replayed", "mapped")


def main(argv: Sequence[str] | None = None) -> int:
    """The module as a command; 0."""
    parser = argparse.ArgumentParser(prog="python -m pocketrec.benchmarks.transfer", allow_abbrev=False)
    parser.add_argument("old", metavar="OLD")
    parser.add_argument("new", metavar="NEW")
    parser.add_argument("--data", metavar="FILE", required=True)
    parser.add_argument("--quantile", type=float, default=0.9)
    parser.add_argument("--min-events", type=int, default=10)
    parser.add_argument("--max-events", type=int, default=100)
    parser.add_argument("--candidates", choices=("popularity", "catalogue"), default="popularity")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    old = Reranker.load(args.old, candidates=args.candidates)
    new = Reranker.load(args.new, candidates=args.candidates)
    mapped = map_items(read_interactions(args.data), new.engine.item_ids, max_unknown=1.0)
    replay = halved(
        replay_from_time(mapped.sequences, mapped.times, quantile=args.quantile),
        args.min_events,
        args.max_events,
    )
    config = ReplayConfig(candidates=args.candidates, max_events=args.max_events, seed=args.seed)
    results = measure(old, new, replay, config)
    settings = {**vars(args), "json": None, "data": Path(args.data).name}
    settings |= {"old": Path(args.old).name, "new": Path(args.new).name}
    write_measurement(args.json, "transfer", settings, results)
    return 0


def halved(replay: Replay, min_events: int, max_events: int) -> Replay:
    """The users with enough events, the first half of which is told and not ranked.

    Raises:
        InputError: nobody has enough.
    """
    streams = [
        replace(stream, events=stream.events[:max_events], n_told=len(stream.events[:max_events]) // 2)
        for stream in replay.streams
        if len(stream.events) >= min_events
    ]
    if not streams:
        raise InputError(f"transfer: nobody has {min_events} events after the cut; ask for fewer")
    return replace(replay, streams=streams)


def measure(old: Reranker, new: Reranker, replay: Replay, config: ReplayConfig) -> dict[str, Any]:
    """NDCG@10 of every way, and its gain over `history` with an interval over users."""

    def migrated(way: str) -> Start:
        return lambda stream: MigratedUser(old, new, stream, way)

    systems: dict[str, Start] = {
        "frozen": lambda stream: LiveModel(new, stream),
        **{way: migrated(way) for way in WAYS},
        "always": lambda stream: AdaptiveUser(new, stream),
    }
    traces = trace(systems, replay, new.engine.n_items, config)
    by_user = {name: traces.by_user(name) for name in systems}
    gains = {
        name: paired_bootstrap(values, by_user["history"], seed=config.seed).ratio.to_json()
        for name, values in by_user.items()
        if name != "history"
    }
    return {
        "users": len(traces.users),
        "events": sum(len(ranks["history"]) for ranks in traces.ranks),
        "ndcg@10": {
            name: bootstrap_mean(values, seed=config.seed).to_json() for name, values in by_user.items()
        },
        "ratio_to_history": gains,
    }


class MigratedUser:
    """Lives with the old bundle as long as events are told, then with the new one."""

    def __init__(self, old: Reranker, new: Reranker, stream: Stream, way: str) -> None:
        self._old, self._new, self._way = old, new, way
        self._ids: Callable[[Rows], list[Any]] = new.engine.item_ids.ids
        self._left = stream.n_told
        self._user: User = old.user()
        self._user.observe(*self._ids(stream.history))

    def score(self, candidates: Rows) -> NDArray[np.float32]:
        ids = self._ids(candidates)
        score_of = {item.item_id: item.score for item in self._user.rerank(ids, k=len(ids))}
        return np.array([score_of[item_id] for item_id in ids], np.float32)

    def chosen(self, row: int) -> None:
        self._user.feedback(self._ids(np.array([row]))[0])
        self._left -= 1
        if self._left == 0:
            self._user = self._new.user(warm_start=self._migrated(self._user.state))

    def _migrated(self, state: UserState) -> UserState:
        match self._way:
            case "history":
                return UserState(history=state.history, bundle=self._new.engine.bundle.fingerprint)
            case "replayed":
                return migrate(state, self._new)
            case "mapped":
                return migrate(state, self._new, self._old)
            case _:
                raise ValueError(f"way {self._way!r}, expected one of {', '.join(WAYS)}")


if __name__ == "__main__":
    raise SystemExit(main())
