"""The options of `pocketrec bench`, and what it does with them; `python -m pocketrec.benchmarks` has the same.

The second way in is for a device that has the runtime and the `bench` extra alone: neither imports torch.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Callable
from pathlib import Path

from .option_types import byte_size, count, milliseconds, share
from .progress import Track


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = "Measure bundles on interactions: ranking, latency, memory and size, all in one run. Exit 1 where a limit is broken."
    parser.epilog = (
        "With --teacher (`pocketrec compress --teacher-out` writes one), every bundle is compared with it, on the "
        "same users and in the same rounds; else several bundles are compared with the first."
    )
    parser.add_argument("bundles", metavar="BUNDLE", nargs="+", type=Path, help="bundles to measure")
    parser.add_argument(
        "--data", metavar="FILE", type=Path, required=True, help="interactions, as for compress"
    )
    parser.add_argument("--teacher", metavar="BUNDLE", type=Path, help="the uncompressed model, as a bundle")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results; - prints them alone")
    parser.add_argument("--report", metavar="FILE", type=Path, help="write the report, one HTML page")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write Markdown, for a pull request")

    asked = parser.add_argument_group("what is asked")
    asked.add_argument(
        "--protocol", choices=["leave-one-out", "temporal"], default="leave-one-out",
        help="each user's last event (default), or one cut in time: each user's first event after it",
    )  # fmt: skip
    asked.add_argument(
        "--quantile", metavar="SHARE", type=share, default=0.9,
        help="of the temporal protocol: share of all events before the cut (default: 0.9)",
    )  # fmt: skip
    asked.add_argument(
        "--cut", metavar="TIME", type=float, help="the moment of the cut, in the data's own unit"
    )
    asked.add_argument("--keep-repeats", action="store_true", help="items of the history stay candidates")
    asked.add_argument(
        "--allow-unknown-items", action="store_true", help="leave out interactions with items a bundle does not have"
    )  # fmt: skip

    timed = parser.add_argument_group("how it is timed")
    timed.add_argument(
        "--device", metavar="NAME", default="cpu",
        help="where to run: cpu (default), or what this onnxruntime has of cuda, tensorrt, openvino, coreml, xnnpack",
    )  # fmt: skip
    timed.add_argument(
        "--threads", metavar="N,...", type=_counts, help="threads to time with (default: 1 and all cores)"
    )
    timed.add_argument(
        "--users", metavar="N", type=count, default=400, help="users whose histories are timed (default: 400)"
    )
    timed.add_argument(
        "--rounds", metavar="N", type=count, default=400, help="timed calls of each operation (default: 400)"
    )
    timed.add_argument(
        "--seed", metavar="N", type=int, default=0, help="of samples and resamples (default: 0)"
    )

    gates = parser.add_argument_group("limits for every bundle but the reference: exit 1 where one is broken")
    gates.add_argument(
        "--max-drop", metavar="SHARE", type=share, help="loss of the teacher's NDCG@10 (AUC), such as 1%%"
    )
    gates.add_argument("--max-size", metavar="SIZE", type=byte_size, help="of the file, such as 400kB")
    gates.add_argument(
        "--max-latency", metavar="TIME", type=milliseconds, help="median time to re-rank 100, such as 0.5ms"
    )


def run(
    args: argparse.Namespace, track: Track, program: str, half_graph: Callable[[bytes], bytes] | None = None
) -> int:
    """Measure, print the table, write what was asked for.

    Args:
        program: how it was called, for the command that the results hold.
        half_graph: what makes a graph's float16 copy, where that is installed.

    Raises:
        GateError: a limit is broken; everything is written all the same.
    """
    from ..runtime.atomic_file import write_atomically
    from ..runtime.errors import GateError
    from .bench import BenchConfig, run_bench
    from .bench_gates import Limits, failed, gate_text
    from .latency import Timing
    from .machine import available_cores
    from .markdown_report import results_markdown
    from .report import render_report
    from .results_table import results_lines

    alone = str(args.json) == "-"
    wanted = [args.report, args.markdown, *([] if alone else [args.json])]
    outputs = [path for path in wanted if path is not None]
    for path in outputs:
        check_writable(path)
    results = run_bench(
        BenchConfig(
            bundles=tuple(args.bundles),
            data=args.data,
            teacher=args.teacher,
            protocol=args.protocol,
            quantile=args.quantile,
            cut=args.cut,
            keep_repeats=args.keep_repeats,
            allow_unknown_items=args.allow_unknown_items,
            device=args.device,
            threads=args.threads or tuple(dict.fromkeys((1, available_cores()))),
            latency_users=args.users,
            timing=Timing(n_rounds=args.rounds),
            limits=Limits(
                max_drop=args.max_drop, max_size_bytes=args.max_size, max_latency_ms=args.max_latency
            ),
            seed=args.seed,
            command=_command(args, program),
            half_graph=half_graph,
        ),
        track,
    )
    text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)
    print(text if alone else "\n".join(results_lines(results)))
    for path, content in (
        (None if alone else args.json, lambda: text),
        (args.report, lambda: render_report(results)),
        (args.markdown, lambda: results_markdown(results)),
    ):
        if path is not None:
            write_atomically(path, [content().encode()], overwrite=True)
    if outputs and not alone:
        print(f"\nwritten: {', '.join(map(str, outputs))}")
    if broken := failed(results["gates"]):
        raise GateError("; ".join(gate_text(gate) for gate in broken))
    return 0


def check_writable(path: Path) -> None:
    """Before minutes of measuring: an output that could not be written."""
    from ..runtime.errors import InputError

    if path.is_dir():
        raise InputError(f"{path}: is a directory, expected a file to write")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path}: no folder {path.absolute().parent}; make it first")


def _counts(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(count(part) for part in text.split(",")))


def _command(args: argparse.Namespace, program: str) -> str:
    """The command that measures the same again."""
    words = [*program.split(), *map(str, args.bundles), "--data", str(args.data)]
    if args.protocol == "temporal":
        words += ["--protocol", "temporal"]
        words += ["--quantile", str(args.quantile)] if args.cut is None else ["--cut", repr(args.cut)]
    words += [
        f"--{name.replace('_', '-')}"
        for name in ("keep_repeats", "allow_unknown_items")
        if getattr(args, name)
    ]
    words += ["--device", args.device]
    threads = None if args.threads is None else ",".join(map(str, args.threads))
    latency = None if args.max_latency is None else f"{args.max_latency}ms"
    given = {
        "teacher": args.teacher, "threads": threads, "users": args.users, "rounds": args.rounds, "seed": args.seed,
        "max-drop": args.max_drop, "max-size": args.max_size, "max-latency": latency,
        "json": args.json, "report": args.report, "markdown": args.markdown,
    }  # fmt: skip
    for name, value in given.items():
        words += [] if value is None else [f"--{name}", str(value)]
    return shlex.join(words)
