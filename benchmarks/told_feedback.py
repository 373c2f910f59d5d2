"""What feedback beyond clicks, and a server's scores, are worth: `python -m pocketrec.benchmarks.told_feedback BUNDLE ...`.

The choices of a replay, told to copies of one user in different ways (data with ratings):

    clicks           `feedback(item)`
    ratings          `feedback(item, kind="rating", value=stars)`: `runtime.feedback_event`
    rejections       a choice from the user's mean on, below it a dismissal that does not join the history
    best as purchases   the most stars as `kind="purchase"`

and with a server's scores of the same candidates: those of the bundle's model at the cut (`stale`), of the model now
(`live`), or noise.

    device           the user alone
    server fixed     with the scores, which count as much at last as at first
    server learned   with the scores, whose weight is learned (`runtime.server_weight`)

NDCG@10 of the next item, by user, and of the next item of at least `--good` stars; paired bootstrap over users.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.atomic_file import write_atomically
from ..runtime.engine import Engine
from ..runtime.errors import InputError
from ..runtime.item_ids import ItemId
from ..runtime.reranker import Reranker
from ..runtime.server_weight import NAME
from ..runtime.user import User
from ..runtime.user_state import UserState
from .interactions import Interactions, describe_data, read_interactions
from .machine import describe_machine
from .progress import Track, untracked
from .ranking_metrics import Interval, ndcg, paired_bootstrap
from .replay import ReplayConfig, Rows, Start, Stream, System, Traces, drawn, trace
from .replay_bundles import ReplayOptions, cut, map_for_replay
from .replay_systems import AdaptiveUser, LiveModel, StaleList

HABIT = 5  # ratings before `rejections` compares with their mean, as `runtime.feedback_event`
IMMOVABLE = 1e12  # H_0 of a server's weight that stays where it began

Stars = Mapping[tuple[int, ItemId], float]
"""By index of the user in the data, and item id."""


class ToldUser(AdaptiveUser):
    """An adaptive user who is told of a choice by `tell(user, item_id, stars)`."""

    def __init__(
        self, ranker: Reranker, stream: Stream, stars: Stars, tell: Callable[[User, ItemId, float], object]
    ) -> None:
        super().__init__(ranker, stream)
        self._who = stream.user
        self._stars = stars
        self._tell = tell

    def chosen(self, row: int) -> None:
        (item_id,) = self._item_ids.ids([row])
        self._tell(self.user, item_id, self._stars[self._who, item_id])


class ServedUser(AdaptiveUser):
    """An adaptive user whose candidates come with a server's scores."""

    def __init__(self, ranker: Reranker, stream: Stream, server: System, *, learns: bool) -> None:
        super().__init__(ranker, stream)
        self._server = server
        if not learns:
            learned = {NAME: np.array([0.0, IMMOVABLE])}
            state = UserState(self.user.history, bundle=ranker.engine.bundle.fingerprint, learned=learned)
            self.user = User(ranker, state)

    def score(self, candidates: Rows) -> NDArray[np.float32]:
        ids = self._item_ids.ids(candidates)
        scored = dict(self.user.rerank(ids, len(ids), self._server.score(candidates)))
        return np.array([scored[item_id] for item_id in ids], np.float32)

    def chosen(self, row: int) -> None:
        super().chosen(row)
        self._server.chosen(row)


class Noise:
    """A server that knows nothing."""

    def __init__(self, stream: Stream) -> None:
        self._rng = np.random.default_rng(stream.user)

    def score(self, candidates: Rows) -> NDArray[np.float32]:
        return self._rng.standard_normal(len(candidates)).astype(np.float32)

    def chosen(self, row: int) -> None:
        pass


def _rejections() -> Callable[[User, ItemId, float], object]:
    given: list[float] = []

    def tell(user: User, item_id: ItemId, stars: float) -> None:
        good = len(given) < HABIT or stars >= statistics.fmean(given)
        given.append(stars)
        user.feedback(item_id, clicked=good)

    return tell


def told_systems(ranker: Reranker, stars: Stars) -> dict[str, Start]:
    """The ways to tell of a choice; the first is what the others are compared with."""
    most = max(stars.values())

    def best_as_purchase(user: User, item_id: ItemId, given: float) -> None:
        user.feedback(item_id, kind="purchase" if given >= most else "click")

    return {
        "clicks": lambda stream: ToldUser(
            ranker, stream, stars, lambda user, item_id, _: user.feedback(item_id)
        ),
        "ratings": lambda stream: ToldUser(
            ranker,
            stream,
            stars,
            lambda user, item_id, given: user.feedback(item_id, kind="rating", value=given),
        ),
        "rejections": lambda stream: ToldUser(ranker, stream, stars, _rejections()),
        "best as purchases": lambda stream: ToldUser(ranker, stream, stars, best_as_purchase),
    }


def served_systems(ranker: Reranker, kind: str) -> dict[str, Start]:
    """With one kind of server; the fixed one is what the others are compared with."""
    servers: dict[str, Start] = {
        "stale": lambda stream: StaleList(ranker, stream),
        "live": lambda stream: LiveModel(ranker, stream),
        "noise": Noise,
    }
    server = servers[kind]
    return {
        "server fixed": lambda stream: ServedUser(ranker, stream, server(stream), learns=False),
        "server learned": lambda stream: ServedUser(ranker, stream, server(stream), learns=True),
        "device": lambda stream: AdaptiveUser(ranker, stream),
    }


def told_feedback(
    bundle: Path, data: Path, options: ReplayOptions, max_users: int, good: float, track: Track = untracked
) -> dict[str, Any]:
    """Both experiments on one bundle; ready for JSON.

    Raises:
        InputError: the data have no ratings.
    """
    interactions = read_interactions(data)
    stars = _stars(interactions)
    ranker = Reranker(Engine.load(bundle), candidates=options.candidates)
    replay = cut(map_for_replay(interactions, ranker, options), options)
    config = ReplayConfig(
        candidates=options.candidates, max_events=options.max_events, max_users=max_users, seed=options.seed
    )
    liked = {
        stream.user: np.array(
            [stars[stream.user, item_id] >= good for item_id in ranker.ids(stream.events.tolist())]
        )
        for stream in replay.streams
    }

    def run(name: str, systems: dict[str, Start]) -> list[dict[str, Any]]:
        with track(name, len(drawn(replay.streams, config))) as advance:
            traces = trace(systems, replay, ranker.engine.n_items, config, advance)
        return _summary(traces, list(systems), liked)

    return {
        "schema_version": 1,
        "command": options.command,
        "bundle": {"file": bundle.name, "fingerprint": ranker.engine.bundle.fingerprint},
        "data": describe_data(interactions),
        "protocol": replay.protocol,
        "candidates": options.candidates,
        "seed": options.seed,
        "users": len(drawn(replay.streams, config)),
        "good_stars": good,
        "told": run("ways to tell", told_systems(ranker, stars)),
        "served": {
            kind: run(f"server: {kind}", served_systems(ranker, kind)) for kind in ("stale", "live", "noise")
        },
        "machine": describe_machine(),
    }


def _stars(interactions: Interactions) -> Stars:
    if interactions.ratings is None or np.isnan(interactions.ratings).any():
        raise InputError(
            f"{interactions.source}: events without a rating; give data with a rating in each row"
        )
    users = np.repeat(np.arange(interactions.n_users), np.diff(interactions.indptr)).tolist()
    items = [interactions.item_ids[n] for n in interactions.items.tolist()]
    return dict(zip(zip(users, items, strict=True), interactions.ratings.tolist(), strict=True))


def _summary(
    traces: Traces, names: Sequence[str], liked: Mapping[int, NDArray[np.bool_]]
) -> list[dict[str, Any]]:
    """NDCG@10 of each system, and percent over the first one; of all events, and of the liked ones."""
    masks = [
        liked[user][: len(ranks[names[0]])] for user, ranks in zip(traces.users, traces.ranks, strict=True)
    ]

    def means(name: str, of_liked: bool) -> NDArray[np.float64]:
        chosen = [
            ndcg(ranks[name][mask] if of_liked else ranks[name], 10).mean()
            for ranks, mask in zip(traces.ranks, masks, strict=True)
            if mask.any() or not of_liked
        ]
        return np.array(chosen, np.float64)

    found: list[dict[str, Any]] = []
    for name in names:
        row: dict[str, Any] = {"system": name}
        for of_liked, field in ((False, "ndcg@10"), (True, "ndcg@10_good")):
            values, first = means(name, of_liked), means(names[0], of_liked)
            row[field] = float(values.mean())
            if name != names[0]:
                ratio = paired_bootstrap(values, first).ratio
                percent = (100.0 * (value - 1.0) for value in (ratio.value, ratio.low, ratio.high))
                row[f"{field}_percent"] = Interval(*percent).to_json()
        found.append(row)
    return found


def told_lines(result: dict[str, Any]) -> list[str]:
    """For people."""
    lines = [
        f"{result['users']} users; NDCG@10 of the next item, and of the next one of {result['good_stars']:g} stars and more"
    ]
    for title, rows in (
        ("told as", result["told"]),
        *((f"server: {k}", r) for k, r in result["served"].items()),
    ):
        lines.append(title)
        for row in rows:
            both = [_change(row, field) for field in ("ndcg@10", "ndcg@10_good")]
            lines.append(f"  {row['system']:<18} {both[0]:<32} {both[1]}".rstrip())
    return lines


def _change(row: dict[str, Any], field: str) -> str:
    percent = row.get(f"{field}_percent")
    if percent is None or any(value is None for value in percent.values()):
        return f"{row[field]:.4f}"
    return f"{row[field]:.4f} {percent['value']:+.1f}% [{percent['low']:+.1f}, {percent['high']:+.1f}]"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m pocketrec.benchmarks.told_feedback",
        description="Feedback beyond clicks, and servers' scores.",
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--quantile", type=float, default=0.9)
    parser.add_argument("--candidates", choices=["catalogue", "popularity"], default="popularity")
    parser.add_argument("--good", type=float, default=4.0, help="stars")
    parser.add_argument("--max-users", type=int, default=400)
    parser.add_argument("--max-events", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    command = [
        "python",
        "-m",
        "pocketrec.benchmarks.told_feedback",
        *(sys.argv[1:] if argv is None else argv),
    ]
    options = ReplayOptions(
        bundles=(args.bundle,),
        quantile=args.quantile,
        candidates=args.candidates,
        max_events=args.max_events,
        seed=args.seed,
        allow_unknown_items=True,
        command=shlex.join(command),
    )
    result = told_feedback(args.bundle, args.data, options, args.max_users, args.good)
    print("\n".join(told_lines(result)))
    if args.json is not None:
        write_atomically(args.json, [json.dumps(result, indent=1, allow_nan=False).encode()], overwrite=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
