"""Two experiments that no log can show, on the streams of a replay: `python -m pocketrec.benchmarks.simulate BUNDLE ...`.

A person becomes another (`swapped_tastes`), and people click what is high in the list (`biased_clicks`). Several bundles are
runs of one experiment, trained with other seeds; a person's figure is the mean.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..runtime.atomic_file import write_atomically
from ..runtime.engine import Engine
from ..runtime.reranker import Reranker
from .biased_clicks import ETAS, N_SHOWN, NOISE, SYSTEMS, ClickRun, click_lines, click_run, summarize_clicks
from .interactions import Interactions, describe_data, read_interactions
from .machine import describe_machine
from .option_types import count
from .progress import Track, untracked
from .replay import ReplayConfig, drawn
from .replay_bundles import ReplayOptions, cut, map_for_replay
from .swapped_tastes import Swap, Values, summarize_swaps, swap_lines, swapped_ranks


def simulate(
    data: Interactions, options: ReplayOptions, swap: Swap | None = None, track: Track = untracked
) -> dict[str, Any]:
    """Both experiments, ready for JSON."""
    began, swap = time.perf_counter(), swap or Swap()
    config = ReplayConfig(
        candidates=options.candidates,
        n_negatives=options.n_negatives,
        max_events=options.max_events,
        max_users=options.max_users,
        seed=options.seed,
        users_seed=options.seed,
    )
    swaps: list[dict[int, Values]] = []
    clicks: dict[float, list[ClickRun]] = {eta: [] for eta in ETAS}
    described, protocol = [], ""
    for n, path in enumerate(options.bundles):
        config = replace(config, seed=options.seed + n)  # other candidates, and other luck, for each bundle
        engine = Engine.load(path)
        ranker = Reranker(engine, candidates=options.candidates)
        replay = cut(map_for_replay(data, ranker, options), options)
        protocol, n_people = replay.protocol, len(drawn(replay.streams, config))
        described.append({"file": path.name, "fingerprint": engine.bundle.fingerprint})
        with track(f"{path.name}, swapped tastes", n_people) as advance:
            swaps.append(swapped_ranks(ranker, replay, config, swap, advance))
        for eta, runs in clicks.items():
            with track(f"{path.name}, clicks, eta {eta:g}", len(SYSTEMS) * n_people) as advance:
                runs.append(click_run(engine, replay, config, eta, advance))
    return {
        "schema_version": 2,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": options.command,
        "bundles": described,
        "data": describe_data(data),
        "protocol": protocol,
        "candidates": options.candidates,
        "settings": {
            "quantile": options.quantile,
            "share": options.share,
            **(asdict(config) | {"seed": options.seed}),
            **asdict(swap),
        },
        "seed": options.seed,
        "swapped_tastes": summarize_swaps(swaps, swap, seed=options.seed),
        "biased_clicks": {
            "noise": NOISE,
            "shown": N_SHOWN,
            "strengths": [summarize_clicks(runs, seed=options.seed) for runs in clicks.values()],
        },
        "machine": describe_machine(),
        "seconds": round(time.perf_counter() - began, 1),
    }


def simulation_lines(result: dict[str, Any]) -> list[str]:
    """For people."""
    swapped = result["swapped_tastes"]
    lines = ["tastes swapped: too few people have enough events"] if swapped is None else swap_lines(swapped)
    for found in result["biased_clicks"]["strengths"]:
        lines += click_lines(found)
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Run both and print them."""
    parser = argparse.ArgumentParser(
        prog="python -m pocketrec.benchmarks.simulate",
        description="Swapped tastes and biased clicks.",
        allow_abbrev=False,
    )
    parser.add_argument("bundles", metavar="BUNDLE", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--protocol", choices=["temporal", "last-share"], default="temporal")
    parser.add_argument("--quantile", type=float, default=0.9)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--candidates", choices=["catalogue", "popularity"], default="popularity")
    parser.add_argument("--max-users", type=count, help="drawn with the seed (default: all)")
    parser.add_argument("--max-events", type=count, default=100, help="with biased clicks (default: 100)")
    parser.add_argument(
        "--partners", type=count, default=4, help="others that a person is swapped with (default: 4)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    command = ["python", "-m", "pocketrec.benchmarks.simulate", *(sys.argv[1:] if argv is None else argv)]
    options = ReplayOptions(
        bundles=tuple(args.bundles),
        protocol=args.protocol,
        quantile=args.quantile,
        share=args.share,
        candidates=args.candidates,
        max_events=args.max_events,
        max_users=args.max_users,
        seed=args.seed,
        allow_unknown_items=True,
        command=shlex.join(command),
    )
    result = simulate(read_interactions(args.data), options, Swap(partners=args.partners))
    print("\n".join(simulation_lines(result)))
    if args.json is not None:
        write_atomically(args.json, [json.dumps(result, indent=1, allow_nan=False).encode()], overwrite=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
