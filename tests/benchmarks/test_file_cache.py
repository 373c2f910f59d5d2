"""What the system keeps of a file, and one line where a cold start cannot be measured."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pocketrec.benchmarks import file_cache
from pocketrec.benchmarks.file_cache import cached_share, problem


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.pocket"
    path.write_bytes(os.urandom(1 << 20))
    return path


def test_a_file_that_was_just_read_is_cached(file: Path):
    file.read_bytes()
    assert cached_share(file) in (1.0, None)


def test_dropping_leaves_nothing_or_a_reason(file: Path):
    reason = problem(file)
    left = cached_share(file)
    assert (reason is None) == (left is not None and left <= file_cache.COLD_SHARE)


@pytest.mark.parametrize(
    ("left", "words"), [(None, "does not tell which pages"), (0.5, "model.pocket, 50% stayed in the cache")]
)
def test_what_cannot_be_measured_is_said(
    file: Path, monkeypatch: pytest.MonkeyPatch, left: float | None, words: str
):
    monkeypatch.setattr(file_cache, "cached_share", lambda _path: left)
    reason = problem(file)
    assert reason is not None
    assert words in reason


def test_a_system_without_the_call_is_said(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    assert problem(file) == "a cold load cannot be measured: this system has no posix_fadvise"
