"""A short run of what `python -m pocketrec.benchmarks.kill_saves` does a thousand times."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from pocketrec.benchmarks.kill_saves import kill_saves
from pocketrec.runtime.state_file import StateFile
from pocketrec.runtime.user_state import UserState

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork") or not hasattr(signal, "SIGKILL"), reason="no fork and SIGKILL on this system"
)


@pytest.mark.parametrize("place", ["file", "store"])
def test_every_state_is_the_old_or_the_new(tmp_path: Path, place: str) -> None:
    counts = kill_saves(tmp_path, 40, place=place)
    assert (counts["readable"], counts["damaged"], counts["problems"]) == (40, 0, [])
    assert counts["old"] + counts["new"] == 40
    assert counts["saves"] > 10


def test_a_place_that_is_not_atomic_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the figure can be believed: what it counts as damaged does occur where saves are not atomic."""

    def save(self: StateFile, state: UserState) -> int:
        from pocketrec.runtime.user_state import to_bytes

        raw = to_bytes(state)
        with self.path.open("wb", buffering=0) as file:
            for begin in range(0, len(raw), 64):
                file.write(raw[begin : begin + 64])
        return len(raw)

    monkeypatch.setattr(StateFile, "save", save)
    assert kill_saves(tmp_path, 20)["damaged"] > 0
