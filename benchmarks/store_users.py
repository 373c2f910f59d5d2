"""A store of many users: bytes a user, and the time to write, read, learn and erase.

    python -m pocketrec.benchmarks.store_users model.pocket --users 100000 --json benchmarks/results/state/store-users.json

States are those of `LIVED` users of the bundle with histories of different lengths (log-normal, half of them longer than 40
events), stored again and again under new names until there are enough. Then, of users drawn at random:

    get        read one state
    session    what a server does for one visit: read, make the user, rank 100 candidates, learn a click, save (durable)
    erase      remove one, and overwrite its bytes
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.reranker import Reranker
from ..runtime.user_state import UserState
from ..runtime.user_store import UserStore
from .measurement_file import write_measurement

LIVED = 100
MEDIAN_EVENTS, SPREAD = 40, 1.0
BATCH = 1000
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def main(argv: Sequence[str] | None = None) -> int:
    """The module as a command; 0."""
    parser = argparse.ArgumentParser(prog="python -m pocketrec.benchmarks.store_users", allow_abbrev=False)
    parser.add_argument("bundle", metavar="BUNDLE")
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--calls", type=int, default=500)
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
        results = measure(ranker, Path(folder), args.users, n_calls=args.calls, seed=args.seed)
    settings = {
        "bundle": Path(args.bundle).name,
        "fingerprint": ranker.engine.bundle.fingerprint,
        "users": args.users,
        "calls": args.calls,
        "seed": args.seed,
    }
    write_measurement(args.json, "store_users", settings, results)
    return 0


def measure(ranker: Reranker, folder: Path, n_users: int, *, n_calls: int, seed: int = 0) -> dict[str, Any]:
    """The figures of the module's docstring; times in milliseconds."""
    rng = np.random.default_rng(seed)
    states = [_lived(ranker, rng) for _ in range(LIVED)]
    with UserStore(folder / "users.db") as store:
        started = time.perf_counter()
        state_bytes = 0
        for first in range(0, n_users, BATCH):
            numbers = range(first, min(first + BATCH, n_users))
            state_bytes += store.put_many((f"user-{n}", states[n % LIVED]) for n in numbers)
        written = time.perf_counter() - started
        size_bytes = store.size_bytes()
        names = [f"user-{n}" for n in rng.choice(n_users, 3 * n_calls, replace=n_users < 3 * n_calls)]
        calls: dict[str, Callable[[str], object]] = {
            "get": store.get,
            "session": lambda name: _session(ranker, store, rng, name),
            "erase": store.erase,
        }
        times = {
            what: _quantiles(call, names[n * n_calls : (n + 1) * n_calls])
            for n, (what, call) in enumerate(calls.items())
        }
        left = len(store)
    return {
        "users": n_users,
        "users_left": left,
        "put_seconds": written,
        "put_us_per_user": written / n_users * 1e6,
        "store_bytes": size_bytes,
        "store_bytes_per_user": size_bytes / n_users,
        "state_bytes_per_user": state_bytes / n_users,
        **{f"{what}_ms": quantiles for what, quantiles in times.items()},
    }


def _lived(ranker: Reranker, rng: np.random.Generator) -> UserState:
    user = ranker.user()
    for _ in range(max(int(rng.lognormal(np.log(MEDIAN_EVENTS), SPREAD)), 1)):
        user.feedback(_drawn(ranker, rng, 1)[0], clicked=bool(rng.random() < 0.9))
    return user.state


def _session(ranker: Reranker, store: UserStore, rng: np.random.Generator, name: str) -> None:
    user = ranker.user(store.user(name))
    ranking = user.rerank(_drawn(ranker, rng, 100), k=10)
    user.feedback(ranking[0].item_id)
    user.save()


def _drawn(ranker: Reranker, rng: np.random.Generator, count: int) -> list[Any]:
    n_items = ranker.engine.n_items
    return ranker.engine.item_ids.ids(rng.choice(n_items, min(count, n_items), replace=False).tolist())


def _quantiles(call: Callable[[str], object], names: Sequence[str]) -> dict[str, float]:
    seconds: list[float] = []
    for name in names:
        started = time.perf_counter()
        call(name)
        seconds.append(time.perf_counter() - started)
    return {name: float(np.quantile(seconds, q)) * 1e3 for name, q in QUANTILES.items()}


if __name__ == "__main__":
    raise SystemExit(main())
