"""`pocketrec compress hf:FOLDER --items TITLES` and `pocketrec compress MODEL --items TITLES --text hf:FOLDER`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .option_types import count, share
from .progress import terminal_track

if TYPE_CHECKING:
    from ..benchmarks.interactions import Interactions
    from ..compress.budget import Budget
    from ..compress.ladder import Rungs
    from ..compress.layouts import Teacher
    from ..compress.publication import Compressed
    from ..compress.recipe import Recipe

PREFIX = "hf:"


def add_text_options(parser: argparse.ArgumentParser) -> None:
    """The options that only texts need."""
    text = parser.add_argument_group(
        "item texts (extra `text`): hf:FOLDER as CHECKPOINT ranks by titles alone"
    )
    text.add_argument(
        "--items", metavar="FILE", type=Path, help="titles: a table with the columns item_id and title"
    )
    text.add_argument(
        "--text",
        metavar="hf:FOLDER",
        type=_encoder,
        help="add a text tower to a checkpoint, for items it does not know",
    )
    text.add_argument(
        "--hide-items",
        metavar="SHARE",
        type=share,
        default=0.0,
        help="leave a share of the items out of everything, to measure cold items with",
    )
    text.add_argument(
        "--text-forms",
        metavar="NAMES",
        default="bag",
        help="towers to try, the best is kept: bag (default), transformer, or bag,transformer",
    )
    text.add_argument(
        "--text-steps", metavar="N", type=count, help="steps that a text tower learns for (default: 4000)"
    )


def asks_for_text(args: argparse.Namespace) -> bool:
    """Whether the command line is of this road; raises `InputError` where its options do not fit together."""
    from ..runtime.errors import InputError

    alone = str(args.checkpoint).startswith(PREFIX)
    if alone and args.text is not None:
        raise InputError(f"--text {args.text} and {args.checkpoint}: one encoder is enough; leave --text out")
    if (alone or args.text is not None) and args.items is None:
        raise InputError(
            "an encoder needs titles: give --items FILE, a table with the columns item_id and title"
        )
    if not (alone or args.text is not None) and (args.items is not None or args.hide_items):
        raise InputError(
            "--items and --hide-items need an encoder: --text hf:FOLDER, or hf:FOLDER as CHECKPOINT"
        )
    if (alone or args.text is not None) and (args.keep_nearest is not None or args.max_latency is not None):
        raise InputError("--keep-nearest and --max-latency are of bundles without titles; leave them out")
    return alone or args.text is not None


def compress_with_text(
    args: argparse.Namespace,
    recipe: Recipe,
    interactions: Interactions,
    teacher: Teacher | None,
    *,
    budget: Budget,
    rungs: Rungs,
    data: dict[str, Any],
    log: Callable[[str], object],
) -> Compressed:
    """Read the titles and the encoder, and go the road of texts."""
    from ..benchmarks.item_texts import read_item_texts
    from ..compress.text.hf_encoder import load_hf_encoder
    from ..compress.text.text_road import TextOptions, compress_text
    from ..compress.text.tower_choice import TowerConfig
    from ..compress.text.tower_distill import DistillTowerConfig

    forms: Any = tuple(name.strip() for name in args.text_forms.split(","))
    distill = DistillTowerConfig() if args.text_steps is None else DistillTowerConfig(steps=args.text_steps)
    options = TextOptions(hide_items=args.hide_items, tower=TowerConfig(forms=forms, distill=distill))
    texts = read_item_texts(args.items)
    log(f"items     {texts.describe()}")
    encoder = load_hf_encoder(str(args.text or args.checkpoint))
    log(
        f"encoder   {encoder.name}: {encoder.model_type}, width {encoder.hidden}, {encoder.source.weights_bytes:,} B of weights"
    )
    return compress_text(
        encoder,
        texts,
        interactions,
        recipe,
        args.output,
        teacher=teacher,
        options=options,
        budget=budget,
        rungs=rungs,
        teacher_output=args.teacher_out,
        overwrite=args.force,
        keep_repeats=args.keep_repeats,
        data=data,
        threads=args.threads or 1,
        track=terminal_track,
        say=lambda step: log(step.line()),
        note=lambda line: log(f"          {line}"),
    )


def _encoder(text: str) -> str:
    if not text.startswith(PREFIX):
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected hf: and a folder, such as hf:all-MiniLM-L6-v2"
        )
    return text
