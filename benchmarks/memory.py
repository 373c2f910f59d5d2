"""Peak resident memory of using a bundle, each figure from a process of its own.

    baseline    python with numpy and onnxruntime imported: what an app pays before any model
    rerank      load, observe a few items, re-rank candidates: the catalogue's scorer is never made
    recommend   load, then the first recommendation over the whole catalogue

`added` is a peak minus the baseline. Resident memory counts the mapped pages of the bundle that were
touched; the system may drop those under pressure, so the figure is an upper bound of what the app must
keep.

The peak is VmHWM where there is /proc: it belongs to the program alone, while `ru_maxrss` of a child starts
at what its parent held when it was forked. Elsewhere it is `ru_maxrss`, or the peak working set on Windows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from .blas_threads import blas_environment

TASKS = ("rerank", "recommend")

PEAK = r"""
def peak():
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        import psutil
        return psutil.Process().memory_info().peak_wset
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if sys.platform == "darwin" else usage * 1024
"""
"""The function that a measured process ends with."""

_CHILD = (
    r"""
import json, sys
import numpy, onnxruntime
task, path, threads, device = sys.argv[1:]
def pointwise():
    from pocketrec.runtime.bundle import Bundle
    return Bundle.open(path, verify=False).manifest.get("family") == "pointwise"
if task != "baseline" and pointwise():
    from pocketrec.runtime.pointwise import PointwiseRanker
    ranker = PointwiseRanker.load(path, threads=int(threads), device=device)
    engine = ranker.engine
    count = 100 if task == "rerank" else 1 if engine.item is None else engine.schema.field(engine.item).size - 1
    if engine.item is None:
        ranker.rerank([{}] * count, k=10)
    else:
        ids = engine.vocabularies[engine.item]
        ranker.rerank(ids.ids(range(min(count, len(ids)))), k=10)
elif task != "baseline":
    from pocketrec.runtime.reranker import Reranker
    ranker = Reranker.load(path, threads=int(threads), device=device)
    user, n_items = ranker.user(), ranker.engine.n_items
    if task == "rerank":
        user.observe(*ranker.engine.item_ids.ids(numpy.arange(min(10, n_items))))
        user.rerank(ranker.engine.item_ids.ids(numpy.arange(min(100, n_items))), k=10)
    else:
        user.recommend(k=10)
"""
    + PEAK
    + "print(json.dumps(peak()))\n"
)


def baseline_memory(*, n_repeats: int = 3) -> int:
    """Peak bytes of importing numpy and onnxruntime, the median of `n_repeats` processes."""
    return int(median(_peak_bytes("baseline", "", 1, "cpu") for _ in range(n_repeats)))


def measure_memory(
    path: str | os.PathLike[str],
    baseline_bytes: int,
    *,
    threads: int = 1,
    device: str = "cpu",
    n_repeats: int = 3,
) -> dict[str, dict[str, int]]:
    """For each of `TASKS`: {"peak_bytes", "added_bytes"}, the median of `n_repeats` processes."""
    peaks = {
        task: int(median(_peak_bytes(task, path, threads, device) for _ in range(n_repeats)))
        for task in TASKS
    }
    return {task: {"peak_bytes": peak, "added_bytes": peak - baseline_bytes} for task, peak in peaks.items()}


def _peak_bytes(task: str, path: str | os.PathLike[str], threads: int, device: str) -> int:
    # -P: the folder we stand in must not shadow an installed package.
    command = [sys.executable, "-P", "-c", _CHILD, task, str(Path(path).absolute()), str(threads), device]
    env = blas_environment(threads)  # as many buffers as threads
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(
            f"{path}: measuring the memory of {task!r} failed with {done.returncode}: {reason}"
        )
    return int(json.loads(done.stdout))
