"""What each expert of a bundle's mixture costs and brings: the replay with one of them left out at a time.

    python -m pocketrec.benchmarks.expert_ablation BUNDLE --data FILE --candidates popularity --json FILE

Experts are left out in groups, their weights in the prior set to 0, the others as fitted; every other setting of the replay
is that of `pocketrec replay`. `brings` is the NDCG@10 of the whole mixture over the mixture without the group, in percent,
paired bootstrap over users. `bytes` is what the bundle is larger by: the taste space alone has a table of its own, the
others look at the model's. What they cost in time, `benchmarks.learners` measures on a bundle with and without.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.adaptation import TASTE_EXPERTS, AdaptationPrior
from ..runtime.atomic_file import write_atomically
from ..runtime.engine import Engine
from ..runtime.errors import InputError
from ..runtime.reranker import Reranker
from .interactions import describe_data, read_interactions
from .machine import describe_machine
from .progress import Track, untracked
from .ranking_metrics import Interval, paired_bootstrap
from .replay import Replay, ReplayConfig, Start, drawn, trace
from .replay_bundles import ReplayOptions, cut, map_for_replay
from .replay_systems import AdaptiveUser, LiveModel

GROUPS: dict[str, tuple[str, ...]] = {
    "popularity": ("popularity",),
    "recent_fast": ("recent_fast",),
    "recent_slow": ("recent_slow",),
    "recent_last": ("recent_last",),
    "all recency": ("recent_fast", "recent_slow", "recent_last"),
    "user_vector": ("user_vector",),
    "taste means": ("taste_fast", "taste_slow", "taste_last"),
    "taste_vector": ("taste_vector",),
    "taste space": TASTE_EXPERTS,
    "user vectors": ("user_vector", "taste_vector"),
}


def without(prior: AdaptationPrior, experts: Sequence[str]) -> AdaptationPrior:
    """The prior with the weights of these experts 0."""
    kept = np.array([name not in experts for name in prior.experts], np.float64)
    return dataclasses.replace(
        prior,
        weights={source: weights * kept for source, weights in prior.weights.items()},
        fresh_weights={source: weights * kept for source, weights in prior.fresh_weights.items()},
    )


def ablate(engine: Engine, replay: Replay, config: ReplayConfig, track: Track = untracked) -> dict[str, Any]:
    """NDCG@10 of the mixture, and of it without each group of experts that it has.

    Raises:
        InputError: the bundle has no prior.
    """

    def ranker_of(experts: Sequence[str]) -> Reranker:
        ranker = Reranker(engine, candidates=config.candidates)
        if ranker.prior is not None:
            ranker.prior = without(ranker.prior, experts)
        return ranker

    whole = ranker_of(())
    if whole.prior is None:
        raise InputError(f"{engine.bundle.path}: no adaptation, so there are no experts to leave out")
    weights = np.maximum(*(np.abs(whole.prior.weights_at(config.candidates, f)) for f in (0.0, 1.0)))
    names = whole.prior.experts
    groups = {
        name: experts
        for name, experts in GROUPS.items()
        if any(expert in names and weights[names.index(expert)] != 0 for expert in experts)
    }
    rankers = {name: ranker_of(experts) for name, experts in groups.items()}

    def adaptive(ranker: Reranker) -> Start:
        return lambda stream: AdaptiveUser(ranker, stream)

    systems: dict[str, Start] = {"live": lambda stream: LiveModel(whole, stream), "whole": adaptive(whole)}
    systems |= {name: adaptive(ranker) for name, ranker in rankers.items()}
    with track("leave one out", len(drawn(replay.streams, config))) as advance:
        traces = trace(systems, replay, engine.n_items, config, advance)
    by_user = {name: traces.by_user(name) for name in systems}
    taste_bytes = sum(
        part["size"] for part in engine.bundle.manifest["parts"] if part["name"].startswith("taste_")
    )
    return {
        "users": len(traces.users),
        "ndcg@10": {name: float(by_user[name].mean()) for name in ("live", "whole")},
        "whole_over_live": _percent(by_user["whole"], by_user["live"]),
        "groups": [
            {
                "left_out": name,
                "experts": [expert for expert in experts if expert in names],
                "bytes": taste_bytes if name == "taste space" else 0,
                "ndcg@10_without": float(by_user[name].mean()),
                "brings": _percent(by_user["whole"], by_user[name]),
            }
            for name, experts in groups.items()
        ],
    }


def ablation_lines(result: dict[str, Any]) -> list[str]:
    """For people."""
    lines = [
        f"{result['users']} users, whole mixture over the live model: {_interval(result['whole_over_live'])}"
    ]
    lines += [
        f"  {group['left_out']:<13} {group['bytes']:>9,} B   brings {_interval(group['brings'])}"
        for group in result["groups"]
    ]
    return lines


def _percent(a: Any, b: Any) -> dict[str, float | None]:
    ratio = paired_bootstrap(a, b).ratio
    return Interval(*(100.0 * (value - 1.0) for value in (ratio.value, ratio.low, ratio.high))).to_json()


def _interval(percent: dict[str, Any]) -> str:
    if percent["value"] is None:
        return "n/a"
    return f"{percent['value']:+.1f}% [{percent['low']:+.1f}, {percent['high']:+.1f}]"


def main(argv: Sequence[str] | None = None) -> int:
    """Replay and print."""
    parser = argparse.ArgumentParser(
        prog="python -m pocketrec.benchmarks.expert_ablation", description="What each expert brings."
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--protocol", choices=["temporal", "last-share", "leave-one-out"], default="temporal")
    parser.add_argument("--quantile", type=float, default=0.9)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--candidates", choices=["catalogue", "popularity"], default="popularity")
    parser.add_argument("--max-users", type=int, default=400)
    parser.add_argument("--max-events", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    words = sys.argv[1:] if argv is None else argv
    options = ReplayOptions(
        bundles=(args.bundle,),
        protocol=args.protocol,
        quantile=args.quantile,
        share=args.share,
        candidates=args.candidates,
        allow_unknown_items=True,
    )
    data, engine = read_interactions(args.data), Engine.load(args.bundle)
    replay = cut(map_for_replay(data, Reranker(engine), options), options)
    config = ReplayConfig(
        candidates=args.candidates, max_events=args.max_events, max_users=args.max_users, seed=args.seed
    )
    result = {
        "schema_version": 1,
        "command": shlex.join(["python", "-m", "pocketrec.benchmarks.expert_ablation", *words]),
        "bundle": {
            "file": args.bundle.name,
            "fingerprint": engine.bundle.fingerprint,
            "size_bytes": engine.bundle.size_bytes,
        },
        "data": describe_data(data),
        "protocol": replay.protocol,
        "candidates": args.candidates,
        "seed": args.seed,
        **ablate(engine, replay, config),
        "machine": describe_machine(),
    }
    print("\n".join(ablation_lines(result)))
    if args.json is not None:
        write_atomically(args.json, [json.dumps(result, indent=1, allow_nan=False).encode()], overwrite=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
