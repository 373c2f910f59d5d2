"""`pocketrec train DATA -o MODEL.safetensors`: a teacher from an interaction log, beside popularity: a SASRec, or
item-item weights.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .progress import terminal_track
from .subparsers import Subparsers
from .train_item_item import MODELS, add_item_item_options, check_item_item_options, train_item_item

if TYPE_CHECKING:
    from ..benchmarks.protocols import Split
    from ..compress.models.sasrec import SASRecConfig
    from ..compress.train import TrainConfig

VALIDATION_USERS = 10_000
"""Most users who are asked after each epoch: their mean is known to .001, and asking all can cost more than the epoch."""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the options of `pocketrec train`."""
    parser = subparsers.add_parser(
        "train",
        description="Train a teacher: a SASRec, or item-item weights. The last item of each user is the test, the one before it stops the training.",
    )
    parser.add_argument(
        "interactions", metavar="DATA", type=Path, help="interactions: who met which item, in time order"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        required=True,
        help="the checkpoint to write (.safetensors)",
    )
    parser.add_argument("--force", action="store_true", help="replace the output if it exists")

    model = parser.add_argument_group("the model")
    model.add_argument(
        "--model",
        choices=("sasrec", *MODELS),
        default="sasrec",
        help="sasrec (default), or item-item weights: ease, itemknn",
    )
    model.add_argument(
        "--width", metavar="N", type=int, default=64, help="dimensions of an item (default: 64)"
    )
    model.add_argument("--layers", metavar="N", type=int, default=2, help="default: 2")
    model.add_argument("--heads", metavar="N", type=int, default=2, help="attention heads (default: 2)")
    model.add_argument(
        "--max-length", metavar="N", type=int, default=50, help="longest history it looks at (default: 50)"
    )
    model.add_argument(
        "--dropout", metavar="SHARE", type=float, default=0.2, help="in training only (default: 0.2)"
    )

    training = parser.add_argument_group("the training")
    training.add_argument("--epochs", metavar="N", type=int, default=100, help="at most (default: 100)")
    training.add_argument(
        "--patience",
        metavar="N",
        type=int,
        default=5,
        help="epochs without a better validation NDCG@10 before it stops (default: 5)",
    )
    training.add_argument(
        "--learning-rate", metavar="X", type=float, default=1e-3, help="Adam's (default: 0.001)"
    )
    training.add_argument(
        "--batch-size", metavar="N", type=int, default=64, help="histories a step (default: 64)"
    )
    training.add_argument(
        "--negatives",
        metavar="N",
        type=int,
        help="sampled negatives a step, 0 for the whole catalogue (default: 0 up to 50,000 items, else 1024)",
    )
    training.add_argument(
        "--seed", metavar="N", type=int, default=0, help="of everything random (default: 0)"
    )
    training.add_argument("--threads", metavar="N", type=int, help="threads of torch (default: all cores)")

    add_item_item_options(parser)
    data = parser.add_argument_group("the interactions")
    data.add_argument(
        "--format",
        metavar="NAME",
        help="sequence, pairs, delimited, recbole, movielens or parquet (default: found)",
    )
    for column in ("user", "item", "time", "rating"):
        data.add_argument(f"--{column}", metavar="NAME", help=f"the column of the {column}")
    data.add_argument(
        "--keep-repeats",
        action="store_true",
        help="items of the history stay candidates: people come back to items",
    )
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def run(args: argparse.Namespace) -> int:
    """Train, write the checkpoint, print its figures on the test items."""
    import torch

    from ..benchmarks.accuracy import describe_ranking
    from ..benchmarks.evaluate import Ranking, Scorer, evaluate_ranks
    from ..benchmarks.interactions import map_items, read_interactions
    from ..benchmarks.popularity import PopularityScorer, item_counts
    from ..benchmarks.protocols import leave_one_out, training_sequences
    from ..benchmarks.ranking_metrics import per_user
    from ..compress.meter import TorchScorer
    from ..compress.native_checkpoint import save_checkpoint
    from ..compress.publication import check_destination
    from ..compress.train import train_sasrec

    began = time.perf_counter()
    config, shape = _configs(args)
    check_item_item_options(args)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    check_destination(args.output, overwrite=args.force)
    log = print if not args.json else _to_stderr
    interactions = read_interactions(
        args.interactions,
        user=args.user,
        item=args.item,
        time=args.time,
        rating=args.rating,
        format=args.format,
    )
    log(f"data      {interactions.describe()}")
    item_ids = _item_ids(interactions.item_ids)
    if args.model != "sasrec":
        metrics, size_bytes = train_item_item(args, interactions, item_ids, log)
        return _print_done(args, metrics, size_bytes, {}, f"{args.model}, ", time.perf_counter() - began)
    sequences = map_items(interactions, item_ids).sequences
    validation, test = leave_one_out(sequences, stage="validation"), leave_one_out(sequences, stage="test")
    training = training_sequences(sequences)
    asked = _some_users(validation, VALIDATION_USERS, args.seed)
    shape = dataclasses.replace(shape, n_items=interactions.n_items)
    negatives = config.negatives_for(shape.n_items)
    loss = f"{negatives:,} sampled negatives" if negatives else "softmax over the catalogue"
    log(
        f"model     SASRec: {shape.n_items:,} items x {shape.width}, {shape.n_layers} layers, {args.heads} heads, history of {shape.max_length}; {loss}"
    )

    def rank(scorer: Scorer, split: Split, title: str) -> Ranking:
        with terminal_track(title, len(split)) as advance:
            return evaluate_ranks(scorer, split, keep_repeats=args.keep_repeats, n_top=0, progress=advance)

    model, report = train_sasrec(
        training,
        config,
        shape,
        validate=lambda m: float(per_user(rank(TorchScorer(m), asked, "validate").ranks, "ndcg@10").mean()),
        seed=args.seed,
        track=terminal_track,
        on_epoch=lambda done: log(
            f"epoch {done['epoch']:<3.0f} loss {done['loss']:.4f}, validation NDCG@10 {done['validation_ndcg10']:.4f},"
            f" {done['seconds']:.0f} s"
        ),
    )
    log(
        f"training  {len(report['epochs'])} epochs in {report['seconds']:.0f} s"
        f"{', interrupted' if report['interrupted'] else ''}; the best is epoch {report['best_epoch']}:"
        f" validation NDCG@10 {report['validation_ndcg10']:.4f}"
    )
    metrics = {
        "model": describe_ranking(rank(TorchScorer(model), test, "test"), seed=args.seed),
        "popularity": describe_ranking(
            rank(PopularityScorer(item_counts(training, shape.n_items)), test, "test popularity"),
            seed=args.seed,
        ),
    }
    remembered = {
        "data": {"file": interactions.source, "sha256": interactions.sha256},
        "config": dataclasses.asdict(config),
        "seed": args.seed,
        "best_epoch": report["best_epoch"],
        "validation_ndcg10": report["validation_ndcg10"],
        "test": {name: _values(metrics[name]) for name in metrics},
    }
    size_bytes = save_checkpoint(args.output, model, item_ids, training=remembered, overwrite=args.force)
    what = f"{report['parameters']:,} parameters, "
    return _print_done(args, metrics, size_bytes, report, what, time.perf_counter() - began)


def _print_done(
    args: argparse.Namespace,
    metrics: dict[str, Any],
    size_bytes: int,
    report: dict[str, Any],
    what: str,
    seconds: float,
) -> int:
    if args.json:
        result = {
            "output": str(args.output),
            "size_bytes": size_bytes,
            "training": report,
            "metrics": metrics,
        }
        print(json.dumps({**result, "seconds": seconds}, indent=1))
    else:
        _print_figures(metrics)
        print(f"\n{args.output}: {what}{size_bytes:,} bytes, in {seconds:.0f} s")
    return 0


def _configs(args: argparse.Namespace) -> tuple[TrainConfig, SASRecConfig]:
    """What the options say, the number of items still to be found; a wrong one is an error before any work."""
    from ..compress.models.sasrec import SASRecConfig
    from ..compress.train import TrainConfig
    from ..runtime.errors import InputError

    if args.seed < 0:
        raise InputError(f"seed: got {args.seed}, expected at least 0")
    if args.threads is not None and args.threads < 1:
        raise InputError(f"threads: got {args.threads}, expected at least 1")
    config = TrainConfig(
        epochs=args.epochs,
        patience=args.patience,
        learning_rate=args.learning_rate,
        batch_size=args.batch_size,
        negatives=args.negatives,
        mask_history=not args.keep_repeats,
    )
    try:
        shape = SASRecConfig(
            n_items=1,
            width=args.width,
            n_layers=args.layers,
            n_heads=args.heads,
            max_length=args.max_length,
            dropout=args.dropout,
            positions="start",  # windows begin anywhere, so the first rows are learned from every history
        )
    except ValueError as error:
        raise InputError(str(error)) from None
    return config, shape


def _item_ids(found: list[int] | list[str]) -> Any:
    """Rows in the order of integer ids, so that consecutive ones cost nothing; strings as they came."""
    from ..runtime.item_ids import ItemIds

    return ItemIds.from_sequence(sorted(found) if isinstance(found[0], int) else found)


def _some_users(split: Split, n_users: int, seed: int) -> Split:
    """At most so many users of the split, drawn with the seed."""
    import numpy as np

    if len(split) <= n_users:
        return split
    drawn = np.sort(np.random.default_rng(seed).choice(len(split), n_users, replace=False))
    return dataclasses.replace(
        split,
        histories=[split.histories[user] for user in drawn.tolist()],
        targets=split.targets[drawn],
        users=split.users[drawn],
    )


def _values(described: dict[str, Any]) -> dict[str, float]:
    """The means alone, six digits each."""
    return {name: float(f"{found['value']:.6g}") for name, found in described["metrics"].items()}


def _print_figures(metrics: dict[str, Any]) -> None:
    ours, popular = metrics["model"]["metrics"], metrics["popularity"]["metrics"]
    print(f"\n{'test items, full ranking':<32} model     (95% interval)        popularity")
    for name in ("hr@10", "ndcg@10", "mrr@10"):
        found = ours[name]
        interval = f"({found['low']:.4f} to {found['high']:.4f})"
        print(f"  {name.upper():<30} {found['value']:.4f}    {interval:<21} {popular[name]['value']:.4f}")
    if popular["ndcg@10"]["value"] >= ours["ndcg@10"]["value"]:
        print("  warning: no better than popularity; try more epochs, or is there an order in these events?")


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)
