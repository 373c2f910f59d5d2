"""Our scoring of the catalogue beside numpy, FAISS and usearch: bytes, recall of the exact ten best, and time.

    python -m pocketrec.cli.vector_search --environments FOLDER --json OUT --items 1000000 --width 64
    python -m pocketrec.cli.vector_search --environments FOLDER --json OUT --teacher TEACHER.pocket --data FILE

The table is a made-up one (`synthetic_teacher.clustered_table`), searched for sums of a few rows of a cluster, or that of a
teacher's bundle, searched for the vectors of its users. Ours is the same table rounded to 8, 4 and 3 bits with nothing
retrained, run by our runtime from a bundle. All in one process (`benchmarks/peers/vector_worker.py`), in turns.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .synthetic_teacher import CLUSTER_ITEMS, clustered_table

BITS = (8, 4, 3)
QUERIES = 200
K = 10


def synthetic_vectors(n_items: int, width: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A table (N, D), and queries (Q, D): each the sum of three rows of one cluster and one of another."""
    table, rng = clustered_table(n_items, width, seed), np.random.default_rng([seed, 2])
    starts = rng.integers(max(1, n_items // CLUSTER_ITEMS), size=QUERIES) * CLUSTER_ITEMS
    near = np.minimum(starts[:, None] + rng.integers(CLUSTER_ITEMS, size=(QUERIES, 3)), n_items - 1)
    return table, table[near].sum(1) + table[rng.integers(n_items, size=QUERIES)]


def teacher_vectors(teacher: Path, data: Path, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The float table of a teacher's bundle, and vectors of users drawn from the data."""
    from ..benchmarks.interactions import map_items, read_interactions
    from ..benchmarks.operations import sample_histories
    from ..benchmarks.protocols import leave_one_out
    from ..runtime.engine import Engine
    from ..runtime.errors import InputError
    from ..runtime.item_table import FloatRows

    engine = Engine.load(teacher)
    if not isinstance(engine.table, FloatRows):
        raise InputError(f"{teacher}: its table is quantized; give the uncompressed model (--teacher-out)")
    split = leave_one_out(map_items(read_interactions(data), engine.item_ids).sequences, stage="test")
    histories = sample_histories(split.histories, QUERIES, seed)
    return np.array(engine.table.values), np.concatenate(
        [engine.encode(history[None]) for history in histories]
    )


def write_table_bundle(path: Path, table: NDArray[np.float32], bits: int) -> int:
    """A bundle of the table alone, its encoder the last item's vector; returns the bytes of its table."""
    import torch
    from onnx import TensorProto, helper, numpy_helper
    from torch import nn

    from ..export.bundle_writer import BundleContent, export_bundle
    from ..runtime.item_ids import ItemIds
    from ..runtime.item_table import quantize_rows

    class Last(nn.Module):
        def forward(self, vectors: torch.Tensor) -> torch.Tensor:
            return vectors[:, -1]

    width = table.shape[1]
    graph = helper.make_graph(
        [helper.make_node("Gather", ["history", "last"], ["users"], axis=1)],
        "encoder",
        [helper.make_tensor_value_info("history", TensorProto.FLOAT, ["batch", "length", width])],
        [helper.make_tensor_value_info("users", TensorProto.FLOAT, ["batch", width])],
        [numpy_helper.from_array(np.array(-1, np.int64), "last")],
    )
    quantized = quantize_rows(table, bits)
    content = BundleContent(
        name=f"{bits} bits",
        encoder=Last(),
        encoder_graph=helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10),
        max_length=1,
        table=quantized,
        item_ids=ItemIds.from_sequence(range(1, len(table) + 1)),
        prior_user=np.zeros(width, np.float32),
        encoder_form="float32",
        manifest={},
    )
    export_bundle(path, content, [np.array([row]) for row in range(0, len(table), max(1, len(table) // 4))])
    return sum(np.asarray(part).nbytes for part in quantized.parts().values())


def run_vector_search(
    table: NDArray[np.float32],
    queries: NDArray[np.float32],
    environments: Path,
    *,
    n_rounds: int,
    max_seconds: float = 60.0,
    timeout_s: float = 1200.0,
) -> dict[str, Any]:
    """The rows, with times summarized, and versions; raises `InputError` where the environment is not there."""
    from ..benchmarks.latency import compare, summarize
    from ..benchmarks.peers.peer_list import VECTOR_SEARCH, VECTOR_WORKER
    from ..benchmarks.peers.protocol import ask
    from ..benchmarks.peers.torch_peer import link_packages
    from ..runtime.errors import InputError

    with tempfile.TemporaryDirectory(prefix="pocketrec-vectors-") as name:
        folder = Path(name)
        link_packages(folder / "packages" / "pocketrec")
        np.savez(folder / "vectors.npz", table=table, queries=queries)
        bundles = {f"{bits} bits": folder / f"{bits}.pocket" for bits in BITS}
        sizes = {
            name: write_table_bundle(path, table, bits)
            for (name, path), bits in zip(bundles.items(), BITS, strict=True)
        }
        job = {
            "vectors": str(folder / "vectors.npz"),
            "bundles": {name: str(path) for name, path in bundles.items()},
            "sizes": sizes,
            "k": K,
            "n_rounds": n_rounds,
            "max_seconds": max_seconds,
        }
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        variables = {"PYTHONPATH": str(folder / "packages"), **threads}
        reply = ask(
            environments.absolute() / VECTOR_SEARCH, VECTOR_WORKER, job, timeout_s=timeout_s, env=variables
        )
    if reply.error is not None:
        raise InputError(f"{VECTOR_SEARCH}: {reply.error}")
    rows: list[dict[str, Any]] = []
    reference = np.array(reply.content["rows"][0]["samples_ms"])
    for row in reply.content["rows"]:
        samples = np.array(row.pop("samples_ms", []))
        timed = (
            {} if row["error"] else {**summarize(samples), "speedup": compare(samples, reference).to_json()}
        )
        rows.append({**row, "latency": timed or None})
    return {"rows": rows, "versions": reply.versions}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure one table, print it, write the JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m pocketrec.cli.vector_search", description="Scoring beside numpy, FAISS and usearch."
    )
    parser.add_argument("--environments", metavar="FOLDER", type=Path, required=True)
    parser.add_argument("--json", metavar="FILE", type=Path, required=True)
    parser.add_argument("--items", metavar="N", type=int, default=1_000_000)
    parser.add_argument("--width", metavar="N", type=int, default=64)
    parser.add_argument("--teacher", metavar="BUNDLE", type=Path, help="its table instead of a made-up one")
    parser.add_argument("--data", metavar="FILE", type=Path, help="whose users are asked for, with --teacher")
    parser.add_argument("--rounds", metavar="N", type=int, default=100)
    parser.add_argument("--seed", metavar="N", type=int, default=0)
    args = parser.parse_args(argv)
    if (args.teacher is None) != (args.data is None):
        parser.error("--teacher and --data go together")
    from ..benchmarks.machine import describe_machine
    from ..runtime.atomic_file import write_atomically

    if args.teacher is None:
        source = "synthetic clusters"
        table, queries = synthetic_vectors(args.items, args.width, args.seed)
    else:
        source = args.teacher.name
        table, queries = teacher_vectors(args.teacher, args.data, args.seed)
    found = run_vector_search(table, queries, args.environments, n_rounds=args.rounds)
    results: dict[str, Any] = {
        "schema_version": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "table": {"source": source, "items": table.shape[0], "width": table.shape[1]},
        "settings": {"k": K, "queries": len(queries), "rounds": args.rounds, "threads": 1, "seed": args.seed},
        **found,
        "machine": describe_machine(),
    }
    text = json.dumps(results, indent=1, allow_nan=False)
    write_atomically(args.json, [text.encode()], overwrite=True)
    for row in results["rows"]:
        said = (
            row["error"]
            or f"{row['size_bytes']:,} B, recall {row['recall']:.3f}, {row['latency']['p50']['value']:.3f} ms"
        )
        print(f"{row['name']:<24}{said}")
    print(f"written: {args.json}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
