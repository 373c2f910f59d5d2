"""Peak resident memory of using an ONNX graph, measured as `memory.py` measures bundles: each in processes of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import median

from ..blas_threads import blas_environment
from ..memory import PEAK
from .protocol import last_line

_CHILD = (
    r"""
import json, sys
import numpy, onnxruntime
path, length, count, threads = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = int(threads), 1
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
inputs = {"history": numpy.arange(int(length))[None], "candidates": numpy.arange(int(count))[None]}
session.run(None, {put.name: inputs[put.name] for put in session.get_inputs()})
"""
    + PEAK
    + "print(json.dumps(peak()))\n"
)


def measure_graph_memory(
    path: Path, baseline_bytes: int, *, length: int, n_candidates: int, threads: int = 1, n_repeats: int = 3
) -> dict[str, int]:
    """{"peak_bytes", "added_bytes"} of loading a graph and scoring once, the median of some runs.

    Args:
        length: items of the history.
        baseline_bytes: what numpy and onnxruntime cost before any model (`memory.baseline_memory`).
    """
    command = [sys.executable, "-P", "-c", _CHILD, str(path.absolute())]
    command += [str(length), str(n_candidates), str(threads)]
    peaks: list[int] = []
    for _ in range(n_repeats):
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=blas_environment(threads)
        )
        if done.returncode != 0:
            raise RuntimeError(f"{path}: measuring its memory failed: {last_line(done.stderr)}")
        peaks.append(int(json.loads(done.stdout)))
    peak = int(median(peaks))
    return {"peak_bytes": peak, "added_bytes": peak - baseline_bytes}
