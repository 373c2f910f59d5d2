"""`pocketrec compress` of pointwise models: labelled rows instead of histories, AUC instead of NDCG."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from .compress_frontier import run_frontier
from .progress import terminal_track

if TYPE_CHECKING:
    from ..benchmarks.labelled_rows import LabelledSplits
    from ..compress.budget import Budget
    from ..compress.ladder import Rungs
    from ..compress.layouts import PointwiseTeacher
    from ..compress.pointwise_spec import PointwiseSpec
    from ..compress.publication import Compressed
    from ..compress.recipe import Recipe


def add_pointwise_options(parser: argparse.ArgumentParser) -> None:
    """What only pointwise models have a use for."""
    group = parser.add_argument_group("pointwise models: data are labelled rows of features")
    group.add_argument(
        "--label-threshold",
        metavar="X",
        type=float,
        help="a row is positive where its label is at least X (default: as the checkpoint was trained)",
    )


def load_pointwise(args: argparse.Namespace) -> PointwiseTeacher | None:
    """The teacher, where the checkpoint is of a pointwise model; None where it ranks by a history."""
    from ..compress.checkpoint import read_checkpoint
    from ..compress.layouts import PointwiseTeacher
    from ..compress.layouts.known_layouts import POINTWISE_LAYOUTS, find_layout, load_pointwise_teacher
    from ..compress.own_model import load_own_model

    if str(args.checkpoint).startswith("hf:"):
        return None
    if args.model is not None:
        own = load_own_model(args.checkpoint, args.model)
        return own if isinstance(own, PointwiseTeacher) else None
    layout = find_layout(read_checkpoint(args.checkpoint), args.layout)
    if layout not in POINTWISE_LAYOUTS:
        return None
    return load_pointwise_teacher(args.checkpoint, data=args.data, n_heads=args.heads, layout=layout.name)


def compress_with_labels(
    args: argparse.Namespace,
    teacher: PointwiseTeacher,
    recipe: Recipe,
    budget: Budget,
    rungs: Rungs,
    log: Callable[[str], object],
) -> Compressed:
    """Read the rows and compress."""
    from ..compress.pointwise_road import compress_pointwise

    teacher, spec, data = _read_rows(args, teacher, log)
    return compress_pointwise(
        teacher,
        spec,
        data,
        recipe,
        args.output,
        budget=budget,
        rungs=rungs,
        teacher_output=args.teacher_out,
        nearest_output=args.keep_nearest,
        overwrite=args.force,
        track=terminal_track,
        say=lambda step: log(step.line()),
        note=log,
    )


def search_with_labels(
    args: argparse.Namespace,
    teacher: PointwiseTeacher,
    seed: int,
    budget: Budget,
    log: Callable[[str], object],
) -> int:
    """Read the rows and search; see `compress_frontier`."""
    from ..compress.pointwise_road import PointwiseRoad

    teacher, spec, data = _read_rows(args, teacher, log)
    name = args.frontier.resolve().name
    return run_frontier(
        args,
        lambda folder: PointwiseRoad(
            teacher, spec, data, folder, name=name, seed=seed, budget=budget, track=terminal_track
        ),
        checkpoint_sha256=teacher.source.sha256,
        data=data.described,
        seed=seed,
        log=log,
    )


def _read_rows(
    args: argparse.Namespace, teacher: PointwiseTeacher, log: Callable[[str], object]
) -> tuple[PointwiseTeacher, PointwiseSpec, LabelledSplits]:
    """The rows as the teacher reads them, and what was found on the way, said."""
    from ..benchmarks.labelled_rows import read_labelled
    from ..compress.pointwise_spec import sort_tokens, spec_of

    teacher = sort_tokens(teacher)
    spec = spec_of(teacher, item=args.item, user=args.user, threshold=args.label_threshold)
    data = read_labelled(args.data, spec)
    counts = ", ".join(f"{count:,} {part}" for part, count in data.described["rows"].items())
    log(f"data      {args.data.name}: rows {counts}; split {data.described['split']['kind']}")
    n_rows = sum(len(table) for table in teacher.model.tables.values())
    log(
        f"teacher   {args.checkpoint.name}: {teacher.layout}, {len(spec.schema.fields)} fields, {n_rows:,} rows of tables, "
        f"{teacher.source.weights_bytes:,} B of weights"
    )
    for note in teacher.notes:
        log(f"          note: {note}")
    return teacher, spec, data


def print_label_result(done: Compressed) -> None:
    """The figures on the test rows, and the size."""
    ours, theirs = done.metrics["accuracy"]["metrics"], done.metrics["teacher"]["metrics"]
    kept = done.metrics["kept"]["metrics"]
    print(f"\ntest rows {'':24} teacher    bundle      bundle / teacher (95% interval)")
    for name, title in (("auc", "AUC"), ("log_loss", "log loss (lower is better)")):
        ratio = kept[name]["ratio"]
        interval = f"{ratio['value']:.2%} ({ratio['low']:.2%} to {ratio['high']:.2%})"
        print(f"  {title:<32} {theirs[name]['value']:.4f}    {ours[name]['value']:.4f}      {interval}")
    if (catalogue := done.metrics.get("catalogue")) is not None:
        print(f"whole catalogue, {catalogue['users']:,} users, history masked")
        for name, kept_share in catalogue["kept"].items():
            before, after = catalogue["teacher"][name]["value"], catalogue["accuracy"][name]["value"]
            share = "n/a" if kept_share["value"] is None else f"{kept_share['value']:.1%}"
            print(f"  {name.upper():<32} {before:.4f}    {after:.4f}      {share}")
    if theirs["auc"]["value"] < 0.55:
        print(
            "  warning: the teacher's AUC is hardly better than chance; is this the data set that it was trained on?"
        )
    print(
        f"\n{done.path}: {done.size_bytes:,} bytes, {done.checkpoint_bytes / done.size_bytes:.2f}x smaller than the checkpoint's "
        f"weights ({done.checkpoint_bytes:,}), in {done.seconds:.0f} s"
    )
