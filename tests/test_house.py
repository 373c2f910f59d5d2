"""What holds for the project as a whole: the packages, what the runtime pulls in, and the pinned versions."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires, version
from pathlib import Path

import pytest

FOLDERS = ("runtime", "export", "benchmarks", "compress", "cli")


@pytest.fixture(scope="module")
def pyproject(repository: Path) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text())


def test_importing_the_runtime_pulls_nothing_heavy() -> None:
    heavy = ("torch", "onnx", "onnxscript", "pandas", "polars", "matplotlib", "pocketrec.compress")
    code = f"import sys, pocketrec.runtime; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_base_install_asks_for_numpy_and_onnxruntime_only() -> None:
    base = [line for line in requires("pocketrec") or [] if "extra ==" not in line]
    assert sorted(re.split(r"[^\w-]", line)[0] for line in base) == ["numpy", "onnxruntime"]


def test_every_package_folder_ships(repository: Path, pyproject: dict) -> None:
    listed = {name.removeprefix("pocketrec.") for name in pyproject["tool"]["setuptools"]["packages"]}
    found = {
        ".".join(init.parent.relative_to(repository).parts)
        for folder in FOLDERS
        for init in (repository / folder).rglob("__init__.py")
    }
    assert listed == found


def test_every_folder_is_typed(repository: Path) -> None:
    assert [folder for folder in FOLDERS if not (repository / folder / "py.typed").is_file()] == []


def test_no_python_file_lies_in_a_folder_that_does_not_ship(repository: Path) -> None:
    strays = [
        path
        for folder in FOLDERS
        for path in (repository / folder).rglob("*.py")
        if not (path.parent / "__init__.py").is_file()
    ]
    assert strays == []


def test_the_modules_that_main_looks_for_are_those_of_the_extras(pyproject: dict) -> None:
    from pocketrec.cli.main import BENCH_MODULES, COMPRESS_MODULES

    extras = pyproject["project"]["optional-dependencies"]

    def modules(extra: str) -> list[str]:
        names = (re.split(r"[<>=!~ ]", line)[0] for line in extras[extra])
        return [name.replace("-", "_") for name in names if not name.startswith("pocketrec[")]

    assert sorted(modules("bench")) == sorted(BENCH_MODULES)
    assert sorted(modules("bench") + modules("compress")) == sorted(COMPRESS_MODULES)


def test_every_direct_dependency_is_pinned_for_development(repository: Path, pyproject: dict) -> None:
    lines = (repository / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower() for line in lines if "==" in line}
    project = pyproject["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    direct = {re.split(r"[<>=!~ ]", line)[0].lower() for group in groups for line in group}
    assert {name for name in direct if not name.startswith("pocketrec[")} <= pinned


def test_the_changelog_has_a_section_for_what_is_next_or_this_version(repository: Path) -> None:
    text = (repository / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in text
    assert "Keep a Changelog" in text
    assert version("pocketrec") in text or "## [0" not in text


def test_every_module_of_ours_says_what_it_is(repository: Path) -> None:
    import ast

    silent = [
        str(path.relative_to(repository))
        for folder in FOLDERS
        for path in sorted((repository / folder).rglob("*.py"))
        if len(ast.get_docstring(ast.parse(path.read_text())) or "") < 10
    ]
    assert silent == []
