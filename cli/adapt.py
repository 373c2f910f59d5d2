"""`pocketrec adapt BUNDLE --data FILE -o OUT`: what a bundle learns with, fitted anew; the model stays as it is.

The last step of `pocketrec compress` by itself: for a bundle that was made without it, when there are newer events, or to
give a bundle the categories of its items (`--items TABLE --categories COLUMN`), which then ship with it and go into its
taste table. As with `compress`, each user's last event is left for testing and the one before it is what is fitted on.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .subparsers import Subparsers

if TYPE_CHECKING:
    from ..runtime.rank_options import Categories


def add_parser(subparsers: Subparsers) -> None:
    """Declare the options of `pocketrec adapt`."""
    parser = subparsers.add_parser(
        "adapt", description="Fit anew what a bundle learns with on the device; the model stays as it is."
    )
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="a bundle of a sequence model")
    parser.add_argument(
        "--data", metavar="FILE", type=Path, required=True, help="the interactions it was made from"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, required=True, help="the bundle to write"
    )
    parser.add_argument("--items", metavar="FILE", type=Path, help="a table with item ids and categories")
    parser.add_argument(
        "--categories", metavar="COLUMN", help="of --items: names of categories, separated by spaces or bars"
    )
    parser.add_argument(
        "--taste-bits",
        metavar="N",
        type=int,
        choices=(2, 3, 4, 8),
        default=2,
        help="bits a value of the taste table, of 64 values an item: 2, 3, 4 or 8 (default: 2)",
    )
    parser.add_argument(
        "--keep-repeats",
        action="store_true",
        help="items of the history are candidates too: people come back",
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="(default: 0)")
    parser.add_argument("--force", action="store_true", help="replace the output if it exists")


def run(args: argparse.Namespace) -> int:
    """Fit, write, and print what re-ranking gains on the validation events."""
    from ..benchmarks.interactions import map_items, read_interactions
    from ..compress.adapt import AdaptationConfig
    from ..compress.adapt_again import adapt_again
    from ..runtime.engine import Engine
    from ..runtime.errors import InputError

    if (args.items is None) != (args.categories is None):
        raise InputError("--items and --categories go together: a table, and its column of categories")
    if args.output.exists() and not args.force:
        raise InputError(f"{args.output}: exists; give another name, or --force")
    engine = Engine.load(args.bundle)
    mapped = map_items(read_interactions(args.data), engine.item_ids)
    categories = None if args.items is None else read_category_column(args.items, args.categories)
    made = adapt_again(
        engine,
        mapped.sequences,
        AdaptationConfig(taste_bits=args.taste_bits),
        args.output,
        categories=categories,
        seed=args.seed,
        keep_repeats=args.keep_repeats,
        overwrite=args.force,
    )
    if made.adaptation is None:
        print("no expert pays on the validation events, or they are too few", file=sys.stderr)
        return 1
    gains = made.adaptation.detail()["re_ranking_percent"]
    for source, (gain, low, high) in gains.items():
        print(f"{source:<11} NDCG@10 of re-ranking {gain:+.1f}% [{low:+.1f}, {high:+.1f}] over the model")
    print(f"{args.output}: {made.size_bytes:,} bytes, was {engine.bundle.size_bytes:,}")
    return 0


def read_category_column(table: Path, column: str) -> Categories:
    """Categories by item id, as the file has it; integers by their decimal form count as both.

    Raises:
        InputError: as `read_item_texts`.
    """
    from ..benchmarks.item_texts import read_item_texts

    found: dict[int | str, tuple[str, ...]] = {}
    for item_id, text in read_item_texts(table, text_column=column).by_id.items():
        names = tuple(text.replace("|", " ").split())
        found[item_id] = names
        if item_id.isdecimal():
            found[int(item_id)] = names
    return found
