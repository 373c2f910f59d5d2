"""Users who go on with a new bundle: the second half is measured, and each way does what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pocketrec.benchmarks.replay import Replay, ReplayConfig, Stream
from pocketrec.benchmarks.transfer import WAYS, MigratedUser, halved, measure
from pocketrec.runtime import InputError, Reranker

DATA = Path(__file__).parent.parent / "runtime" / "data"


@pytest.fixture(scope="module")
def old() -> Reranker:
    return Reranker.load(DATA / "tiny-range.pocket")


@pytest.fixture(scope="module")
def new() -> Reranker:
    return Reranker.load(DATA / "tiny-taste.pocket")


def replay(n_users: int, n_events: int) -> Replay:
    rng = np.random.default_rng(0)
    streams = [
        Stream(user, rng.permutation(50)[:3], rng.permutation(50)[:n_events]) for user in range(n_users)
    ]
    return Replay(streams, [stream.history for stream in streams], "made up")


def test_the_second_half_is_measured(old: Reranker, new: Reranker) -> None:
    half = halved(replay(6, 14), 10, 12)
    assert [(len(stream.events), stream.n_told) for stream in half.streams] == [(12, 6)] * 6
    found = measure(old, new, half, ReplayConfig(n_negatives=20))
    assert (found["users"], found["events"]) == (6, 36)
    assert set(found["ndcg@10"]) == {"frozen", *WAYS, "always"}
    assert all(0 < interval["value"] < 1 for interval in found["ndcg@10"].values())
    assert set(found["ratio_to_history"]) == {"frozen", "replayed", "mapped", "always"}


def test_nobody_with_enough_events() -> None:
    with pytest.raises(InputError, match="nobody has 30 events after the cut"):
        halved(replay(3, 12), 30, 100)


@pytest.mark.parametrize("way", WAYS)
def test_the_user_moves_once(old: Reranker, new: Reranker, way: str) -> None:
    stream = Stream(0, np.array([3, 4]), np.array([7, 8, 9]), n_told=2)
    user = MigratedUser(old, new, stream, way)
    candidates = np.arange(20)
    for row in stream.events.tolist():
        before = user.score(candidates)
        user.chosen(row)
    assert user._user.ranker is new
    assert user._user.history == [row + 1 for row in (3, 4, 7, 8, 9)]
    assert (user.score(candidates) != before).any()
    learned = user._user.state.counters["learned_events"]
    assert learned == {"history": 1, "replayed": 5, "mapped": 3}[way]
