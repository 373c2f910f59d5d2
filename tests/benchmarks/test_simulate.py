"""Simulations: a person who clicks what is seen, and one who becomes another."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pocketrec.benchmarks import simulate
from pocketrec.benchmarks.replay import ReplayConfig, replay_last_share
from pocketrec.benchmarks.simulate import biased_clicks, simulation_lines, swap_tastes
from pocketrec.runtime import Engine, Reranker

TINY = Path(__file__).parent.parent / "runtime" / "data" / "tiny-taste.pocket"
N_ITEMS = 50
CONFIG = ReplayConfig(n_negatives=20, max_events=12)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load(TINY)


@pytest.fixture(scope="module")
def sequences(engine: Engine) -> list[np.ndarray]:
    """The one half of the catalogue or the other."""
    halves = np.argsort(engine.table.lookup(np.arange(N_ITEMS))[:, 0]).reshape(2, 25)
    rng = np.random.default_rng(0)
    return [rng.permutation(halves[user % 2])[:18] for user in range(12)]


class TestClicks:
    def test_the_stronger_the_bias_the_fewer_clicks(
        self, engine: Engine, sequences: list[np.ndarray]
    ) -> None:
        replay = replay_last_share(sequences, share=0.6)
        weak, strong = (biased_clicks(engine, replay, CONFIG, eta) for eta in (0.0, 3.0))
        assert weak["clicks"]["naive"] > 1.5 * strong["clicks"]["naive"] > 0
        assert weak["users"] == 12

    def test_the_same_twice(self, engine: Engine, sequences: list[np.ndarray]) -> None:
        replay = replay_last_share(sequences[:3], share=0.6)
        assert biased_clicks(engine, replay, CONFIG, 1.0) == biased_clicks(engine, replay, CONFIG, 1.0)


class TestSwap:
    def test_spans_and_figures(
        self, engine: Engine, sequences: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in (("N_BEFORE", 6), ("N_AFTER", 6), ("SPAN", 3)):
            monkeypatch.setattr(simulate, name, value)
        found = swap_tastes(
            Reranker(engine), replay_last_share(sequences, share=0.9), replace(CONFIG, seed=1)
        )
        assert found is not None
        assert [(p["first"], p["last"]) for p in found["recovered"]] == [(1, 3), (4, 6)]
        assert found["users"] == 12
        result = {
            "swapped_tastes": found,
            "biased_clicks": {
                "strengths": [biased_clicks(engine, replay_last_share(sequences), CONFIG, 1.0)]
            },
        }
        json.dumps(result, allow_nan=False)
        lines = simulation_lines(result)
        assert lines[0].startswith("tastes swapped after 6 events, 12 users")
        assert sum(" over " in line for line in lines) == 3

    def test_too_few_events(self, engine: Engine, sequences: list[np.ndarray]) -> None:
        assert swap_tastes(Reranker(engine), replay_last_share(sequences), CONFIG) is None
