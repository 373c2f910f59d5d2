"""What a state costs, and a store of many: the figures are there, and of the right things."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pocketrec.benchmarks import state_times, store_users
from pocketrec.runtime import Reranker

TINY = Path(__file__).parent.parent / "runtime" / "data" / "tiny-taste.pocket"


def test_a_state_is_small_and_its_disk_is_timed_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    monkeypatch.setattr(state_times, "EVENTS", 300)
    found = state_times.measure(Reranker.load(TINY), tmp_path, 10)
    assert len(synced) == 22  # a file and its folder, for each of ten saves and the first
    assert found["state_bytes"] == (tmp_path / "state.bin").stat().st_size <= 40 << 10
    for name in ("save_ms", "fsync_ms", "rename_ms", "load_ms", "save_cpu_ms", "load_cpu_ms"):
        assert 0 < found[name]["p50"] <= found[name]["p95"] <= found[name]["p99"]


def test_a_store_of_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out" / "store.json"
    args = [str(TINY), "--users", "150", "--calls", "10", "--folder", str(tmp_path), "--json", str(path)]
    assert store_users.main(args) == 0
    whole = json.loads(path.read_text())
    assert whole["results"] == json.loads(capsys.readouterr().out)
    assert whole["settings"]["seed"] == 0
    assert "cpu" in whole["machine"]
    results = whole["results"]
    assert (results["users"], results["users_left"]) == (150, 140)
    assert results["store_bytes_per_user"] > results["state_bytes_per_user"] > 500
    assert list(tmp_path.iterdir()) == [path.parent]
