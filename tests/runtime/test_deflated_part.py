"""Parts that are stored deflated: what the manifest says is made, and nothing else."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from pocketrec.runtime.bundle import Bundle, write_bundle
from pocketrec.runtime.deflated_part import inflated
from pocketrec.runtime.errors import BundleError

CONTENT = b"names of nodes, names of nodes" * 20


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    parts = {"good": zlib.compress(CONTENT), "raw": CONTENT, "cut": zlib.compress(CONTENT)[:-8]}
    write_bundle(tmp_path / "x.pocket", {"name": "x"}, parts)
    return Bundle.open(tmp_path / "x.pocket")


def test_what_was_deflated_comes_back(bundle: Bundle) -> None:
    assert inflated(bundle, "good", len(CONTENT)) == CONTENT


@pytest.mark.parametrize(
    ("part", "n_bytes", "said"),
    [
        ("good", len(CONTENT) - 1, "does not have the 599 bytes"),
        ("good", len(CONTENT) + 1, "does not have the 601 bytes"),
        ("cut", len(CONTENT), "does not have the 600 bytes"),
        ("raw", len(CONTENT), "cannot be unpacked"),
        ("good", 0, "of 0 bytes"),
        ("good", -1, "of -1 bytes"),
        ("good", True, "of True bytes"),
        ("good", "600", "of '600' bytes"),
        ("good", None, "of None bytes"),
        ("good", 1 << 31, "of 2147483648 bytes"),
    ],
)
def test_anything_else_is_refused(bundle: Bundle, part: str, n_bytes: object, said: str) -> None:
    with pytest.raises(BundleError, match=said):
        inflated(bundle, part, n_bytes)
