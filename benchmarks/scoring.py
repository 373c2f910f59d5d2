"""The best 100 of a million items: pocketrec beside what onnxruntime makes of the same table.

    python -m pocketrec.benchmarks.scoring --json benchmarks/results/scoring/catalogue-1m.json

Three systems score one user after the other, in turns, with one thread, and return the best k:

    float32           MatMul + TopK over the table in float32
    quantize_dynamic  the graph that onnxruntime's `quantize_dynamic` makes of that one: DynamicQuantizeLinear, MatMulInteger
                      over int8 weights of one scale, Cast, Mul, TopK
    pocketrec         `Engine.top_k` of a bundle with the table in 4 (or 8) bits

The table is that of the bundle: made up (`synthetic_catalogue`), and for the others written out in their types. `agreement` is
the mean share of the best k, as exact products with that table have them, that a system finds; of pocketrec it must be 1. Work
that the thread itself did is given as `cpu_ms`: on a busy machine it says more than the time that passed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.engine import Engine
from ..runtime.item_table import ItemTable
from ..runtime.top_k import top_k
from .latency import Call, Timing, compare, summarize, time_interleaved
from .measurement_file import write_measurement
from .onnx_bytes import Node, model_bytes, session_of
from .synthetic_catalogue import write_catalogue

TopK = Callable[[NDArray[np.float32]], NDArray[np.int64]]
"""A user, float32 (D,), to the rows of the best k items, int64 (k,)."""
REFERENCES = ("float32", "quantize_dynamic")
CHECKED_USERS = 5
_ROWS_AT_ONCE = 65_536


def main(argv: Sequence[str] | None = None) -> int:
    """The module as a command; 0, or 1 where pocketrec does not find the exact best."""
    parser = argparse.ArgumentParser(prog="python -m pocketrec.benchmarks.scoring", allow_abbrev=False)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--bits", type=int, default=4, choices=(4, 8))
    parser.add_argument("-k", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--max-seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    timing = Timing(n_rounds=args.rounds, n_warmup=3, max_seconds=args.max_seconds)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "catalogue.pocket"
        write_catalogue(path, args.items, width=args.width, bits=args.bits, seed=args.seed)
        results = measure(Engine.load(path), args.k, timing, seed=args.seed)
    settings = {name: getattr(args, name) for name in ("items", "width", "bits", "k", "rounds", "seed")}
    write_measurement(args.json, "scoring", {**settings, "threads": 1}, results)
    return 0 if results["systems"]["pocketrec"]["agreement"] == 1.0 else 1


def measure(engine: Engine, k: int, timing: Timing, *, seed: int = 0) -> dict[str, Any]:
    """By system: latency as `latency.summarize` has it, `cpu_ms`, `table_bytes`, `agreement`; and the speed-ups."""
    users = np.random.default_rng(seed).standard_normal((64, engine.width)).astype(np.float32)
    table_bytes = {"float32": 4, "quantize_dynamic": 1}
    systems: dict[str, TopK] = {
        "float32": float_graph(engine.table, k),
        "quantize_dynamic": dynamic_graph(engine.table, k),
        "pocketrec": lambda user: engine.top_k(user, k)[0],
    }
    worked: dict[str, list[float]] = {name: [] for name in systems}

    def prepare(name: str, n: int) -> Call:
        def call() -> None:
            before = time.thread_time()
            systems[name](users[n % len(users)])
            worked[name].append(time.thread_time() - before)

        return call

    samples = time_interleaved({name: name for name in systems}, prepare, timing)
    exact = [exhaustive(engine, user, k) for user in users[:CHECKED_USERS]]
    measured = {
        name: {
            **summarize(samples[name]),
            "cpu_ms": float(np.median(worked[name])) * 1e3,
            "table_bytes": engine.n_items * engine.width * table_bytes[name]
            if name in table_bytes
            else engine.table.size_bytes,
            "agreement": float(
                np.mean(
                    [
                        len(set(best) & set(find(u).tolist())) / len(best)
                        for best, u in zip(exact, users, strict=False)
                    ]
                )
            ),
        }
        for name, find in systems.items()
    }
    return {
        "systems": measured,
        "speedups": {
            name: {
                **compare(samples["pocketrec"], samples[name], seed=seed).to_json(),
                "cpu_ratio": measured[name]["cpu_ms"] / measured["pocketrec"]["cpu_ms"],
            }
            for name in REFERENCES
        },
    }


def exhaustive(engine: Engine, user: NDArray[np.float32], k: int) -> list[int]:
    """The best k when every item is scored exactly, by numpy, in the order of their rows."""
    scores = [
        engine.score(user[None], np.arange(rows.start, rows.stop)[None])[0]
        for rows in _pieces(engine.n_items)
    ]
    return top_k(np.concatenate(scores), k).tolist()


def float_graph(table: ItemTable, k: int) -> TopK:
    """MatMul + TopK over the table in float32, (D, N)."""
    weights = np.empty((table.width, table.n_items), np.float32)
    for rows in _pieces(table.n_items):
        weights[:, rows] = table.lookup(np.arange(rows.start, rows.stop)).T
    nodes = [Node(op="MatMul", inputs=["users", "weights"], outputs=["scores"])]
    return _top_k_graph(nodes, {}, {"weights": weights}, k)


def dynamic_graph(table: ItemTable, k: int) -> TopK:
    """What `quantize_dynamic` makes of `float_graph`, with its defaults: int8, symmetric, one scale for all."""
    largest = max(
        float(np.abs(table.lookup(np.arange(rows.start, rows.stop))).max()) for rows in _pieces(table.n_items)
    )
    scale = np.float32(largest / 127)
    weights = np.empty((table.width, table.n_items), np.int8)
    for rows in _pieces(table.n_items):
        weights[:, rows] = np.rint(table.lookup(np.arange(rows.start, rows.stop)).T / scale)
    nodes = [
        Node(op="DynamicQuantizeLinear", inputs=["users"], outputs=["levels", "step", "zero"]),
        Node(op="Mul", inputs=["step", "scale"], outputs=["unit"]),
        Node(op="MatMulInteger", inputs=["levels", "weights", "zero", "weights_zero"], outputs=["sums"]),
        Node(op="Cast", inputs=["sums"], outputs=["floats"], attributes={"to": 1}),
        Node(op="Mul", inputs=["floats", "unit"], outputs=["scores"]),
    ]
    constants = {"scale": np.array(scale), "weights_zero": np.array(0, np.int8)}
    return _top_k_graph(nodes, constants, {"weights": weights}, k)


def _top_k_graph(
    nodes: Sequence[Node],
    constants: Mapping[str, NDArray[Any]],
    weights: Mapping[str, NDArray[Any]],
    k: int,
) -> TopK:
    width = len(weights["weights"])
    model = model_bytes(
        [*nodes, Node(op="TopK", inputs=["scores", "k"], outputs=["values", "rows"])],
        {"users": ("float32", [1, width])},
        {"values": ("float32", [1, k]), "rows": ("int64", [1, k])},
        {**constants, "k": np.array([k], np.int64)},
        weights,
    )
    session = session_of(model, weights)
    return lambda user: session.run(["rows"], {"users": user[None]})[0][0]  # type: ignore[index,return-value]


def _pieces(n_items: int) -> Iterator[slice]:
    return (slice(start, min(start + _ROWS_AT_ONCE, n_items)) for start in range(0, n_items, _ROWS_AT_ONCE))


if __name__ == "__main__":
    raise SystemExit(main())
