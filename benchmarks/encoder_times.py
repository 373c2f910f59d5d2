"""How fast a history becomes a user vector: `python -m pocketrec.benchmarks.encoder_times TEACHER BUNDLE... --data FILE`.

One thread, one history a call, all bundles in turns, each compared with the first. Two operations,

    encoder   vectors that are looked up already -> user vector: the encoder alone
    encode    item rows -> user vector: the look-up in the bundle's table, then the encoder

each on histories of people of the data, and on the longest that the encoders take. Histories of people are short (a median
of 7 items on Beauty), so that what a call costs at all decides there, and what an item costs on long ones.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.atomic_file import write_atomically
from ..runtime.engine import Engine
from ..runtime.errors import InputError
from .interactions import describe_data, map_items, read_interactions
from .latency import Call, Timing, compare, summarize, time_interleaved
from .machine import describe_machine
from .operations import sample_histories

Prepare = Callable[[Engine, int], Call]


def operations(histories: Sequence[NDArray[np.int64]]) -> dict[str, Prepare]:
    """Both operations on histories of item rows."""

    def encoder(engine: Engine, n: int) -> Call:
        vectors = engine.table.lookup(_rows(engine, n))
        return lambda: engine.encode_vectors(vectors)

    def encode(engine: Engine, n: int) -> Call:
        rows = _rows(engine, n)
        return lambda: engine.encode(rows)

    def _rows(engine: Engine, n: int) -> NDArray[np.int64]:
        return np.ascontiguousarray(histories[n % len(histories)][None, -engine.max_length :])

    return {"encoder": encoder, "encode": encode}


def measure(
    engines: Mapping[str, Engine], histories: Sequence[NDArray[np.int64]], timing: Timing, *, seed: int
) -> list[dict[str, Any]]:
    """A row for each operation, kind of history and engine; `speedup` is over the first engine, whose row has none.

    Args:
        histories: item rows of people, oldest first, at least one each.
    """
    reference, first = next(iter(engines.items()))
    random = np.random.default_rng(seed)
    longest = [random.integers(first.n_items, size=first.max_length) for _ in range(64)]
    rows: list[dict[str, Any]] = []
    for kind, given in (("of people", histories), ("longest", longest)):
        lengths = [min(len(history), first.max_length) for history in given]
        for operation, prepare in operations(given).items():
            samples = time_interleaved(engines, prepare, timing)
            for name, samples_ms in samples.items():
                speedup = None
                if name != reference:
                    speedup = compare(samples_ms, samples[reference], seed=seed).to_json()
                rows.append(
                    {
                        "operation": operation,
                        "histories": kind,
                        "median_length": float(np.median(lengths)),
                        "system": name,
                        **summarize(samples_ms),
                        "speedup": speedup,
                    }
                )
    return rows


def lines(result: Mapping[str, Any]) -> list[str]:
    """The rows, for a terminal."""
    made: list[str] = []
    for row in result["rows"]:
        faster = "" if row["speedup"] is None else f"   {row['speedup']['ratio']['value']:.2f}x"
        made.append(
            f"{row['operation']:<8} {row['histories']:<10} {row['median_length']:>4.0f} items   {row['system']:<24}"
            f" {1000 * row['p50']['value']:8.1f} us{faster}"
        )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Time the bundles and print the rows."""
    parser = argparse.ArgumentParser(
        prog="python -m pocketrec.benchmarks.encoder_times",
        description="How fast a history becomes a user vector.",
    )
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE", help="the teacher first")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    command = [
        "python",
        "-m",
        "pocketrec.benchmarks.encoder_times",
        *(sys.argv[1:] if argv is None else argv),
    ]
    engines = {path.name.removesuffix(".pocket"): Engine.load(path, threads=1) for path in args.bundles}
    if len(engines) < len(args.bundles):
        raise InputError("encoder_times: two bundles of one name; rename one")
    first = next(iter(engines.values()))
    for name, engine in engines.items():
        if (engine.n_items, engine.max_length) != (first.n_items, first.max_length):
            raise InputError(
                f"{name}: {engine.n_items} items and histories of {engine.max_length}; "
                f"expected {first.n_items} and {first.max_length}, as the first bundle has: compare bundles of one teacher"
            )
    interactions = read_interactions(args.data)
    sequences = map_items(interactions, first.item_ids, max_unknown=1.0).sequences
    histories = sample_histories([sequence[:-1] for sequence in sequences], 256, args.seed)
    result = {
        "schema_version": 1,
        "command": shlex.join(command),
        "data": describe_data(interactions),
        "seed": args.seed,
        "rows": measure(engines, histories, Timing(n_rounds=args.rounds), seed=args.seed),
        "machine": describe_machine(),
    }
    if args.json:
        write_atomically(args.json, [json.dumps(result, indent=1).encode() + b"\n"], overwrite=True)
    print("\n".join(lines(result)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
