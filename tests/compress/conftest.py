"""Fixtures of the compression tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture
def no_scipy_left_behind() -> Iterator[None]:
    """Modules that stand in for scipy's while something is pickled are gone afterwards."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("scipy.sparse._cs"):
            del sys.modules[name]
