"""kill -9 at random moments of saving: is there always a whole state, the old one or the new?

    python -m pocketrec.benchmarks.kill_saves --kills 1000 --json benchmarks/results/state/kill-saves.json

A child process saves state 1, 2, 3, ... of one user in a loop, and says so through a pipe after each save. It is killed
with SIGKILL after a time drawn uniformly from 0 to `SAVES` times what a save takes, so that moments of every kind are hit:
in the temporary file, before and after the rename, between two saves. Then the state must be readable and, of n the last
number that was said, be n (the old) or n + 1 (the new): what was acknowledged is durable, and nothing is a mixture. Every
array and list of state n is full of n. The next child goes on from what it finds.

A kill ends a process, not the machine: what is tested is the order of operations, not that a disk keeps its promises.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import struct
import tempfile
import time
import traceback
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.errors import InputError
from ..runtime.state_file import SavedState, StateFile
from ..runtime.user_state import UserState
from ..runtime.user_store import UserStore
from .measurement_file import write_measurement

SAVES = 4.0
_NUMBER = struct.Struct("<q")


def main(argv: Sequence[str] | None = None) -> int:
    """The module as a command: 0, or 1 where a state was lost or damaged."""
    parser = argparse.ArgumentParser(prog="python -m pocketrec.benchmarks.kill_saves", allow_abbrev=False)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--place", choices=("file", "store"), default="file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        results = kill_saves(Path(folder), args.kills, place=args.place, seed=args.seed)
    write_measurement(
        args.json, "kill_saves", {"kills": args.kills, "place": args.place, "seed": args.seed}, results
    )
    return 0 if results["damaged"] == 0 else 1


def kill_saves(folder: Path, n_kills: int, *, place: str = "file", seed: int = 0) -> dict[str, Any]:
    """Kill `n_kills` savers; the counts of what was found.

    Args:
        folder: an empty one.
        place: "file" or "store".

    Raises:
        InputError: the system cannot fork, or has no SIGKILL.
    """
    if not hasattr(os, "fork") or not hasattr(signal, "SIGKILL"):
        raise InputError("kill_saves: this system has no fork and SIGKILL; run it on Linux or macOS")
    rng = np.random.default_rng(seed)
    path = folder / ("state.bin" if place == "file" else "users.db")
    with _opened(path) as saved:
        save_seconds = _seconds_of_a_save(saved)
        before = _number(saved.load())
    counts = {"kills": n_kills, "readable": 0, "old": 0, "new": 0, "damaged": 0, "with_leftovers": 0}
    n_saves, problems = 0, []
    for _ in range(n_kills):
        acknowledged = _run_and_kill(path, before, rng.uniform(0.0, SAVES * save_seconds))
        counts["with_leftovers"] += any(entry.name.endswith(".tmp") for entry in folder.iterdir())
        try:
            with _opened(path) as saved:
                found = _number(saved.load())
        except (OSError, ValueError) as error:
            counts["damaged"] += 1
            problems.append(str(error))
            with _opened(path) as saved:
                saved.erase()
                saved.save(_state(0))
            before = 0
            continue
        counts["readable"] += 1
        counts["old"] += found == acknowledged
        counts["new"] += found == acknowledged + 1
        if found not in (acknowledged, acknowledged + 1):
            counts["damaged"] += 1
            problems.append(f"state {found} after {acknowledged} was acknowledged")
        n_saves += found - before
        before = found
    return {**counts, "saves": n_saves, "save_ms": save_seconds * 1e3, "problems": problems[:10]}


def _run_and_kill(path: Path, number: int, seconds: float) -> int:
    """Let a child save from `number` + 1 on and kill it; the last number that it said was saved, or `number`."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            _save_for_ever(path, number, writer)
        except BaseException:  # noqa: BLE001 -- told, and found out by the parent
            traceback.print_exc()
        finally:
            os._exit(1)  # a child that fails must not run what the parent has planned for its end
    os.close(writer)
    with open(reader, "rb") as said:
        said.read(_NUMBER.size)  # its first word: it has begun
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            raise RuntimeError("the saver ended by itself; its traceback is above")
        numbers = said.read()
    whole = len(numbers) // _NUMBER.size * _NUMBER.size
    return _NUMBER.unpack(numbers[whole - _NUMBER.size : whole])[0] if whole else number


def _save_for_ever(path: Path, number: int, writer: int) -> None:
    with _opened(path) as saved:
        saved.load()
        os.write(writer, _NUMBER.pack(number))
        while True:
            number += 1
            saved.save(_state(number))
            os.write(writer, _NUMBER.pack(number))


@contextlib.contextmanager
def _opened(path: Path) -> Generator[SavedState]:
    if path.suffix == ".db":
        with UserStore(path) as store:
            yield store.user("somebody")
    else:
        yield StateFile(path)


def _state(number: int) -> UserState:
    """State n: full of n, and of a size that depends on it."""
    return UserState(
        history=[number] * (1 + number % 512),
        dismissed=[number],
        learned={"u": np.full(256, number, np.float64)},
        counters={"number": number},
        extra={"log": [number] * 10},
    )


def _number(state: UserState | None) -> int:
    """n of a state that is state n throughout.

    Raises:
        ValueError: it is not.
    """
    if state is None:
        raise ValueError("no state")
    number = state.counters["number"]
    expected = _state(number)
    same = (
        state.history == expected.history
        and state.dismissed == expected.dismissed
        and np.array_equal(state.learned["u"], expected.learned["u"])
        and state.extra == expected.extra
    )
    if not same:
        raise ValueError(f"state {number} is a mixture")
    return number


def _seconds_of_a_save(saved: SavedState, n_saves: int = 20) -> float:
    started = time.perf_counter()
    for number in range(n_saves):
        saved.save(_state(number))
    return (time.perf_counter() - started) / n_saves


if __name__ == "__main__":
    raise SystemExit(main())
