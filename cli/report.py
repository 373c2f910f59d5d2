"""`pocketrec report A.json [B.json]`: show one run of `pocketrec bench`, or compare two and fail on a regression."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from .option_types import share
from .subparsers import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Declare the options of `pocketrec report`."""
    parser = subparsers.add_parser(
        "report",
        description="Show one run of `pocketrec bench --json`, or compare two: exit 1 where the second is worse.",
    )
    parser.epilog = (
        "Latency is compared as the speed-up over the teacher where both runs have the same one, so runs on different "
        "machines can be compared; else as milliseconds, between runs of one machine only."
    )
    parser.add_argument(
        "results", metavar="JSON", nargs="+", type=Path, help="one run, or the old and the new"
    )
    parser.add_argument(
        "--markdown", metavar="FILE", type=Path, help="write Markdown, for a pull request; - prints it"
    )
    parser.add_argument("--html", metavar="FILE", type=Path, help="write the page of the last run")
    parser.add_argument(
        "--peers", metavar="JSON", type=Path, help="show on the page what `pocketrec bench --peers` wrote"
    )
    parser.add_argument(
        "--frontier",
        metavar="JSON",
        type=Path,
        help="show on the page what `pocketrec compress --frontier` wrote",
    )
    gates = parser.add_argument_group("tolerated in the second run: a relative change for the worse")
    for name, default in (("accuracy", "1%"), ("size", "1%"), ("latency", "10%"), ("memory", "10%")):
        gates.add_argument(
            f"--max-{name}",
            metavar="SHARE",
            type=share,
            default=share(default),
            help=f"of {name} (default: {default})".replace("%", "%%"),
        )


def run(args: argparse.Namespace) -> int:
    """Print the table or the comparison, write what was asked for."""
    from ..benchmarks.compare_results import Change, Thresholds, better_text, compare_results, regressions
    from ..benchmarks.markdown_report import comparison_markdown, results_markdown
    from ..benchmarks.report import render_report
    from ..benchmarks.report_beside import FRONTIER_FIELDS, PEERS_FIELDS, check_beside
    from ..benchmarks.results_table import aligned, results_lines
    from ..runtime.atomic_file import write_atomically
    from ..runtime.errors import GateError, InputError

    if len(args.results) > 2:
        raise InputError(
            f"{len(args.results)} files; expected one run to show, or two to compare: the old and the new"
        )
    if args.html is None and (args.peers or args.frontier):
        raise InputError("--peers and --frontier are shown on the page; say where with --html")
    runs = [_read(path) for path in args.results]
    peers = args.peers and check_beside(
        _json(args.peers), PEERS_FIELDS, str(args.peers), "pocketrec bench --peers"
    )
    frontier = args.frontier and check_beside(
        _json(args.frontier), FRONTIER_FIELDS, str(args.frontier), "pocketrec compress --frontier"
    )
    thresholds = Thresholds(
        accuracy=args.max_accuracy, size=args.max_size, latency=args.max_latency, memory=args.max_memory
    )
    changes: list[Change] = []
    if len(runs) == 1:
        lines, markdown = list(results_lines(runs[0])), results_markdown(runs[0])
    else:
        changes, notes = compare_results(runs[0], runs[1], thresholds)
        header = ("bundle", "figure", "before", "after", "better by", "")
        lines = [_ascii(line) for line in aligned([header, *(change.cells() for change in changes)])]
        lines += [f"note: {note}" for note in notes]
        markdown = comparison_markdown(runs[0], runs[1], changes, notes, thresholds)
    print(markdown if str(args.markdown) == "-" else "\n".join(lines))
    if args.markdown is not None and str(args.markdown) != "-":
        write_atomically(args.markdown, [markdown.encode()])
    if args.html is not None:
        write_atomically(args.html, [render_report(runs[-1], peers=peers, frontier=frontier).encode()])
    if worse := regressions(changes):
        named = ", ".join(f"{c.system} {c.figure} {better_text(c.relative)}" for c in worse)
        raise GateError(_ascii(f"{len(worse)} of {len(changes)} figures worse than tolerated: {named}"))
    return 0


def _read(path: Path) -> dict[str, Any]:
    """The results object of a file; raises `InputError` where it is none."""
    from ..benchmarks.bench import SCHEMA_VERSION
    from ..runtime.errors import InputError

    found = _json(path)
    version = found.get("schema_version") if isinstance(found, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{path}: schema_version {version!r}, expected {SCHEMA_VERSION}: results of `pocketrec bench --json`, "
            "of this version of pocketrec; measure again"
        )
    missing = [
        name
        for name in ("systems", "data", "settings", "latency", "comparisons", "machine", "popularity")
        if name not in found
    ]
    if missing:
        raise InputError(
            f"{path}: without {', '.join(missing)}; expected what `pocketrec bench --json` writes"
        )
    return found


def _json(path: Path) -> Any:
    from ..runtime.errors import InputError

    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: not JSON ({error}); expected what `pocketrec bench --json` writes"
        ) from None


def _ascii(line: str) -> str:
    return line.replace("\u00d7", "x").replace("\u2013", "-").replace("\u00b5", "u").replace("\u2265", ">=")
