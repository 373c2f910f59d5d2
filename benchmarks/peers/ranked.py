"""How a graph ranked the users, kept beside it: ranking takes minutes, and timing again should not have to wait for it.

Bundles are ranked anew each time, since our runtime is what changes; a graph's scores are onnxruntime's, whose version is
part of the key.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from ..evaluate import Ranking, Scorer, evaluate_ranks
from ..protocols import Split


def ranked(
    graph: Path,
    scorer: Scorer,
    split: Split,
    *,
    keep_repeats: bool,
    progress: Callable[[int], object],
) -> Ranking:
    """`evaluate_ranks` of the scorer that runs `graph`, or what it said before, from `graph` with the ending `.npz`."""
    kept, key = graph.with_suffix(".npz"), _key(graph, split, keep_repeats)
    try:
        with np.load(kept) as found:
            if str(found["key"]) == key:
                progress(len(split))
                return Ranking(
                    ranks=found["ranks"], top_rows=found["top_rows"], n_items=int(found["n_items"]),
                    repeated_targets=int(found["repeated_targets"]), seconds=float(found["seconds"]),
                )  # fmt: skip
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        pass  # none, or half of one
    ranking = evaluate_ranks(scorer, split, keep_repeats=keep_repeats, progress=progress)
    np.savez(
        kept, key=key, ranks=ranking.ranks, top_rows=ranking.top_rows, n_items=ranking.n_items,
        repeated_targets=ranking.repeated_targets, seconds=ranking.seconds,
    )  # fmt: skip
    return ranking


def _key(graph: Path, split: Split, keep_repeats: bool) -> str:
    digest = hashlib.sha256(graph.read_bytes())
    for rows in (*split.histories, split.targets):
        digest.update(np.ascontiguousarray(rows).tobytes() + b"|")
    digest.update(f"{keep_repeats} {onnxruntime.__version__}".encode())
    return digest.hexdigest()
