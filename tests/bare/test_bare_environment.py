"""The built wheel alone, with pytest beside it: what it brings, and what it says to who asks for more.

Run by `make test-bare` in an environment of its own; `freeze.txt` there was written before pytest came.
"""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, requires
from importlib.util import find_spec
from pathlib import Path

import pytest

import pocketrec.runtime

FREEZE = Path(sys.prefix) / "freeze.txt"


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pulled_by(*names: str) -> set[str]:
    """The installed distributions that `names` need, themselves among them, without their extras."""
    found: set[str] = set()
    queue = [normalized(name) for name in names]
    while queue:
        name = queue.pop()
        if name in found:
            continue
        try:
            lines = distribution(name).requires or []
        except PackageNotFoundError:  # for another system or Python
            continue
        found.add(name)
        queue += [
            normalized(re.split(r"[^\w.-]", line.strip())[0]) for line in lines if "extra ==" not in line
        ]
    return found


def test_the_wheel_is_what_is_tested() -> None:
    assert Path(sys.prefix) in Path(pocketrec.runtime.__file__).parents


def test_the_wheel_asks_for_numpy_and_onnxruntime_only() -> None:
    base = [line for line in requires("pocketrec") or [] if "extra ==" not in line]
    assert sorted(re.split(r"[^\w-]", line)[0] for line in base) == ["numpy", "onnxruntime"]


def test_nothing_else_was_installed() -> None:
    installed = {normalized(re.split(r"==| @ ", line)[0]) for line in FREEZE.read_text().splitlines()}
    assert {"pocketrec", "numpy", "onnxruntime"} <= installed
    assert (
        installed - pulled_by("numpy", "onnxruntime") - {"pocketrec", "pip", "setuptools", "wheel"} == set()
    )


def test_nothing_lands_beside_the_namespace() -> None:
    """No `runtime`, `cli` or `tests` in the user's site-packages."""
    top = {Path(str(file)).parts[0] for file in distribution("pocketrec").files or []}
    assert {name for name in top if not name.endswith(".dist-info")} - {".."} == {"pocketrec"}


@pytest.mark.parametrize("name", ["torch", "onnx", "pandas", "polars"])
def test_heavy_packages_are_really_absent(name: str) -> None:
    assert find_spec(name) is None


@pytest.mark.parametrize(
    ("name", "extra"), [("compress", "compress"), ("train", "compress"), ("bench", "bench")]
)
def test_a_command_says_which_extra_it_needs(name: str, extra: str) -> None:
    command = [str(Path(sys.prefix) / "bin" / "pocketrec"), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"pocketrec: error: pocketrec {name} needs the extra `{extra}`: pip install 'pocketrec[{extra}]'\n"
    )


@pytest.mark.parametrize("args", [["--help"], ["doctor"], ["inspect", "--help"], ["compress", "--help"]])
def test_what_the_base_install_can_do(args: list[str]) -> None:
    command = [str(Path(sys.prefix) / "bin" / "pocketrec"), *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_examples_of_the_runtime() -> None:
    walked = pkgutil.walk_packages(pocketrec.runtime.__path__, "pocketrec.runtime.")
    names = [
        "pocketrec.runtime",
        *(info.name for info in walked),
        "pocketrec.cli.main",
        "pocketrec.cli.inspect",
    ]
    for name in names:
        failed, _ = doctest.testmod(importlib.import_module(name))
        assert failed == 0, name
