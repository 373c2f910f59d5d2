"""Two experiments that no log can show, on the streams of a replay: `python -m pocketrec.benchmarks.simulate BUNDLE ...`.

**Swapped tastes.** After `N_BEFORE` events a person's events become another person's. Both of

    swapped  met the events of somebody else
    steady   met the first events of this person

then meet the same later events of this person. Recovered is the ratio of their NDCG@10, by events since the swap; the same
for the bundle that learns nothing but follows the history, for comparison.

**Biased clicks.** A person is shown the first `N_SHOWN` of a ranking and reads from the top: place k is examined with
probability k ** -eta; of what is examined, the item that the person really chose next is clicked, and any other with
probability `NOISE`; the first click ends the list, and where there is none nothing is learned. Every system shows its own
lists to its own copy of the person, who draws the same numbers:

    frozen     follows the clicks as history, and learns nothing
    naive      learns from them as they are
    corrected  learns with the examination given (`runtime.examination`)

The figure is NDCG@10 of what the person really chose next, mean over events, then over users, with paired bootstrap.
The click model is the position-based one (Craswell et al. 2008, WSDM) with one click a list.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.atomic_file import write_atomically
from ..runtime.engine import Engine
from ..runtime.reranker import Reranker
from .interactions import describe_data, read_interactions
from .machine import describe_machine
from .progress import Track, untracked
from .ranking_metrics import Interval, ndcg, paired_bootstrap
from .replay import Replay, ReplayConfig, Stream, candidate_lists, drawn, trace
from .replay_bundles import ReplayOptions, cut, map_for_replay
from .replay_systems import AdaptiveUser, standard_systems

N_BEFORE, N_AFTER = 40, 50
"""Events before and after the swap; users with fewer are left out."""
SPAN = 10
ETAS = (0.0, 0.5, 1.0, 2.0)
N_SHOWN = 10
NOISE = 0.02

Values = NDArray[np.float64]


def swap_tastes(
    ranker: Reranker, replay: Replay, config: ReplayConfig, progress: Callable[[int], object] = lambda n: None
) -> dict[str, Any] | None:
    """Recovery after a swap, by spans of events; None where fewer than two users have enough events."""
    long = [s for s in drawn(replay.streams, config) if len(s.events) >= N_BEFORE + N_AFTER]
    if len(long) < 2:
        return None
    systems = {n: start for n, start in standard_systems(ranker).items() if n in ("live", "adaptive")}
    config = replace(config, max_events=N_BEFORE + N_AFTER, max_users=None)
    later: dict[str, dict[str, Values]] = {}
    for kind, before in (("steady", long), ("swapped", [*long[1:], long[0]])):
        streams = [
            Stream(own.user, np.empty(0, np.int64), _joined(other, own), n_told=N_BEFORE)
            for own, other in zip(long, before, strict=True)
        ]
        traces = trace(systems, Replay(streams, replay.training, ""), ranker.engine.n_items, config, progress)
        later[kind] = {n: np.array([ndcg(ranks[n], 10) for ranks in traces.ranks]) for n in systems}
    spans = []
    for first in range(0, N_AFTER, SPAN):
        span = slice(first, first + SPAN)
        point: dict[str, Any] = {"first": first + 1, "last": first + SPAN}
        for name in systems:
            found = paired_bootstrap(
                later["swapped"][name][:, span].mean(axis=1), later["steady"][name][:, span].mean(axis=1)
            )
            point[name] = found.ratio.to_json()
        spans.append(point)
    return {"users": len(long), "events_before": N_BEFORE, "recovered": spans}


def _joined(other: Stream, own: Stream) -> NDArray[np.int64]:
    """The first events of the other (or one's own), then one's own later ones; what comes twice comes later."""
    later = own.events[N_BEFORE : N_BEFORE + N_AFTER]
    return np.concatenate([other.events[:N_BEFORE], later])


def biased_clicks(
    engine: Engine,
    replay: Replay,
    config: ReplayConfig,
    eta: float,
    progress: Callable[[int], object] = lambda n: None,
) -> dict[str, Any]:
    """One strength of bias: NDCG@10 of every system, and differences with intervals."""
    theta = np.arange(1, N_SHOWN + 1.0) ** -eta
    plain = Reranker(engine, candidates=config.candidates)
    corrected = Reranker(engine, candidates=config.candidates, examination=theta.tolist())
    popularity = np.bincount(np.concatenate(replay.training), minlength=engine.n_items).astype(np.float64)
    found: dict[str, list[float]] = {"frozen": [], "naive": [], "corrected": []}
    clicks = dict.fromkeys(found, 0)
    for stream in drawn(replay.streams, config):
        people = {name: _Person(corrected if name == "corrected" else plain, stream) for name in found}
        gains: dict[str, list[float]] = {name: [] for name in found}
        rng = np.random.default_rng([config.seed, stream.user, 1])
        for target, candidates in candidate_lists(stream, popularity, config):
            examined, noise = rng.random(N_SHOWN) < theta, rng.random(N_SHOWN) < NOISE
            for name, person in people.items():
                rank, shown = person.rank(candidates, target)
                gains[name].append(float(ndcg(np.array([rank]), 10)[0]))
                clicked = np.flatnonzero(examined[: len(shown)] & ((shown == target) | noise[: len(shown)]))
                if len(clicked):
                    person.click(int(shown[clicked[0]]), learn=name != "frozen")
                    clicks[name] += 1
        for name, values in gains.items():
            found[name].append(float(np.mean(values)))
        progress(1)
    by_user = {name: np.array(values) for name, values in found.items()}
    pairs = (("naive", "frozen"), ("corrected", "frozen"), ("corrected", "naive"))
    return {
        "eta": eta,
        "users": len(by_user["frozen"]),
        "clicks": clicks,
        "ndcg@10": {name: float(values.mean()) for name, values in by_user.items()},
        "gains": [{"system": a, "over": b, "percent": _percent(by_user[a], by_user[b])} for a, b in pairs],
    }


class _Person(AdaptiveUser):
    """One copy of a person, in front of one system."""

    def rank(self, candidates: NDArray[np.int64], target: int) -> tuple[int, NDArray[np.int64]]:
        """The rank of the target, ties against it, and the rows that are shown."""
        scores = self.score(candidates)
        rank = int((scores >= scores[candidates == target][0]).sum())
        return rank, candidates[np.argsort(-scores, kind="stable")[:N_SHOWN]]

    def click(self, row: int, *, learn: bool) -> None:
        (item_id,) = self._item_ids.ids([row])
        if learn:
            self.user.feedback(item_id)
        else:
            self.user.observe(item_id)


def simulate(
    bundle: Path, data: Path, options: ReplayOptions, max_users: int, track: Track = untracked
) -> dict[str, Any]:
    """Both experiments on one bundle, ready for JSON."""
    interactions = read_interactions(data)
    engine = Engine.load(bundle)
    ranker = Reranker(engine, candidates=options.candidates)
    replay = cut(map_for_replay(interactions, ranker, options), options)
    config = ReplayConfig(
        candidates=options.candidates, max_events=options.max_events, max_users=max_users, seed=options.seed
    )
    with track("swapped tastes", 2 * len(drawn(replay.streams, config))) as advance:
        swapped = swap_tastes(ranker, replay, config, advance)
    clicks = []
    for eta in ETAS:
        with track(f"biased clicks, eta {eta}", len(drawn(replay.streams, config))) as advance:
            clicks.append(biased_clicks(engine, replay, config, eta, advance))
    return {
        "schema_version": 1,
        "command": options.command,
        "bundle": {"file": bundle.name, "fingerprint": engine.bundle.fingerprint},
        "data": describe_data(interactions),
        "protocol": replay.protocol,
        "candidates": options.candidates,
        "seed": options.seed,
        "swapped_tastes": swapped,
        "biased_clicks": {"noise": NOISE, "shown": N_SHOWN, "strengths": clicks},
        "machine": describe_machine(),
    }


def simulation_lines(result: dict[str, Any]) -> list[str]:
    """For people."""
    lines: list[str] = []
    if (swapped := result["swapped_tastes"]) is not None:
        lines.append(
            f"tastes swapped after {swapped['events_before']} events, {swapped['users']} users; recovered:"
        )
        for point in swapped["recovered"]:
            adaptive, live = point["adaptive"], point["live"]
            lines.append(
                f"  events {point['first']:>2}-{point['last']:<2}  adaptive {adaptive['value']:.2f} "
                f"[{adaptive['low']:.2f}, {adaptive['high']:.2f}]   live {live['value']:.2f}"
            )
    for found in result["biased_clicks"]["strengths"]:
        lines.append(f"clicks with examination 1/k^{found['eta']:g}, {found['users']} users:")
        for gain in found["gains"]:
            percent = gain["percent"]
            lines.append(
                f"  {gain['system']:<9} over {gain['over']:<7} {percent['value']:+.1f}% [{percent['low']:+.1f}, {percent['high']:+.1f}]"
            )
    return lines


def _percent(a: Values, b: Values) -> dict[str, float | None]:
    ratio = paired_bootstrap(a, b).ratio
    return Interval(*(100.0 * (value - 1.0) for value in (ratio.value, ratio.low, ratio.high))).to_json()


def main(argv: Sequence[str] | None = None) -> int:
    """Run both and print them."""
    parser = argparse.ArgumentParser(
        prog="python -m pocketrec.benchmarks.simulate", description="Swapped tastes and biased clicks."
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--protocol", choices=["temporal", "last-share"], default="temporal")
    parser.add_argument("--quantile", type=float, default=0.9)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--candidates", choices=["catalogue", "popularity"], default="popularity")
    parser.add_argument("--max-users", type=int, default=400)
    parser.add_argument("--max-events", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    options = ReplayOptions(
        bundles=(args.bundle,),
        protocol=args.protocol,
        quantile=args.quantile,
        share=args.share,
        candidates=args.candidates,
        max_events=args.max_events,
        seed=args.seed,
        allow_unknown_items=True,
        command=shlex.join(
            ["python", "-m", "pocketrec.benchmarks.simulate", *(sys.argv[1:] if argv is None else argv)]
        ),
    )
    result = simulate(args.bundle, args.data, options, args.max_users)
    print("\n".join(simulation_lines(result)))
    if args.json is not None:
        write_atomically(args.json, [json.dumps(result, indent=1, allow_nan=False).encode()], overwrite=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
