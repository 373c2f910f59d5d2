"""A short run of what `python -m pocketrec.benchmarks.million_events` does for a million events."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pocketrec.benchmarks.million_events import LARGEST_STATE_BYTES, live_long
from pocketrec.runtime import Reranker
from pocketrec.runtime.user import User

DATA = Path(__file__).parent.parent / "runtime" / "data"


def test_a_long_life_is_bounded_finite_and_ranks() -> None:
    found = live_long(Reranker.load(DATA / "tiny-taste.pocket"), 20_000)
    assert found["problems"] == []
    assert found["checks"] == 100
    assert found["rankings"] == 1000
    assert found["largest_state_bytes"] <= LARGEST_STATE_BYTES
    assert found["traced_growth_bytes"] < 100_000


def test_what_leaks_and_what_is_no_ranking_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    leaked: list[np.ndarray] = []
    feedback = User.feedback

    def leaking(self: User, *args: object, **options: object) -> bool:
        leaked.append(np.ones(100_000))
        return feedback(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(User, "feedback", leaking)
    monkeypatch.setattr(User, "rerank", lambda *_, **__: [])
    found = live_long(Reranker.load(DATA / "tiny-range.pocket"), 60)
    assert found["resident_growth_bytes"] > 10_000_000
    assert not found["holds"]
    assert "the ranking is not the candidates" in found["problems"][0]
