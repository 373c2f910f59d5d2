"""How long the accuracy of a bundle takes to measure: synthetic users and items, a SASRec of random weights.

    python -m pocketrec.cli.evaluation_speed --json benchmarks/results/scale/evaluation-20k-50k.json

What is timed is what `pocketrec bench` does before it times anything: read the interactions, rank every user's target among
the whole catalogue with both bundles (float32, and int8 with 4 bits an item) and with popularity, describe the lists, and
bootstrap every interval, alone, by segment and against the reference. Items are drawn by a Zipf law, histories are lognormal
about nine events; random weights rank at chance, and take as long as trained ones.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..benchmarks.bench import BenchConfig, open_systems
from ..benchmarks.bench_accuracy import measure_accuracy
from ..benchmarks.machine import available_cores
from ..benchmarks.measurement_file import write_measurement
from ..benchmarks.option_types import count
from ..compress.models.sasrec import SASRec, SASRecConfig
from ..export.bundle_writer import BundleContent, export_bundle
from ..export.encoder_int8 import EncoderForm
from ..runtime.item_ids import ItemIds
from ..runtime.item_table import FloatRows, ItemTable, quantize_rows
from .progress import terminal_track

WIDTH, LAYERS, HEADS, INNER, MAX_LENGTH, BITS = 64, 2, 2, 256, 50, 4
MEAN_LOG_LENGTH, SD_LOG_LENGTH, LONGEST = 2.2, 0.7, 200
ZIPF = 0.9
"""Exponent of the items' popularity: between MovieLens (about 0.7, with a cut tail) and Amazon's sets (about 1)."""


def write_interactions(path: Path, n_users: int, n_items: int, seed: int) -> int:
    """A tab-separated log, user, item and time; returns the number of its events."""
    rng = np.random.default_rng(seed)
    lengths = np.exp(rng.normal(MEAN_LOG_LENGTH, SD_LOG_LENGTH, n_users)).astype(np.int64).clip(3, LONGEST)
    users = np.repeat(np.arange(n_users), lengths)
    shares = np.arange(1, n_items + 1) ** -ZIPF
    items = rng.choice(n_items, len(users), p=shares / shares.sum())
    rows = zip(users.tolist(), items.tolist(), range(len(users)), strict=True)
    path.write_text("user\titem\ttime\n" + "".join(f"{u}\t{i}\t{t}\n" for u, i, t in rows))
    return len(users)


def write_bundles(folder: Path, n_items: int, seed: int) -> tuple[Path, Path]:
    """The float32 bundle, and the int8 one of the same weights."""
    rng = np.random.default_rng(seed)
    config = SASRecConfig(
        n_items=n_items,
        width=WIDTH,
        n_layers=LAYERS,
        n_heads=HEADS,
        max_length=MAX_LENGTH,
        inner_widths=INNER,
    )
    encoder = SASRec(config, seed=seed).eval()
    values = rng.standard_normal((n_items, WIDTH)).astype(np.float32)
    checked = [rng.integers(0, n_items, length) for length in (1, 9, MAX_LENGTH)]
    made = folder / "float32.pocket", folder / "int8.pocket"
    forms: tuple[tuple[ItemTable, EncoderForm], ...] = (
        (FloatRows(values), "float32"),
        (quantize_rows(values, BITS), "int8"),
    )
    for path, (table, form) in zip(made, forms, strict=True):
        content = BundleContent(
            name=path.stem,
            encoder=encoder,
            max_length=MAX_LENGTH,
            table=table,
            item_ids=ItemIds.from_sequence(range(n_items)),
            prior_user=np.zeros(WIDTH, np.float32),
            encoder_form=form,
            manifest={},
        )
        export_bundle(path, content, checked)
    return made


def measure(n_users: int, n_items: int, threads: int, seed: int) -> dict[str, Any]:
    """Seconds of the whole and of its parts; `users_a_second` is of one bundle's ranking."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        n_events = write_interactions(folder / "events.tsv", n_users, n_items, seed)
        teacher, bundle = write_bundles(folder, n_items, seed)
        config = BenchConfig(
            bundles=(bundle,), teacher=teacher, data=folder / "events.tsv", threads=(threads,), seed=seed,
            keep_repeats=True, allow_unknown_items=True,
        )  # fmt: skip
        systems = open_systems(config)
        began = time.perf_counter()
        found = measure_accuracy(config, systems, systems[0].name, terminal_track)
        seconds = time.perf_counter() - began
    ranking = {name: accuracy["seconds"] for name, accuracy in found.systems.items()}
    return {
        "users": found.data["users_evaluated"],
        "items": n_items,
        "interactions": n_events,
        "seconds": seconds,
        "ranking_seconds": ranking,
        "other_seconds": seconds - sum(ranking.values()),
        "users_a_second": {name: found.data["users_evaluated"] / took for name, took in ranking.items()},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        prog="python -m pocketrec.cli.evaluation_speed",
        description="Time the evaluation of synthetic bundles.",
    )
    parser.add_argument("--users", metavar="N", type=count, default=20_000, help="(default: 20000)")
    parser.add_argument("--items", metavar="N", type=count, default=50_000, help="(default: 50000)")
    parser.add_argument(
        "--threads", metavar="N", type=count, default=available_cores(), help="(default: all cores)"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="(default: 0)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results")
    args = parser.parse_args(argv)
    results = measure(args.users, args.items, args.threads, args.seed)
    settings = {"users": args.users, "items": args.items, "threads": args.threads, "seed": args.seed}
    write_measurement(args.json, "evaluation_speed", settings, results, package="pocketrec.cli")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
