"""What a user's state costs: bytes on the disk, time to save and to load, with what the disk takes apart.

    python -m pocketrec.benchmarks.state_times model.pocket --json benchmarks/results/state/state-times.json

The user of the bundle has lived for `EVENTS` events, so that everything the state bounds is at its bound: the history, what
was dismissed, the logs. `save` is `User.save`: lock, read what is there, write, fsync of the file and its folder, rename.
`load` is `Reranker.user(path)`: read, check, look up the history's vectors, ready to rank. Saves and loads take turns.

Of a save, `fsync` is the two calls of `os.fsync`, and `rename` that of `os.replace`: some file systems wait for the disk
there too (ext4 with `auto_da_alloc`, its default, whenever a file is replaced). `save` is the rest. `_cpu` is what the thread itself worked, which holds on a busy machine too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil

from ..runtime.reranker import Reranker
from ..runtime.user import User
from .measurement_file import write_measurement

EVENTS = 2000
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def main(argv: Sequence[str] | None = None) -> int:
    """The module as a command; 0."""
    parser = argparse.ArgumentParser(prog="python -m pocketrec.benchmarks.state_times", allow_abbrev=False)
    parser.add_argument("bundle", metavar="BUNDLE")
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder",
        metavar="DIR",
        help="on the disk to be measured; default: the system's for temporary files",
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    ranker = Reranker.load(args.bundle)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        results = measure(ranker, Path(folder), args.rounds, seed=args.seed)
    settings = {
        "bundle": Path(args.bundle).name,
        "fingerprint": ranker.engine.bundle.fingerprint,
        "rounds": args.rounds,
        "seed": args.seed,
    }
    write_measurement(args.json, "state_times", settings, results)
    return 0


def measure(ranker: Reranker, folder: Path, n_rounds: int, *, seed: int = 0) -> dict[str, Any]:
    """Bytes, and quantiles in milliseconds of `save` without the next two, `fsync`, `rename`, `load`, and work."""
    rng = np.random.default_rng(seed)
    path = folder / "state.bin"
    user = old_user(ranker, rng, path)
    user.save()
    names = ("save", "fsync", "rename", "load", "save_cpu", "load_cpu")
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(n_rounds):
        user.feedback(_drawn(ranker, rng, 1)[0])  # or the bytes would be the same each time
        with _timed("fsync") as synced, _timed("replace") as renamed:
            saving, saving_cpu = _clock(user.save)
        loading, loading_cpu = _clock(lambda: ranker.user(path))
        times["fsync"].append(sum(synced))
        times["rename"].append(sum(renamed))
        times["save"].append(saving - sum(synced) - sum(renamed))
        times["load"].append(loading)
        times["save_cpu"].append(saving_cpu)
        times["load_cpu"].append(loading_cpu)
    return {
        "file_system": _file_system(folder),
        "state_bytes": path.stat().st_size,
        "state_parts_bytes": _parts(user),
        **{f"{name}_ms": _quantiles(seconds) for name, seconds in times.items()},
    }


def old_user(ranker: Reranker, rng: np.random.Generator, path: Path | None = None) -> User:
    """Somebody whose state is as large as it gets."""
    user = ranker.user(path)
    for number in range(EVENTS):
        if number % 10 == 0:
            user.rerank(_drawn(ranker, rng, 100), k=20)
        user.feedback(_drawn(ranker, rng, 1)[0], clicked=bool(rng.random() < 0.7), event_id=f"event-{number}")
    return user


def _drawn(ranker: Reranker, rng: np.random.Generator, count: int) -> list[Any]:
    n_items = ranker.engine.n_items
    return ranker.engine.item_ids.ids(rng.choice(n_items, min(count, n_items), replace=False).tolist())


def _clock(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds that passed, and seconds that this thread worked."""
    started, worked = time.perf_counter(), time.thread_time()
    call()
    return time.perf_counter() - started, time.thread_time() - worked


@contextlib.contextmanager
def _timed(name: str) -> Generator[list[float]]:
    """The seconds of each call of that function of `os` within."""
    seconds: list[float] = []
    function = getattr(os, name)

    def timed(*args: Any) -> None:
        started = time.perf_counter()
        function(*args)
        seconds.append(time.perf_counter() - started)

    with mock.patch.object(os, name, timed):
        yield seconds


def _file_system(folder: Path) -> str | None:
    """Its type, where the system tells."""
    mounts = [
        disk for disk in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(disk.mountpoint)
    ]
    return max(mounts, key=lambda disk: len(disk.mountpoint)).fstype if mounts else None


def _parts(user: User) -> dict[str, int]:
    """Bytes of the state's parts, as JSON text; of what was learned about three quarters are the numbers themselves."""
    state = user.state
    parts = {"history": list(state.history), "dismissed": list(state.dismissed), "extra": dict(state.extra)}
    sizes = {name: len(json.dumps(value, separators=(",", ":"))) for name, value in parts.items()}
    return {**sizes, "learned_numbers": sum(values.nbytes for values in state.learned.values())}


def _quantiles(seconds: Sequence[float]) -> dict[str, float]:
    return {name: float(np.quantile(seconds, q)) * 1e3 for name, q in QUANTILES.items()}


if __name__ == "__main__":
    raise SystemExit(main())
