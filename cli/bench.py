"""`pocketrec bench A.pocket [B.pocket ...] --data FILE`: what bundles cost and what they kept, measured here and now."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

from .option_types import count
from .progress import terminal_track
from .subparsers import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Declare the options of `pocketrec bench`."""
    parser = subparsers.add_parser(
        "bench",
        description="Measure bundles on interactions: ranking, latency, memory and size, all in one run.",
    )
    parser.epilog = (
        "With --teacher (`pocketrec compress --teacher-out` writes one), every bundle is compared with it, on the "
        "same users and in the same rounds; else several bundles are compared with the first."
    )
    parser.add_argument("bundles", metavar="BUNDLE", nargs="+", type=Path, help="bundles to measure")
    parser.add_argument(
        "--data", metavar="FILE", type=Path, required=True, help="interactions, as for compress"
    )
    parser.add_argument("--teacher", metavar="BUNDLE", type=Path, help="the uncompressed model, as a bundle")
    parser.add_argument(
        "--protocol", choices=["leave-one-out"], default="leave-one-out", help="how the data are split"
    )
    parser.add_argument("--keep-repeats", action="store_true", help="items of the history stay candidates")
    parser.add_argument(
        "--allow-unknown-items",
        action="store_true",
        help="leave out interactions with items a bundle does not have",
    )
    parser.add_argument(
        "--device",
        metavar="NAME",
        default="cpu",
        help="where to run: cpu (default), or what this onnxruntime has of cuda, tensorrt, openvino, coreml, xnnpack",
    )
    parser.add_argument(
        "--threads", metavar="N,...", type=_counts, help="threads to time with (default: 1 and all cores)"
    )
    parser.add_argument(
        "--users",
        metavar="N",
        type=count,
        default=400,
        help="users whose histories are timed (default: 400)",
    )
    parser.add_argument(
        "--rounds", metavar="N", type=count, default=400, help="timed calls of each operation (default: 400)"
    )
    parser.add_argument(
        "--seed", metavar="N", type=int, default=0, help="of samples and resamples (default: 0)"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results; - prints them alone")
    parser.add_argument("--report", metavar="FILE", type=Path, help="write the report, one HTML page")


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write what was asked for."""
    from ..benchmarks.bench import BenchConfig, run_bench
    from ..benchmarks.latency import Timing
    from ..benchmarks.machine import available_cores
    from ..benchmarks.report import render_report
    from ..benchmarks.results_table import results_lines
    from ..runtime.atomic_file import write_atomically

    alone = str(args.json) == "-"
    outputs = [path for path in (args.json, args.report) if path is not None and str(path) != "-"]
    for path in outputs:
        check_writable(path)
    results = run_bench(
        BenchConfig(
            bundles=tuple(args.bundles),
            data=args.data,
            teacher=args.teacher,
            protocol=args.protocol,
            keep_repeats=args.keep_repeats,
            allow_unknown_items=args.allow_unknown_items,
            device=args.device,
            threads=args.threads or tuple(dict.fromkeys((1, available_cores()))),
            latency_users=args.users,
            timing=Timing(n_rounds=args.rounds),
            seed=args.seed,
            command=_command(args),
        ),
        terminal_track,
    )
    text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)
    print(text if alone else "\n".join(results_lines(results)))
    if args.json is not None and not alone:
        write_atomically(args.json, [text.encode()], overwrite=True)
    if args.report is not None:
        write_atomically(args.report, [render_report(results).encode()], overwrite=True)
    if outputs and not alone:
        print(f"\nwritten: {', '.join(map(str, outputs))}")
    return 0


def _counts(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(count(part) for part in text.split(",")))


def check_writable(path: Path) -> None:
    """Before minutes of measuring: an output that could not be written."""
    from ..runtime.errors import InputError

    if path.is_dir():
        raise InputError(f"{path}: is a directory, expected a file to write")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path}: no folder {path.absolute().parent}; make it first")


def _command(args: argparse.Namespace) -> str:
    """The command that measures the same again."""
    words = ["pocketrec", "bench", *map(str, args.bundles), "--data", str(args.data)]
    if args.teacher is not None:
        words += ["--teacher", str(args.teacher)]
    words += [
        f"--{name.replace('_', '-')}"
        for name in ("keep_repeats", "allow_unknown_items")
        if getattr(args, name)
    ]
    words += ["--device", args.device]
    if args.threads is not None:
        words += ["--threads", ",".join(map(str, args.threads))]
    words += ["--users", str(args.users), "--rounds", str(args.rounds), "--seed", str(args.seed)]
    for name in ("json", "report"):
        if getattr(args, name) is not None:
            words += [f"--{name}", str(getattr(args, name))]
    return shlex.join(words)
