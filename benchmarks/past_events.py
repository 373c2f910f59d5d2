"""The past of a data file, for bundles that are replayed on its future: `python -m pocketrec.benchmarks.past_events`.

    RecBole's atomic format   the lines whose time lies before the moment that `replay_from_time` cuts at
    sequence lines            each line without the last share of its items, as `replay_last_share` has it

Lines are kept as they are, in their order, so that a model trained on the past knows the same ids.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..runtime.atomic_file import write_atomically
from ..runtime.errors import InputError


def past_by_time(inter: Path, quantile: float) -> tuple[list[str], float]:
    """The lines of a RecBole file before the cut, its header first, and the cut.

    Raises:
        InputError: no times, or no share of the events between 0 and 1.
    """
    if not 0 < quantile < 1:
        raise InputError(f"quantile={quantile}; expected a share of the events between 0 and 1")
    header, *lines = inter.read_text("utf-8").splitlines()
    names = [name.partition(":")[0] for name in header.split("\t")]
    if "timestamp" not in names:
        raise InputError(
            f"{inter}: no column of times, and the past is what lies before one; got {', '.join(names)}"
        )
    times = np.array([float(line.split("\t")[names.index("timestamp")]) for line in lines])
    cut = float(np.quantile(times, quantile, method="higher"))
    return [header, *(line for line, time in zip(lines, times.tolist(), strict=True) if time < cut)], cut


def past_by_share(sequences: Path, share: float) -> list[str]:
    """Lines `user item item ...` without the last share of the items, at least one.

    Raises:
        InputError: no share of a user's events between 0 and 1.
    """
    if not 0 < share < 1:
        raise InputError(f"share={share}; expected a share of a user's events between 0 and 1")
    kept = []
    for line in sequences.read_text("utf-8").splitlines():
        user, *items = line.split()
        kept.append(" ".join([user, *items[: len(items) - max(round(share * len(items)), 1)]]))
    return kept


def main(argv: Sequence[str] | None = None) -> int:
    """Write the past of a file."""
    parser = argparse.ArgumentParser(
        prog="python -m pocketrec.benchmarks.past_events", description="The past of a data file."
    )
    parser.add_argument("data", type=Path, help="RecBole's .inter with times, or sequence lines with --share")
    parser.add_argument("-o", "--output", type=Path, required=True)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--quantile", type=float, help="share of the events that lies before the cut")
    how.add_argument("--share", type=float, help="of each user's events, that is left out")
    args = parser.parse_args(argv)
    try:
        if args.quantile is not None:
            lines, _ = past_by_time(args.data, args.quantile)
        else:
            lines = past_by_share(args.data, args.share)
        write_atomically(args.output, ["\n".join([*lines, ""]).encode()], overwrite=True)
    except (InputError, OSError) as error:
        print(f"past_events: error: {error}", file=sys.stderr)
        return 2
    print(f"{args.output}: {len(lines):,} lines")
    return 0


if __name__ == "__main__":
    sys.exit(main())
