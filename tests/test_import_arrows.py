"""The arrows of `.importlinter`: they hold for the sources, and the linter sees each way of breaking them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

PACKAGES = ("runtime", "export", "benchmarks", "compress", "cli")
LINTER = Path(sys.executable).parent / "lint-imports"


def lint(config: Path, *, sources: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the installed packages, or on a tree `sources/pocketrec/...` put before them."""
    env = dict(os.environ) if sources is None else {**os.environ, "PYTHONPATH": str(sources)}
    return subprocess.run(
        [str(LINTER), "--no-logo", "--no-cache", "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
        env=env,
        cwd=config.parent,
    )


@pytest.fixture
def tree(tmp_path: Path, repository: Path) -> Path:
    """A house of empty packages with the rules of the real one."""
    for name in PACKAGES:
        package = tmp_path / "pocketrec" / name
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "part.py").touch()
    shutil.copy(repository / ".importlinter", tmp_path)
    return tmp_path


def test_the_arrows_hold(repository: Path) -> None:
    result = lint(repository / ".importlinter")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_linter_looks_at_the_tree_it_is_given(tree: Path) -> None:
    result = lint(tree / ".importlinter", sources=tree)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"Analyzed {2 * len(PACKAGES)} files" in result.stdout


@pytest.mark.parametrize(
    ("package", "statement"),
    [
        ("runtime", "from ..benchmarks import part"),
        ("runtime", "from ..export.part import anything"),
        ("runtime", "import pocketrec.compress.part"),
        ("runtime", "import torch"),
        ("runtime", "import onnx"),
        ("runtime", "import pandas"),
        ("runtime", "from polars import DataFrame"),
        ("benchmarks", "from ..compress import part"),
        ("benchmarks", "from ..export import part"),
        ("benchmarks", "import torch.nn"),
        ("benchmarks", "import onnx"),
        ("export", "from ..compress import part"),
        ("export", "from ..benchmarks import part"),
        ("export", "import polars"),
        ("compress", "from ..cli import part"),
    ],
)
def test_an_import_against_the_arrows_is_seen_inside_a_function(
    tree: Path, package: str, statement: str
) -> None:
    (tree / "pocketrec" / package / "part.py").write_text(f"def work():\n    {statement}\n")
    result = lint(tree / ".importlinter", sources=tree)
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"pocketrec.{package}.part -> " in result.stdout  # it names the line to mend


def test_runtime_imports_numpy_and_onnxruntime_and_nothing_else() -> None:
    graph = grimp.build_graph("pocketrec.runtime", include_external_packages=True, cache_dir=None)
    imported = {name.partition(".")[0] for name in graph.modules} - {"pocketrec"}
    assert imported - sys.stdlib_module_names <= {"numpy", "onnxruntime", "tokenizers"}
    # the extra `embed`, of which one module knows, when a title is embedded
    assert graph.find_modules_that_directly_import("tokenizers") <= {"pocketrec.runtime.text_tokens"}
