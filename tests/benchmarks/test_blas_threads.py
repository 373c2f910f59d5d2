"""numpy's own threads are held to what is timed, or a line says that they were not."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pocketrec.benchmarks import blas_threads as module
from pocketrec.benchmarks.blas_threads import VARIABLES, blas_environment, blas_threads


def test_a_process_that_we_start_is_told() -> None:
    code = f"import json, os; print(json.dumps([os.environ[name] for name in {VARIABLES!r}]))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=blas_environment(3)
    )
    assert json.loads(done.stdout) == ["3"] * len(VARIABLES)


def test_this_process_is_limited_where_threadpoolctl_is_installed(monkeypatch) -> None:
    did: list[str] = []

    @contextlib.contextmanager
    def threadpool_limits(**asked: Any) -> Iterator[None]:
        did.append(f"in {asked}")
        yield
        did.append("out")

    found = SimpleNamespace(threadpool_limits=threadpool_limits)
    monkeypatch.setattr(module, "import_module", lambda name: {"threadpoolctl": found}[name])
    with blas_threads(2) as problem:
        assert problem is None
        assert did == ["in {'limits': 2, 'user_api': 'blas'}"]
    assert did[-1] == "out"


@pytest.mark.parametrize(
    ("variables", "threads", "cores", "said"),
    [
        ({}, 1, 8, "were not held to 1 thread: set OMP_NUM_THREADS=1, or install threadpoolctl"),
        ({"OMP_NUM_THREADS": "4"}, 2, 8, "were not held to 2 threads: set OMP_NUM_THREADS=2"),
        ({"OPENBLAS_NUM_THREADS": "1"}, 1, 8, None),
        ({}, 8, 8, None),
    ],
)
def test_else_a_line_says_what_to_set(
    monkeypatch, variables: dict[str, str], threads: int, cores: int, said: str | None
) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(module, "import_module", missing)
    monkeypatch.setattr(module, "available_cores", lambda: cores)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with blas_threads(threads) as problem:
        assert (problem is None) == (said is None)
        assert said is None or (problem is not None and said in problem)
