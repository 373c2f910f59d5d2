"""How long a bundle takes to re-rank 100 candidates after one new event: what `--max-latency` limits.

The operation `rerank` of `pocketrec bench` (`benchmarks.operations`), one thread, on histories of validation users, drawn
with a seed. It is of this machine, and of what else runs on it meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..benchmarks.labelled_rows import LabelledRows
from ..benchmarks.labelled_workload import labelled_workload
from ..benchmarks.latency import Timing, time_interleaved
from ..benchmarks.operations import Workload, sample_histories, user_operations
from ..runtime.pointwise import PointwiseRanker
from ..runtime.reranker import Reranker

CANDIDATES, USERS = 100, 400
TIMING = Timing(max_seconds=10.0)


def rerank_ms(path: Path, histories: Sequence[NDArray[np.int64]], *, seed: int) -> float:
    """Median of the bundle at `path`, in milliseconds; histories are rows of its items."""
    ranker = Reranker.load(path, threads=1)
    ids = ranker.engine.item_ids
    work = Workload(
        histories=[ids.ids(rows) for rows in sample_histories(histories, USERS, seed)],
        catalogue=ids.ids(range(len(ids))),
        candidates=(min(CANDIDATES, len(ids)),),
        seed=seed,
    )
    operation = next(one for one in user_operations(work) if one.name == "rerank")
    samples = time_interleaved({"bundle": ranker}, operation.prepare, TIMING)
    return float(np.median(samples["bundle"]))


def rerank_rows_ms(path: Path, rows: LabelledRows, *, seed: int) -> float:
    """Median of a pointwise bundle, in milliseconds: users and contexts of `rows`, and 100 of its items, or, of a model
    that names no item, of the rows' own items."""
    ranker = PointwiseRanker.load(path, threads=1)
    work = labelled_workload(ranker.engine, rows, USERS, seed)
    prepare = work.rerank(min(CANDIDATES, len(work.catalogue)))
    return float(np.median(time_interleaved({"bundle": ranker}, prepare, TIMING)["bundle"]))
