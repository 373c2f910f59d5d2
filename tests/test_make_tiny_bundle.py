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


@pytest.mark.parametrize("name", make_tiny_bundle.TINY)
def test_the_script_still_makes_them(name: str, tmp_path: Path) -> None:
    """The graphs may differ from one exporter to the next; what we define ourselves may not."""
    item_ids, bits = make_tiny_bundle.TINY[name]
    make_tiny_bundle.make_tiny_bundle(tmp_path / name, item_ids, bits)
    made, committed = Bundle.open(tmp_path / name), Bundle.open(make_tiny_bundle.FOLDER / name)
    assert {k: v for k, v in made.manifest.items() if k != "parts"} == {
        k: v for k, v in committed.manifest.items() if k != "parts"
    }
    for part in ("item_codes", "item_scales", "prior_user"):
        assert made.part(part).tobytes() == committed.part(part).tobytes()
    assert committed.size_bytes < 16 << 10
    ranked = Reranker.load(tmp_path / name).user().recommend(k=50)
    expected = Reranker.load(make_tiny_bundle.FOLDER / name).user().recommend(k=50)
    assert [item.item_id for item in ranked] == [item.item_id for item in expected]
