"""Experts are left out one group at a time, and what they bring is the difference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pocketrec.benchmarks.expert_ablation import ablate, ablation_lines, without
from pocketrec.benchmarks.replay import ReplayConfig, replay_last_share
from pocketrec.runtime import Engine, InputError, Reranker

DATA = Path(__file__).parent.parent / "runtime" / "data"


@pytest.fixture
def sequences() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.permutation(50)[:10] for _ in range(6)]


def test_weights_that_are_left_out() -> None:
    prior = Reranker.load(DATA / "tiny-taste.pocket").prior
    assert prior is not None
    left = without(prior, ("popularity", "taste_fast"))
    for source, weights in left.weights.items():
        for name, weight, before in zip(prior.experts, weights, prior.weights[source], strict=True):
            assert weight == (0 if name in ("popularity", "taste_fast") else before)


def test_groups_and_their_bytes(sequences: list[np.ndarray]) -> None:
    engine = Engine.load(DATA / "tiny-taste.pocket")
    result = ablate(engine, replay_last_share(sequences, share=0.4), ReplayConfig(n_negatives=20))
    groups = {group["left_out"]: group for group in result["groups"]}
    assert {"popularity", "all recency", "user_vector", "taste space"} <= {*groups}
    assert groups["taste space"]["bytes"] > 0
    assert groups["popularity"]["bytes"] == 0
    assert any(group["ndcg@10_without"] != result["ndcg@10"]["whole"] for group in groups.values())
    assert len(ablation_lines(result)) == 1 + len(groups)


def test_a_bundle_without_experts(sequences: list[np.ndarray]) -> None:
    with pytest.raises(InputError, match="no adaptation"):
        ablate(Engine.load(DATA / "tiny-range.pocket"), replay_last_share(sequences), ReplayConfig())
