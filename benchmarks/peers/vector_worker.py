"""Runs where numpy, FAISS, usearch and onnxruntime live together: the ten best of a table, by each, all in turns.

The job: {"vectors": NPZ with `table` float32 (N, D) and `queries` float32 (Q, D), "bundles": {name: PATH}, "sizes": {name:
bytes of its table}, "k", "n_rounds", "max_seconds", "exact_seconds"}. Our bundles are run by our runtime, which needs
numpy and onnxruntime alone and is found through links (`torch_peer.link_packages`). The reply: {"rows": [{"name",
"size_bytes", "recall", "samples_ms", "make_seconds", "error"}, ...], "versions"}.

Recall is the share of the exact ten best, in float32, that is found again. One thread each.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

Search = Callable[[Any], Any]
"""A query, float32 (D,) -> rows of the k best."""
TRAINING_ROWS = 16_384
"""Of product quantization: 64 for each of its 256 centroids; FAISS asks for 39, and takes 256 at most, in minutes."""


def searches(job: Mapping[str, Any], table: Any) -> dict[str, Callable[[], tuple[int, Search]]]:
    """What makes each contestant: its bytes, and how it searches."""
    numpy: Any = import_module("numpy")
    k, width = job["k"], table.shape[1]

    def exact() -> tuple[int, Search]:
        def search(query: Any) -> Any:
            scores = table @ query
            best = numpy.argpartition(scores, len(scores) - k)[-k:]
            return best[numpy.argsort(-scores[best])]

        return table.nbytes, search

    def faiss_of(make: Callable[[Any], Any]) -> Callable[[], tuple[int, Search]]:
        def made() -> tuple[int, Search]:
            faiss: Any = import_module("faiss")
            faiss.omp_set_num_threads(1)
            index = make(faiss)
            index.train(table[numpy.random.default_rng(0).permutation(len(table))[:TRAINING_ROWS]])
            index.add(table)
            return faiss.serialize_index(index).nbytes, lambda query: index.search(query[None], k)[1][0]

        return made

    def usearch() -> tuple[int, Search]:
        index: Any = import_module("usearch.index")
        scale = 127 / numpy.abs(table).max()
        codes = numpy.rint(table * scale).astype(numpy.int8)

        def search(query: Any) -> Any:
            rounded = numpy.rint(query * (127 / numpy.abs(query).max())).astype(numpy.int8)
            return index.search(codes, rounded, k, index.MetricKind.IP, exact=True, threads=1).keys

        return codes.nbytes, search

    def bundle(name: str) -> Callable[[], tuple[int, Search]]:
        def made() -> tuple[int, Search]:
            engine = import_module("pocketrec.runtime.engine").Engine.load(job["bundles"][name], verify=False)
            return job["sizes"][name], lambda query: engine.top_k(query, k)[0]

        return made

    metric = "METRIC_INNER_PRODUCT"
    return {
        "numpy float32": exact,
        "FAISS flat float32": faiss_of(lambda faiss: faiss.IndexFlatIP(width)),
        "FAISS flat int8": faiss_of(
            lambda faiss: faiss.IndexScalarQuantizer(
                width, faiss.ScalarQuantizer.QT_8bit, getattr(faiss, metric)
            )
        ),
        "FAISS flat int4": faiss_of(
            lambda faiss: faiss.IndexScalarQuantizer(
                width, faiss.ScalarQuantizer.QT_4bit, getattr(faiss, metric)
            )
        ),
        f"FAISS PQ {width // 2}x8": faiss_of(
            lambda faiss: faiss.IndexPQ(width, width // 2, 8, getattr(faiss, metric))
        ),
        "usearch int8, exact": usearch,
        **{f"pocketrec, {name}": bundle(name) for name in job["bundles"]},
    }


def answer(job: Mapping[str, Any]) -> dict[str, Any]:
    """The reply to one job."""
    numpy: Any = import_module("numpy")
    latency: Any = import_module("pocketrec.benchmarks.latency")
    with numpy.load(job["vectors"]) as found:
        table, queries = found["table"], found["queries"]
    rows: list[dict[str, Any]] = []
    made: dict[str, Search] = {}
    exact: list[set[int]] = []
    for name, make in searches(job, table).items():
        began = time.perf_counter()
        row: dict[str, Any] = {"name": name, "error": None}
        try:
            row["size_bytes"], made[name] = make()
            row["make_seconds"] = time.perf_counter() - began
            lists = [set(map(int, made[name](query))) for query in queries]
            exact = exact or lists  # the first is numpy's
            row["recall"] = sum(len(a & b) for a, b in zip(lists, exact, strict=True)) / sum(map(len, exact))
        except Exception as error:  # noqa: BLE001 -- whatever a library says no with is its row
            made.pop(name, None)
            row["error"] = f"{type(error).__name__}: {str(error).strip().splitlines()[:1]}"
        rows.append(row)
    timing = latency.Timing(n_rounds=job["n_rounds"], max_seconds=job["max_seconds"], n_warmup=2)
    samples = latency.time_interleaved(
        made, lambda search, n: lambda: search(queries[n % len(queries)]), timing
    )
    for row in rows:
        if row["name"] in samples:
            row["samples_ms"] = samples[row["name"]].tolist()
    return {"rows": rows, "versions": {name: version(name) for name in ("numpy", "faiss-cpu", "usearch", "onnxruntime")}}  # fmt: skip


if __name__ == "__main__":
    asked, answered = map(Path, sys.argv[1:])
    answered.write_text(json.dumps(answer(json.loads(asked.read_text()))))
