"""`pocketrec train DATA -o MODEL.safetensors --model ease`: item-item weights, solved for rather than trained."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .progress import terminal_track

if TYPE_CHECKING:
    from ..benchmarks.interactions import Interactions
    from ..runtime.neighbors import Neighbors

MODELS = ("ease", "itemknn")


def add_item_item_options(parser: argparse.ArgumentParser) -> None:
    """Declare them."""
    solved = parser.add_argument_group("item-item weights")
    solved.add_argument(
        "--regularization", metavar="X", type=float, default=250.0, help="of EASE (default: 250)"
    )
    solved.add_argument(
        "--neighbors", metavar="N", type=int, default=100, help="of each item, ItemKNN (default: 100)"
    )
    solved.add_argument("--shrink", metavar="X", type=float, default=0.0, help="of ItemKNN (default: 0)")


def check_item_item_options(args: argparse.Namespace) -> None:
    """Refuse options that make no sense, before any work."""
    from ..runtime.errors import InputError

    if not args.regularization > 0:
        raise InputError(f"regularization: got {args.regularization}, expected above 0")
    if args.neighbors < 1:
        raise InputError(f"neighbors: got {args.neighbors}, expected at least 1")
    if not args.shrink >= 0:
        raise InputError(f"shrink: got {args.shrink}, expected at least 0")


def train_item_item(
    args: argparse.Namespace, interactions: Interactions, item_ids: Any, log: Callable[[str], object]
) -> tuple[dict[str, Any], int]:
    """Solve, measure on the test items, write; returns the figures, and the file's size in bytes."""
    from ..benchmarks.accuracy import describe_ranking
    from ..benchmarks.evaluate import Ranking, Scorer, evaluate_ranks
    from ..benchmarks.interactions import map_items
    from ..benchmarks.popularity import PopularityScorer, item_counts
    from ..benchmarks.protocols import leave_one_out, training_sequences
    from ..compress.models.fold_in import MAX_LENGTH
    from ..compress.native_item_item import save_item_item
    from ..compress.neighbor_choice import NeighborsScorer

    began = time.perf_counter()
    sequences = map_items(interactions, item_ids).sequences
    training, test = training_sequences(sequences), leave_one_out(sequences, stage="test")
    neighbors, config = _solve(args, training, interactions.n_items)
    log(
        f"model     {args.model}: {neighbors.n_items:,} items, {neighbors.count:,} neighbours each, "
        f"solved in {time.perf_counter() - began:.1f} s"
    )

    def rank(scorer: Scorer, title: str) -> Ranking:
        with terminal_track(title, len(test)) as advance:
            return evaluate_ranks(scorer, test, keep_repeats=args.keep_repeats, n_top=0, progress=advance)

    popular = PopularityScorer(item_counts(training, interactions.n_items))
    metrics = {
        "model": describe_ranking(rank(NeighborsScorer(neighbors, MAX_LENGTH), "test"), seed=args.seed),
        "popularity": describe_ranking(rank(popular, "test popularity"), seed=args.seed),
    }
    remembered = {
        "data": {"file": interactions.source, "sha256": interactions.sha256},
        "test": {
            name: {metric: float(f"{found['value']:.6g}") for metric, found in of["metrics"].items()}
            for name, of in metrics.items()
        },
    }
    size_bytes = save_item_item(
        args.output, neighbors, item_ids, config=config, training=remembered, overwrite=args.force
    )
    return metrics, size_bytes


def _solve(args: argparse.Namespace, training: list[Any], n_items: int) -> tuple[Neighbors, dict[str, Any]]:
    from ..compress.models.item_item import ease, item_knn

    if args.model == "ease":
        config = {"method": "ease", "regularization": args.regularization}
        return ease(training, n_items, regularization=args.regularization), config
    config = {"method": "itemknn", "neighbors": args.neighbors, "shrink": args.shrink}
    return item_knn(training, n_items, count=args.neighbors, shrink=args.shrink), config
