"""A bundle of a transformer that reads long histories, its weights drawn at random: what it costs, whatever it recommends.

    python -m pocketrec.cli.long_history -o long.pocket --max-length 1000

For `pocketrec.benchmarks.scale`: none of the models that are trained here reads more than 200 events.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..compress.models.sasrec import SASRec, SASRecConfig
from ..export.bundle_writer import BundleContent, export_bundle
from ..runtime.item_ids import ItemIds
from ..runtime.item_table import quantize_rows


def main(argv: Sequence[str] | None = None) -> int:
    """The module as a command; 0."""
    parser = argparse.ArgumentParser(prog="python -m pocketrec.cli.long_history", allow_abbrev=False)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--max-length", type=int, default=1000)
    parser.add_argument("--items", type=int, default=12_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    rng = np.random.default_rng(args.seed)
    config = SASRecConfig(
        n_items=args.items, width=args.width, n_layers=args.layers, n_heads=2, max_length=args.max_length,
        inner_widths=4 * args.width,
    )  # fmt: skip
    content = BundleContent(
        name=f"random weights, {args.max_length} events",
        encoder=SASRec(config, seed=args.seed).eval(),
        max_length=args.max_length,
        table=quantize_rows(rng.standard_normal((args.items, args.width)).astype(np.float32), 4),
        item_ids=ItemIds.from_sequence(range(args.items)),
        prior_user=rng.standard_normal(args.width).astype(np.float32),
        encoder_form="float32",
        manifest={"seed": args.seed},
    )
    histories = [rng.integers(0, args.items, n) for n in (1, args.max_length)]
    size_bytes = export_bundle(args.out, content, histories, overwrite=True)
    print(f"{args.out}: {size_bytes:,} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
