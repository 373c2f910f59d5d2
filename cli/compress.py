"""`pocketrec compress CHECKPOINT --data FILE -o MODEL.pocket`: a trained recommender in, a small bundle out."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .compress_frontier import (
    add_frontier_options,
    check_frontier_options,
    frontier_budget,
    run_frontier,
)
from .compress_pointwise import (
    add_pointwise_options,
    compress_with_labels,
    load_pointwise,
    search_with_labels,
)
from .compress_result import print_done
from .compress_text import PREFIX, add_text_options, asks_for_text, compress_with_text
from .option_types import byte_size, count, milliseconds, share
from .progress import terminal_track
from .subparsers import Subparsers

if TYPE_CHECKING:
    from ..benchmarks.interactions import Interactions
    from ..compress.recipe import Recipe


def add_parser(subparsers: Subparsers) -> None:
    """Declare the options of `pocketrec compress`."""
    parser = subparsers.add_parser(
        "compress",
        description="Turn a trained checkpoint into a small bundle: prune, distill, quantize, export, verify, measure.",
    )
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        type=Path,
        help="a trained model: .pt, .pth, .safetensors; or hf:FOLDER, a text encoder",
    )
    parser.add_argument(
        "--data", metavar="FILE", type=Path, required=True, help="the interactions it was trained on"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="the bundle to write (needed, but for --frontier)"
    )
    parser.add_argument(
        "--teacher-out", metavar="FILE", type=Path, help="also write the uncompressed model as a bundle"
    )
    parser.add_argument("--force", action="store_true", help="replace outputs that exist")

    what = parser.add_argument_group("what to do")
    what.add_argument(
        "--recipe",
        metavar="NAME",
        help="balanced (default), lossless, tiny, int8, or a .toml file",
    )
    what.add_argument("--bits", metavar="N", type=int, help="bits a value of the item table: 2, 3, 4 or 8")
    what.add_argument(
        "--table-width", metavar="N", type=int, help="dimensions of the item table (default: the model's)"
    )
    what.add_argument(
        "--neighbors",
        metavar="N",
        type=count,
        help="neighbours of each item, for item-item weights (default: the fewest that rank as well)",
    )
    what.add_argument("--epochs", metavar="N", type=int, help="passes of distillation; 0 skips it")
    what.add_argument("--seed", metavar="N", type=int, help="of everything random (default: 0)")
    what.add_argument("--threads", metavar="N", type=count, help="threads of torch (default: all cores)")

    gates = parser.add_argument_group(
        "budget: what breaks it is not written, and the exit code is 1",
        "Where no recipe is asked for and the default one breaks the budget, gentler or harsher ones are tried.",
    )
    gates.add_argument(
        "--max-drop",
        metavar="SHARE",
        type=share,
        help="largest loss of the metric on validation, such as 1%%",
    )
    gates.add_argument(
        "--metric",
        metavar="NAME",
        help="that validation chooses by: ndcg@10 (default), hr@k, mrr@k, recall@k; pointwise: auc (default), logloss",
    )
    gates.add_argument(
        "--max-size", metavar="SIZE", type=byte_size, help="largest bundle, such as 400KB or 2MB"
    )
    gates.add_argument(
        "--max-latency",
        metavar="TIME",
        type=milliseconds,
        help="longest median time to re-rank 100 candidates on one thread of this machine, as `bench` measures it, "
        "such as 1ms or 300us",
    )
    gates.add_argument(
        "--keep-nearest",
        metavar="FILE",
        type=Path,
        help="where no bundle is within the budget, write the nearest one here; the exit code is 1 all the same",
    )

    add_frontier_options(parser)
    model = parser.add_argument_group("the checkpoint")
    model.add_argument(
        "--layout", metavar="NAME", help="how its weights are named (default: found by its keys)"
    )
    model.add_argument(
        "--model",
        metavar="MODULE:FACTORY",
        help="your own torch code that makes the model, such as mymodel:make (docs/your-own-model.md)",
    )
    model.add_argument("--heads", metavar="N", type=int, help="attention heads, where the file does not say")

    data = parser.add_argument_group("the interactions")
    data.add_argument(
        "--format",
        metavar="NAME",
        help="sequence, pairs, delimited, recbole, movielens or parquet (default: found)",
    )
    for column in ("user", "item", "time", "rating"):
        data.add_argument(f"--{column}", metavar="NAME", help=f"the column of the {column}")
    data.add_argument(
        "--allow-unknown-items",
        action="store_true",
        help="leave out interactions with items that the model lacks",
    )
    data.add_argument(
        "--keep-repeats",
        action="store_true",
        help="items of the history stay candidates: people come back to items",
    )
    add_text_options(parser)
    add_pointwise_options(parser)
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def run(args: argparse.Namespace) -> int:
    """Compress and print before -> after."""
    import torch

    from ..benchmarks.interactions import map_items, read_interactions
    from ..compress.budget import Budget
    from ..compress.ladder import Rungs, rungs_around
    from ..compress.layouts import ItemItemTeacher, PointwiseTeacher, Teacher, load_ranking_teacher
    from ..compress.own_model import load_own_model
    from ..compress.pipeline import compress_model, open_road
    from ..compress.publication import check_destinations
    from ..compress.recipe import DEFAULT, load_recipe
    from ..runtime.errors import InputError

    recipe = _override(load_recipe(args.recipe or DEFAULT), args)
    rungs = rungs_around(recipe) if args.recipe is None and recipe.name == DEFAULT else Rungs()
    if args.model is not None and (args.layout is not None or args.heads is not None):
        raise InputError("--model makes the model itself; leave --layout and --heads out")
    check_frontier_options(args)
    with_text = asks_for_text(args)
    if with_text and args.frontier is not None:
        raise InputError("--frontier searches models of histories or of features; leave the titles out")
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    check_destinations(
        args.output,
        args.teacher_out,
        args.keep_nearest,
        overwrite=args.force,
        inputs=[args.checkpoint, args.data],
    )
    log = print if not args.json else _to_stderr
    budget = Budget(
        max_drop=args.max_drop,
        max_size_bytes=args.max_size,
        max_latency_ms=args.max_latency,
        metric=args.metric,
    )
    if args.frontier is not None:
        budget = frontier_budget(args)
    own = None if args.model is None else load_own_model(args.checkpoint, args.model)
    pointwise = own if isinstance(own, PointwiseTeacher) else load_pointwise(args)
    if pointwise is not None and args.frontier is not None:
        return search_with_labels(args, pointwise, recipe.seed, budget, log)
    if pointwise is not None:
        compressed = compress_with_labels(args, pointwise, recipe, budget, rungs, log)
        return print_done(compressed, as_json=args.json)
    interactions = read_interactions(
        args.data, user=args.user, item=args.item, time=args.time, rating=args.rating, format=args.format
    )
    log(f"data      {interactions.describe()}")
    data = _describe_data(interactions)
    if str(args.checkpoint).startswith(PREFIX):
        compressed = compress_with_text(
            args, recipe, interactions, None, budget=budget, rungs=rungs, data=data, log=log
        )
        return print_done(compressed, as_json=args.json)
    if args.model is None:
        teacher = load_ranking_teacher(
            args.checkpoint, n_heads=args.heads, layout=args.layout, interactions=interactions
        )
    else:
        assert isinstance(own, Teacher)  # a pointwise one has gone its own road
        teacher = own
    if isinstance(teacher, ItemItemTeacher):
        size = f"{teacher.model.n_items:,} items, {teacher.model.count:,} neighbours each"
    else:
        size = f"{len(teacher.model.item_table):,} items x {teacher.model.width}"
    log(
        f"teacher   {args.checkpoint.name}: {teacher.layout}, {size}, {teacher.source.weights_bytes:,} B of weights"
    )
    for note in teacher.notes:
        log(f"          note: {note}")
    mapped = map_items(interactions, teacher.item_ids, max_unknown=1.0 if args.allow_unknown_items else 0.0)
    if mapped.warning:
        log(f"          warning: {mapped.warning}")
    if with_text:
        if isinstance(teacher, ItemItemTeacher):
            raise InputError(
                f"{args.checkpoint}: item-item weights have no item vectors; leave the titles out"
            )
        compressed = compress_with_text(
            args, recipe, interactions, teacher, budget=budget, rungs=rungs, data=data, log=log
        )
        return print_done(compressed, as_json=args.json)
    if args.frontier is not None:
        name, sequences = args.frontier.resolve().name, mapped.sequences
        return run_frontier(
            args,
            lambda folder: open_road(
                teacher, sequences, folder, name=name, seed=recipe.seed, budget=budget, keep_repeats=args.keep_repeats,
                data=data, track=terminal_track,
            ),
            checkpoint_sha256=teacher.source.sha256,
            data=data,
            seed=recipe.seed,
            log=log,
        )  # fmt: skip
    compressed = compress_model(
        teacher,
        mapped.sequences,
        recipe,
        args.output,
        budget=budget,
        rungs=rungs,
        teacher_output=args.teacher_out,
        nearest_output=args.keep_nearest,
        overwrite=args.force,
        keep_repeats=args.keep_repeats,
        data=data,
        track=terminal_track,
        say=lambda step: log(step.line()),
        note=log,
    )
    return print_done(compressed, as_json=args.json)


def _override(recipe: Recipe, args: argparse.Namespace) -> Recipe:
    """The recipe with what the flags say; a changed one is called `NAME+flags`."""
    from ..compress.distill_config import DistillConfig
    from ..compress.recipe import NeighborsConfig, TableConfig
    from ..runtime.errors import InputError

    changes: dict[str, Any] = {}
    try:
        if args.bits is not None or args.table_width is not None:
            table = recipe.table or TableConfig()
            given = {"bits": args.bits, "width": args.table_width}
            changes["table"] = dataclasses.replace(table, **{k: v for k, v in given.items() if v is not None})
        if args.epochs is not None:
            distill = recipe.distill or DistillConfig()
            changes["distill"] = (
                dataclasses.replace(distill, epochs=args.epochs) if args.epochs != 0 else None
            )
        if args.neighbors is not None or (args.bits is not None and recipe.neighbors is not None):
            neighbors = recipe.neighbors or NeighborsConfig()
            given = {"bits": args.bits, "count": args.neighbors}
            changes["neighbors"] = dataclasses.replace(
                neighbors, **{k: v for k, v in given.items() if v is not None}
            )
        if args.seed is not None:
            recipe = dataclasses.replace(recipe, seed=args.seed)
    except ValueError as error:
        raise InputError(str(error)) from None
    return dataclasses.replace(recipe, name=f"{recipe.name}+flags", **changes) if changes else recipe


def _describe_data(data: Interactions) -> dict[str, Any]:
    return {
        "file": data.source, "sha256": data.sha256, "users": data.n_users, "items": data.n_items,
        "interactions": data.n_interactions, "counts": data.counts,
    }  # fmt: skip


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)
