"""`pocketrec compress MODEL --data FILE --frontier DIR`: a search for the bundles that nothing beats in bytes and ranking.

The folder keeps everything: `trials.journal` (what was tried; another process that is given the same folder helps, a later one
goes on), a bundle for each trial that nothing beats, `frontier.json` (docs/results-schema.md) and `frontier.svg`.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .option_types import count, seconds

if TYPE_CHECKING:
    from ..compress.budget import Budget
    from ..compress.frontier import Frontier, Point, SearchConfig
    from ..compress.road import Road
    from ..compress.search_space import SearchSpace

SCHEMA_VERSION = 1
ONE_BUNDLE = (
    "output", "teacher_out", "recipe", "bits", "table_width", "neighbors", "epochs", "max_drop", "max_size", "max_latency",
    "keep_nearest",
)  # fmt: skip
"""Options of one bundle, which a search has no use for."""


def add_frontier_options(parser: argparse.ArgumentParser) -> None:
    """The options of the search."""
    group = parser.add_argument_group(
        "frontier: search recipes for the bundles that nothing beats (extra `search`)",
        "Several processes may be given one folder, and a search that was stopped goes on.",
    )
    group.add_argument("--frontier", metavar="DIR", type=Path, help="search, and keep what is found here")
    group.add_argument(
        "--trials", metavar="N", type=count, default=40, help="bundles to try in all (default: 40)"
    )
    group.add_argument(
        "--timeout", metavar="TIME", type=seconds, help="start no trial after this, such as 30m or 2h"
    )
    group.add_argument(
        "--sampler", choices=("tpe", "grid"), default="tpe", help="Bayesian (default), or every combination"
    )
    group.add_argument(
        "--trial-epochs",
        metavar="N",
        type=int,
        default=2,
        help="passes of distillation inside a trial (default: 2); 0 tries rounding and pruning alone",
    )
    group.add_argument(
        "--time-trials", action="store_true", help="the time to re-rank 100 candidates counts too"
    )
    group.add_argument(
        "--refine",
        metavar="N",
        type=count,
        help="make the bundles of the front again with N passes of distillation, and test them",
    )


def check_frontier_options(args: argparse.Namespace) -> None:
    """Refuse what does not go together."""
    from ..runtime.errors import InputError

    if args.frontier is None:
        if args.output is None:
            raise InputError(
                "where to? give -o FILE for a bundle, or --frontier DIR to search for the best ones"
            )
        return
    given = [name for name in ONE_BUNDLE if getattr(args, name) is not None]
    if given:
        options = ", ".join("-o" if name == "output" else f"--{name.replace('_', '-')}" for name in given)
        raise InputError(f"--frontier searches recipes and writes its own files; leave {options} out")
    if args.frontier.exists() and not args.frontier.is_dir():
        raise InputError(f"{args.frontier}: is a file, expected a folder for the search")
    if args.trial_epochs < 0:
        raise InputError(f"--trial-epochs {args.trial_epochs}, expected at least 0")


def frontier_budget(args: argparse.Namespace) -> Budget:
    """No limits; an infinite one makes the road time its bundles."""
    from ..compress.budget import Budget

    return Budget(metric=args.metric, max_latency_ms=math.inf if args.time_trials else None)


def run_frontier(
    args: argparse.Namespace,
    open_road: Callable[[Path], Road],
    *,
    checkpoint_sha256: str,
    data: dict[str, Any],
    seed: int,
    log: Callable[[str], object],
) -> int:
    """Search, refine, write; 130 where Ctrl-C ended it, and what was found is there all the same.

    Args:
        open_road: makes the road of the teacher, given a folder for drafts.
    """
    from ..compress.frontier import SearchConfig, search
    from ..compress.publication import drafts
    from ..compress.search_space import space_of
    from .main import EXIT_INTERRUPTED

    folder: Path = args.frontier
    config = SearchConfig(
        trials=args.trials, timeout_s=args.timeout, sampler=args.sampler, timed=args.time_trials,
        epochs=args.trial_epochs, seed=seed,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    about = {"checkpoint": checkpoint_sha256, "data": data.get("sha256"), "metric": args.metric}
    opened: AbstractContextManager[Path] = drafts(folder / "search.pocket")
    with opened as hidden:
        road = open_road(hidden)
        space = space_of(road, epochs=config.epochs, seed=seed)
        found = search(road, space, folder, config, about=about, note=log)
        refined: list[dict[str, Any]] = []
        write_frontier(folder, road, found, config, refined, args, data)
        if args.refine is not None and not found.interrupted:
            refined = _refined(road, space, folder, found.front, args.refine, log)
            write_frontier(folder, road, found, config, refined, args, data)
    _print_front(folder, road, found, as_json=args.json)
    if found.interrupted:
        log(
            f"pocketrec: interrupted; {len(found.points)} trials are kept in {folder}, the same command goes on"
        )
        return EXIT_INTERRUPTED
    return 0


def _refined(
    road: Road,
    space: SearchSpace,
    folder: Path,
    front: Sequence[Point],
    epochs: int,
    log: Callable[[str], object],
) -> list[dict[str, Any]]:
    from ..compress.frontier import refine

    return [
        {
            "number": point.number, "file": path.name, "bytes": measure.size_bytes, "value": measure.figure[1],
            "rerank_ms": measure.rerank_ms, "metrics": metrics,
        }
        for point, path, measure, metrics in refine(road, space, folder, front, epochs, note=log)
    ]  # fmt: skip


def write_frontier(
    folder: Path,
    road: Road,
    found: Frontier,
    config: SearchConfig,
    refined: list[dict[str, Any]],
    args: argparse.Namespace,
    data: dict[str, Any],
) -> None:
    """`frontier.json` and, where anything was found, `frontier.svg`, each whole or not at all."""
    from ..benchmarks.machine import describe_machine
    from ..benchmarks.plots import Trial, pareto_front, standalone
    from ..compress.search_space import describe
    from ..runtime.atomic_file import write_atomically

    title, teacher = road.before.figure
    said = {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "checkpoint": args.checkpoint.name,
        "data": data,
        "metric": title,
        "settings": {
            "trials": config.trials, "timeout_s": config.timeout_s, "sampler": config.sampler, "timed": config.timed,
            "epochs": config.epochs, "refine_epochs": args.refine, "seed": config.seed,
        },
        "teacher": {"bytes": road.before.size_bytes, "value": teacher},
        "trials": [_point(point) for point in found.points],
        "failed": found.failed,
        "refined": refined,
        "machine": describe_machine(),
    }  # fmt: skip
    write_atomically(folder / "frontier.json", [(json.dumps(said, indent=1) + "\n").encode()])
    if found.points:
        trials = [
            Trial(describe(point.params), point.size_bytes, point.value, on_front=point.on_front)
            for point in found.points
        ]
        plot = standalone(pareto_front(trials, teacher, f"validation {title}"))
        write_atomically(folder / "frontier.svg", [plot.encode()])


def _point(point: Point) -> dict[str, Any]:
    return {
        "number": point.number, "params": point.params, "bytes": point.size_bytes, "value": point.value,
        "rerank_ms": point.rerank_ms, "seconds": round(point.seconds, 2), "on_front": point.on_front,
        "file": point.file if point.on_front else None,
    }  # fmt: skip


def _print_front(folder: Path, road: Road, found: Frontier, *, as_json: bool) -> None:
    from ..compress.search_space import describe

    if as_json:
        print((folder / "frontier.json").read_text(encoding="utf-8"), end="")
        return
    title, teacher = road.before.figure
    print(f"\nfront of {len(found.points)} trials, smallest first; the teacher: {title} {teacher:.4f}")
    for point in found.front:
        time_text = "" if point.rerank_ms is None else f"   {point.rerank_ms:.3f} ms"
        kept = f"{point.value / teacher:.1%}" if teacher > 0 else "n/a"
        print(
            f"  {point.size_bytes:>12,} B   {point.value:.4f} ({kept}){time_text}   {point.file}   {describe(point.params)}"
        )
    print(f"{folder / 'frontier.json'}, {folder / 'frontier.svg'}")
