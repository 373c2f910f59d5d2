"""`pocketrec COMMAND ...`: which commands there are, what they need, and what their errors become.

Each command is a module of this package with two functions:

    add_parser(subparsers) -> None   # declares its options; imports nothing but the standard library
    run(args) -> int                 # does the work; heavy packages are imported here

Only the module of the command that was asked for is imported, so `pocketrec --help` answers at once.

Exit codes: 0 done; 1 a gate or a check failed; 2 wrong usage, bad input, or an extra that is missing;
70 a bug of ours, with its traceback; 130 interrupted; 141 whoever read our output went away.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

EXIT_GATE = 1
EXIT_INPUT = 2
EXIT_BUG = 70  # EX_SOFTWARE of sysexits.h: never mistaken for a gate that failed
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE

# The modules that each extra brings, by the name they are imported under.
BENCH_MODULES = ("polars", "jinja2", "tqdm", "psutil")
COMPRESS_MODULES = (*BENCH_MODULES, "torch", "torch_pruning", "onnx", "onnxscript", "safetensors")


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its name is also its module in this package."""

    name: str
    help: str
    extra: str | None = None
    """The extra to install for it; None where the base install is enough."""
    modules: tuple[str, ...] = ()
    """What that extra brings; looked for, not imported, before the command starts."""


COMMANDS = (
    Command("compress", "turn a trained checkpoint into a small bundle", "compress", COMPRESS_MODULES),
    Command("train", "train a SASRec teacher on an interaction log", "compress", COMPRESS_MODULES),
    Command("bench", "measure bundles: ranking, latency, memory, size", "bench", BENCH_MODULES),
    Command("replay", "measure what learning from feedback is worth", "bench", BENCH_MODULES),
    Command("adapt", "fit anew what a bundle learns with", "compress", COMPRESS_MODULES),
    Command("report", "show a run of bench, or compare two and fail on a regression", "bench", BENCH_MODULES),
    Command("inspect", "show what a bundle holds and what compressing it cost"),
    Command("state", "show, export, erase or migrate what is kept of a user"),
    Command("doctor", "show versions, extras and devices, for a bug report"),
)

# What the system says no to, in the user's words. Any other OSError is a bug until shown otherwise.
REFUSALS = {
    errno.ENOENT: "no such file or directory",
    errno.EISDIR: "is a directory, expected a file",
    errno.ENOTDIR: "a part of this path is not a directory",
    errno.EACCES: "permission denied",
    errno.EPERM: "operation not permitted",
    errno.EEXIST: "already exists",
    errno.EROFS: "the file system is read-only",
    errno.ENOSPC: "no space left on the device; free some, or write elsewhere, and run it again",
    errno.EDQUOT: "the disk quota is used up; free some, or write elsewhere, and run it again",
    errno.EFBIG: "larger than the file system, or a limit of this process, allows",
    errno.ENAMETOOLONG: "the file name is too long",
    errno.ELOOP: "too many symbolic links",
    errno.EIO: "input/output error of the device",
}


class _Parser(argparse.ArgumentParser):
    """Takes options in full only, so that an option added later cannot change what a script means."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` is without the program's name."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(argv)
        sys.stdout.flush()  # a full disk or a closed pipe shows here, not after the last handler
    except KeyboardInterrupt:
        _say("interrupted; nothing was written")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return EXIT_BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 -- the one place where errors become exit codes
        return _report(error)
    return code


def missing_modules(command: Command) -> list[str]:
    """The modules that `command` needs and that are not installed."""
    return [name for name in command.modules if importlib.util.find_spec(name) is None]


def _run(argv: list[str]) -> int:
    asked = next((command for command in COMMANDS if argv and command.name == argv[0]), None)
    wants_help = "-h" in argv or "--help" in argv
    if asked is not None and asked.extra is not None and not wants_help and missing_modules(asked):
        from ..runtime.errors import MissingExtraError

        raise MissingExtraError(f"pocketrec {asked.name}", asked.extra)

    parser, run = _parser(asked)
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has printed: 0 after --help, 2 after wrong usage
        return int(stop.code or 0)
    if args.version:
        from importlib.metadata import version

        print(f"pocketrec {version('pocketrec')}")
        return 0
    if run is None:
        parser.print_help(sys.stderr)
        return EXIT_INPUT
    return run(args)


def _parser(
    asked: Command | None,
) -> tuple[argparse.ArgumentParser, Callable[[argparse.Namespace], int] | None]:
    """The whole parser, with the options of the command `asked` only, and that command's `run`."""
    parser = _Parser(
        prog="pocketrec",
        description="Put a large recommender in the user's pocket.",
        epilog="`pocketrec COMMAND --help` shows the options of one command.",
    )
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    run = None
    for command in COMMANDS:
        if command is asked:
            module = importlib.import_module(f".{command.name}", __package__)
            module.add_parser(subparsers)
            run = module.run
        else:
            subparsers.add_parser(command.name, help=command.help)
    return parser, run


def _report(error: Exception) -> int:
    """Print one line for what the user can mend, a traceback for what only we can; return the exit code."""
    from ..runtime.errors import GateError, InputError, MissingExtraError  # would pull numpy into --help

    match error:
        case GateError():
            _say(f"failed: {error}")
            return EXIT_GATE
        case InputError() | MissingExtraError():
            _say(f"error: {error}")
            return EXIT_INPUT
        case OSError() if error.errno in REFUSALS:
            path = error.filename2 or error.filename  # of a rename, the destination: the user's own name
            _say(f"error: {f'{path}: ' if path else ''}{REFUSALS[error.errno]}")
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                _drop_output()  # it may be our own output that found no room
            return EXIT_INPUT
        case _:
            traceback.print_exception(error)
            return EXIT_BUG


def _say(message: str) -> None:
    """One line to stderr, whatever the message holds."""
    line = "; ".join(line.strip() for line in message.splitlines() if line.strip())
    print(f"pocketrec: {line}", file=sys.stderr)


def _drop_output() -> None:
    """Send what stdout cannot get rid of nowhere, so that the interpreter's last flush does not fail again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    raise SystemExit(main())
