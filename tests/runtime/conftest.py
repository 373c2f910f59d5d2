"""Tiny real bundles, committed: `python tests/make_tiny_bundle.py` makes them anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocketrec.runtime import Engine, Reranker

DATA = Path(__file__).parent / "data"
N_ITEMS = 50


@pytest.fixture(scope="session")
def range_bundle() -> Path:
    """Ids 1..50, 4 bits."""
    return DATA / "tiny-range.pocket"


@pytest.fixture(scope="session")
def text_bundle() -> Path:
    """Ids "item-00".."item-49", 3 bits."""
    return DATA / "tiny-text.pocket"


@pytest.fixture(scope="session", params=["tiny-range.pocket", "tiny-text.pocket"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Of each bundle in turn."""
    return Engine.load(DATA / request.param)


@pytest.fixture(scope="session")
def ranker(engine: Engine) -> Reranker:
    """Of each bundle in turn."""
    return Reranker(engine)
