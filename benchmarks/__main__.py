"""`python -m pocketrec.benchmarks BUNDLE ... --data FILE`: `pocketrec bench`, where only the runtime and the extra `bench` are.

Exit codes as the command line's: 0 done, 1 a limit is broken, 2 wrong usage, bad input, or an extra that is missing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..runtime.errors import GateError, InputError, MissingExtraError
from .bench_command import add_options, run
from .progress import untracked

PROGRAM = "python -m pocketrec.benchmarks"
MODULES = ("polars", "jinja2", "markupsafe", "psutil")
"""What the extra `bench` brings and measuring imports."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; what the user can mend is one line on stderr."""
    parser = argparse.ArgumentParser(prog=PROGRAM, allow_abbrev=False)
    add_options(parser)
    try:
        return run(parser.parse_args(argv), untracked, PROGRAM)
    except GateError as error:
        print(f"{PROGRAM}: failed: {error}", file=sys.stderr)
        return 1
    except (InputError, MissingExtraError, OSError) as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name not in MODULES:
            raise
        print(f"{PROGRAM}: error: {MissingExtraError('measuring', 'bench')} ({error})", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
