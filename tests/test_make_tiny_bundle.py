"""The committed tiny bundles are what their script makes, and still load."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from pocketrec.runtime import Bundle, Reranker

SCRIPT = Path(__file__).parent / "make_tiny_bundle.py"
_spec = importlib.util.spec_from_file_location("make_tiny_bundle", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
make_tiny_bundle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_tiny_bundle)


@pytest.fixture(scope="module")
def made_now(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of freshly made ones."""
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_bundle.make_tiny_bundles(folder)
    return folder


@pytest.mark.parametrize("name", [*make_tiny_bundle.TINY, make_tiny_bundle.TASTE])
def test_the_script_still_makes_them(name: str, made_now: Path) -> None:
    """The graphs may differ from one exporter to the next; what we define ourselves may not."""
    made, committed = Bundle.open(made_now / name), Bundle.open(make_tiny_bundle.FOLDER / name)
    assert {k: v for k, v in made.manifest.items() if k != "parts"} == {
        k: v for k, v in committed.manifest.items() if k != "parts"
    }
    for part in {"item_codes", "item_scales", "prior_user", "taste_codes", "taste_scales"} & {
        entry["name"] for entry in committed.manifest["parts"]
    }:
        assert made.part(part).tobytes() == committed.part(part).tobytes()
    assert committed.size_bytes < 16 << 10
    ranked = Reranker.load(made_now / name).user().recommend(k=50)
    expected = Reranker.load(make_tiny_bundle.FOLDER / name).user().recommend(k=50)
    assert [item.item_id for item in ranked] == [item.item_id for item in expected]
