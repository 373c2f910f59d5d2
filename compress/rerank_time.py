"""How long a bundle takes to re-rank 100 candidates after one new event: what `--max-latency` limits.

The operation `rerank` of `pocketrec bench` (`benchmarks.operations`), one thread, on histories of validation users, drawn
with a seed. It is of this machine, and of what else runs on it meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..benchmarks.bench_labels import raw_features
from ..benchmarks.labelled_rows import LabelledRows
from ..benchmarks.latency import Call, Timing, time_interleaved
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
    engine, random = ranker.engine, np.random.default_rng(seed)
    drawn = random.permutation(len(rows))[:USERS].tolist()
    people = [raw_features(engine, rows, n, ("user",)) for n in drawn]
    moments = [raw_features(engine, rows, n, ("context",)) for n in drawn]
    catalogue: list[Any]
    if engine.item is None:
        catalogue = [raw_features(engine, rows, n, ("item", "context")) for n in drawn]
        moments = [{} for _ in moments]
    else:
        catalogue = list(
            engine.vocabularies[engine.item].ids(range(engine.schema.field(engine.item).size - 1))
        )
    count = min(CANDIDATES, len(catalogue))

    def prepare(ranker: PointwiseRanker, n: int) -> Call:
        picked = np.random.default_rng([seed, n]).choice(len(catalogue), count, replace=False)
        candidates = [catalogue[place] for place in picked.tolist()]
        user, context = people[n % len(people)], moments[n % len(people)]
        return lambda: ranker.rerank(candidates, user=user, context=context, k=10)

    return float(np.median(time_interleaved({"bundle": ranker}, prepare, TIMING)["bundle"]))
