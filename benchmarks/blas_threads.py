"""Threads of numpy's own products: a session's `threads` says nothing of them.

numpy's BLAS takes as many threads as there are cores for larger products, whatever onnxruntime is told, and reads how many it
may take when it is loaded. So a process that we start is told by its environment; this one by `threadpoolctl`, where it is
installed; else a note says what to set.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from importlib import import_module
from typing import Any

from .machine import available_cores

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Read by OpenMP, OpenBLAS, MKL and Apple's Accelerate when numpy is imported."""


def blas_environment(threads: int) -> dict[str, str]:
    """Our environment, in which a new process's numpy has so many threads."""
    return {**os.environ, **dict.fromkeys(VARIABLES, str(threads))}


@contextlib.contextmanager
def blas_threads(threads: int) -> Generator[str | None]:
    """At most so many threads for numpy's products inside; yields why that could not be had, in one line, or None."""
    try:
        threadpoolctl: Any = import_module("threadpoolctl")
    except ImportError:
        yield _unlimited(threads)
        return
    with threadpoolctl.threadpool_limits(limits=threads, user_api="blas"):
        yield None


def _unlimited(threads: int) -> str | None:
    said = [value for name in VARIABLES if (value := os.environ.get(name)) is not None]
    if str(threads) in said or threads >= available_cores():
        return None
    return (
        f"numpy's own products were not held to {threads} thread{'s' if threads > 1 else ''}: "
        f"set OMP_NUM_THREADS={threads}, or install threadpoolctl"
    )
