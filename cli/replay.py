"""What learning from feedback is worth, told from logs.

pocketrec replay A.pocket [B.pocket ...] --data FILE   events that a bundle never saw, one after the other
pocketrec replay --counterfactual DIR                  what other policies would have earned in the place of those that logged
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from .option_types import count, share
from .progress import terminal_track
from .subparsers import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Declare the options of `pocketrec replay`."""
    parser = subparsers.add_parser(
        "replay",
        description="Step through what people did later, event by event: rank, see the choice, learn, go on.",
    )
    parser.epilog = (
        "The bundles must not have seen what is replayed: train and compress them on the events before the cut. "
        "Several bundles are runs of one experiment, trained with other seeds; a user's figure is the mean. "
        "--counterfactual takes no bundle: it evaluates policies by the propensities of two logs of the Open Bandit Dataset, "
        "the re-ranker's learner among them."
    )
    parser.add_argument("bundles", metavar="BUNDLE", nargs="*", type=Path, help="bundles to replay")
    parser.add_argument(
        "--data", metavar="FILE", type=Path, help="interactions, of the past and of the future"
    )
    parser.add_argument(
        "--counterfactual",
        metavar="DIR",
        type=Path,
        help="instead: IPS, SNIPS and DR of policies on random.csv, bts.csv and item_context.csv in DIR",
    )
    cut = parser.add_argument_group("what is past, and what is future")
    cut.add_argument(
        "--protocol",
        choices=["temporal", "last-share", "leave-one-out"],
        default="temporal",
        help="temporal: events after one moment (default); last-share: each user's last events, for data with order "
        "only; leave-one-out: each user's last event, for bundles made under it",
    )
    cut.add_argument(
        "--quantile", metavar="SHARE", type=share, default=0.9, help="events before the moment (default: 0.9)"
    )
    cut.add_argument(
        "--share", metavar="SHARE", type=share, default=0.2, help="of each user's events (default: 0.2)"
    )
    cut.add_argument(
        "--max-events", metavar="N", type=count, default=100, help="events of a user (default: 100)"
    )
    cut.add_argument("--max-users", metavar="N", type=count, help="users, drawn with the seed (default: all)")
    lists = parser.add_argument_group("what is ranked")
    lists.add_argument(
        "--candidates",
        choices=["catalogue", "popularity"],
        default="catalogue",
        help="the catalogue (default), or the event and others drawn by popularity",
    )
    lists.add_argument(
        "--negatives", metavar="N", type=count, default=99, help="drawn by popularity (default: 99)"
    )
    lists.add_argument(
        "--seeds", metavar="N", type=count, default=1, help="draws of candidates for each bundle (default: 1)"
    )
    lists.add_argument("--seed", metavar="N", type=int, default=0, help="the first of them (default: 0)")
    lists.add_argument(
        "--allow-unknown-items",
        action="store_true",
        help="leave out events with items a bundle does not have",
    )
    parser.add_argument(
        "--baseline",
        choices=["live", "calibrated", "stale"],
        help="show gains over this one only: live, the bundle without learning; calibrated, with popularity weighted "
        "too; stale, scores computed once (default: all)",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results; - prints them alone")


def run(args: argparse.Namespace) -> int:
    """Replay or evaluate, print the figures, write what was asked for."""
    from ..runtime.atomic_file import write_atomically
    from .bench import check_writable

    alone = str(args.json) == "-"
    if args.json is not None and not alone:
        check_writable(args.json)
    command = shlex.join(["pocketrec", *sys.argv[1:]])
    result, lines = (_replayed if args.counterfactual is None else _counterfactual)(args, command)
    text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False)
    print(text if alone else "\n".join(lines))
    if args.json is not None and not alone:
        write_atomically(args.json, [text.encode()], overwrite=True)
        print(f"\nwritten: {args.json}")
    return 0


def _replayed(args: argparse.Namespace, command: str) -> tuple[dict[str, Any], list[str]]:
    from ..benchmarks.interactions import read_interactions
    from ..benchmarks.replay_bundles import ReplayOptions, replay_bundles
    from ..benchmarks.replay_summary import replay_lines
    from ..runtime.errors import InputError

    if not args.bundles or args.data is None:
        missing = "a bundle" if not args.bundles else "--data FILE"
        raise InputError(f"replay: expected {missing}; or --counterfactual DIR, without either")
    options = ReplayOptions(
        bundles=tuple(args.bundles),
        protocol=args.protocol,
        quantile=args.quantile,
        share=args.share,
        candidates=args.candidates,
        n_negatives=args.negatives,
        max_events=args.max_events,
        max_users=args.max_users,
        seeds=args.seeds,
        seed=args.seed,
        allow_unknown_items=args.allow_unknown_items,
        command=command,
    )
    result = replay_bundles(options, read_interactions(args.data), terminal_track)
    return result, replay_lines(result, args.baseline)


def _counterfactual(args: argparse.Namespace, command: str) -> tuple[dict[str, Any], list[str]]:
    from ..benchmarks.counterfactual import N_RESAMPLES, counterfactual, counterfactual_lines
    from ..benchmarks.measurement_file import measurement
    from ..runtime.errors import InputError

    if args.bundles or args.data is not None:
        given = "a bundle" if args.bundles else "--data"
        raise InputError(
            f"replay: {given} beside --counterfactual, which takes DIR alone; ask for one of both"
        )
    results = counterfactual(
        args.counterfactual, n_resamples=N_RESAMPLES, seed=args.seed, track=terminal_track
    )
    settings = {"data": args.counterfactual.name, "resamples": N_RESAMPLES, "seed": args.seed}
    return measurement(command, settings, results), counterfactual_lines(results)
