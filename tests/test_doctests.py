"""Every docstring example of the installed packages runs.

By module name, not by path: a collection by path would import `runtime/` a second time, as `runtime`.
"""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

PACKAGES = ("runtime", "export", "benchmarks", "compress", "cli")


def module_names() -> list[str]:
    """All modules below `pocketrec`, packages among them."""
    names: list[str] = []
    for name in PACKAGES:
        package = importlib.import_module(f"pocketrec.{name}")
        names.append(package.__name__)
        names += [info.name for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    return names


@pytest.mark.parametrize("name", module_names())
def test_examples(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_the_walk_reaches_nested_packages() -> None:
    assert {"pocketrec.runtime.errors", "pocketrec.compress.models", "pocketrec.cli.main"} <= {
        *module_names()
    }
