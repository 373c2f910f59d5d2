"""Whatever an app passes, each form of a bundle answers alike: tables of tiers, an encoder without a graph, a taste table, item-item
weights.

`tests/runtime` has the same of the plain form in detail; here are the outcomes that must not depend on the form.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketrec.compress.adapt import write_adapted
from pocketrec.compress.models.pooled import Pooled, PooledConfig, pooled_weights
from pocketrec.export.bundle_writer import export_bundle
from pocketrec.export.scorer_graph import scoring_block
from pocketrec.runtime import InputError, Reranker
from pocketrec.runtime.adaptation import OWN_EXPERTS, TASTE_EXPERTS
from pocketrec.runtime.bundle import write_bundle
from pocketrec.runtime.item_ids import ItemIds
from pocketrec.runtime.item_table import quantize_rows
from pocketrec.runtime.neighbors import Neighbors, row_dtype
from pocketrec.runtime.user import User

from .conftest import random_table
from .test_tiered_tables import tables

N_ITEMS, WIDTH = 60, 16
SOME = list(range(1, 21))
FORMS = ("quantized", "tiers", "pooled", "pooled tiers", "taste", "item-item")
WEIGHTS = [0.8, 0.1, 0.5, 1.0, 1.5, 0.5, 0.5, 1.0, 0.5, 0.5]


@pytest.fixture(params=FORMS)
def path(request: pytest.FixtureRequest, tmp_path: Path, make_content: Any, histories: Any) -> Path:
    """A bundle of each form in turn; ids 1..60."""
    path = tmp_path / "plain.pocket"
    if request.param == "item-item":
        return write_item_item(path)
    table = tables(WIDTH)["three tiers"] if "tiers" in request.param else random_table(N_ITEMS, WIDTH, 4)
    changes: dict[str, Any] = {}
    if "pooled" in request.param:
        pooled = Pooled(
            PooledConfig(n_items=N_ITEMS, width=WIDTH, hidden_width=16, max_length=5), seed=0
        ).eval()
        changes = {"encoder": pooled, "encoder_graph": pooled_weights(pooled)}
    export_bundle(path, make_content(table, **changes), histories)
    if request.param != "taste":
        return path
    taste = quantize_rows(np.random.default_rng(1).standard_normal((N_ITEMS, 8)), 4)
    adaptation = {
        "experts": [*OWN_EXPERTS, *TASTE_EXPERTS],
        "weights": {"catalogue": WEIGHTS, "popularity": WEIGHTS},
        "calibrated": {"catalogue": [1.0, 0.2], "popularity": [1.0, 0.2]},
        "variances": [1.0] * len(WEIGHTS),
        "taste": {**taste.describe(), "block": scoring_block(taste.width)},
    }
    write_adapted(path, tmp_path / "taste.pocket", adaptation, taste)
    return tmp_path / "taste.pocket"


def write_item_item(path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = np.stack([rng.permutation(N_ITEMS)[:6] for _ in range(N_ITEMS)]).astype(row_dtype(N_ITEMS))
    neighbors = Neighbors(rows, quantize_rows(rng.standard_normal((N_ITEMS, 6)).astype(np.float32), 4))
    ids = ItemIds.from_sequence(range(1, N_ITEMS + 1))
    manifest = {
        "name": "neighbours",
        "family": "item-item",
        "max_length": 8,
        "items": {"count": N_ITEMS, "ids": ids.describe()},
        "item_table": neighbors.weights.describe(),
    }
    prior = np.linspace(0, 1, N_ITEMS).astype(np.float16)
    parts = {**neighbors.parts(), "prior_user": prior, "item_ids": ids.to_bytes()}
    write_bundle(path, manifest, {name: part for name, part in parts.items() if part is not None})
    return path


@pytest.fixture
def ranker(path: Path) -> Reranker:
    return Reranker.load(path)


def new(ranker: Reranker) -> User:
    return ranker.user()


def experienced(ranker: Reranker) -> User:
    user = ranker.user()
    user.observe(30, 41, 52)
    return user


def taught(ranker: Reranker) -> User:
    user = experienced(ranker)
    user.rerank(SOME)
    user.feedback(7)
    return user


@pytest.mark.parametrize("start", [new, experienced, taught])
class TestLists:
    def test_scores_that_say_nothing(self, ranker: Reranker, start: Callable[[Reranker], User]) -> None:
        plain = start(ranker).rerank(SOME, 20)
        for value in (math.nan, math.inf, -math.inf, None, 3.0):
            assert start(ranker).rerank(SOME, 20, [value] * 20) == plain, value  # type: ignore[list-item]
        for value in (math.nan, math.inf, -math.inf, None, 1e308, -1e308):
            ranked = start(ranker).rerank(SOME, 20, [value, *range(19)])  # type: ignore[list-item]
            assert sorted(ranked.item_ids()) == SOME
            assert all(math.isfinite(item.score) for item in ranked), value

    def test_odd_lists(self, ranker: Reranker, start: Callable[[Reranker], User]) -> None:
        plain = start(ranker).rerank(SOME, 20)
        assert start(ranker).rerank([*SOME, *SOME], 100) == plain
        assert start(ranker).rerank(SOME, 10**9) == plain
        assert start(ranker).rerank([]) == start(ranker).rerank([], 3, []) == []
        ranked = start(ranker).rerank(["nobody", *SOME, 10**15, -7, 2**70], 30)
        assert ranked[:20] == plain
        assert ranked.item_ids()[20:] == ("nobody", 10**15, -7, 2**70)
        assert ranked.unknown == {"nobody", 10**15, -7, 2**70}
        only = start(ranker).rerank(["x", "y", "z"], 3, [1.0, math.nan, 2.0])
        assert only.item_ids() == ("z", "x", "y")

    def test_the_end_of_the_catalogue(self, ranker: Reranker, start: Callable[[Reranker], User]) -> None:
        user = start(ranker)
        seen = set(user.history)
        assert set(user.recommend(10**9).item_ids()) == set(range(1, N_ITEMS + 1)) - seen
        assert len(user.recommend(10**9, exclude_seen=False)) == N_ITEMS

    def test_what_is_no_list(self, ranker: Reranker, start: Callable[[Reranker], User]) -> None:
        user = start(ranker)
        before = user.state.history
        for odd in ("17", b"17", None, 17, np.array(17), np.ones((2, 2))):
            with pytest.raises(InputError, match="expected a list of item ids"):
                user.rerank(odd)  # type: ignore[arg-type]
        for k in (0, -1, 1.5, None, "3"):
            with pytest.raises(InputError, match=r"^k: got "):
                user.rerank(SOME, k)  # type: ignore[arg-type]
        for scores in ([1.0], [1.0] * 21, ["a"] * 20, [[1.0]] * 20):
            with pytest.raises(InputError, match=r"^scores: "):
                user.rerank(SOME, 20, scores)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="2 ids, 1 of them different"):
            user.score([3, 3])
        for odd in (None, 1.5, True, [3]):
            with pytest.raises(InputError, match="item id"):
                user.feedback(odd)  # type: ignore[arg-type]
        assert user.state.history == before

    def test_an_unknown_choice_changes_nothing_but_the_history(
        self, ranker: Reranker, start: Callable[[Reranker], User]
    ) -> None:
        user, plain = start(ranker), start(ranker).rerank(SOME, 20)
        user.feedback("nobody")
        assert user.rerank(SOME, 20) == plain
        assert user.history[-1] == "nobody"


def test_odd_scores_do_not_spoil_what_is_learned(ranker: Reranker) -> None:
    user = experienced(ranker)
    for scores in ([math.nan] * 20, [math.inf] * 10 + [0.0] * 10, [1e308] * 10 + [-1e308] * 10):
        ranked = user.rerank(SOME, 20, scores)
        user.feedback(ranked[4].item_id, ranking=ranked)
    assert all(np.isfinite(values).all() for values in user.state.learned.values())
    assert all(math.isfinite(item.score) for item in user.rerank(SOME, 20))


def test_a_state_of_another_bundle(
    ranker: Reranker, tmp_path: Path, make_content: Any, histories: Any
) -> None:
    """The history goes on, by id; vectors that mean nothing here do not."""
    other = tmp_path / "other.pocket"
    export_bundle(other, make_content(random_table(N_ITEMS, 24, 4, seed=9)), histories)
    place = tmp_path / "user.state"
    before = Reranker.load(other).user(place)
    before.observe(30, 41, 52)
    before.rerank(SOME)
    before.feedback(7)
    before.save()
    moved, afresh = ranker.user(place), ranker.user()
    afresh.observe(30, 41, 52, 7)
    assert moved.history == [30, 41, 52, 7]
    assert moved.rerank(SOME, 20) == afresh.rerank(SOME, 20)
    moved.feedback(9)
    assert moved.save() > 0
    assert ranker.user(place).rerank(SOME, 20) == moved.rerank(SOME, 20)


def test_threads_give_what_one_gives(path: Path) -> None:
    """Users of one bundle, from its first use on, each in a thread of its own."""
    cold, alone = Reranker.load(path), Reranker.load(path)

    def life(ranker: Reranker, seed: int) -> list[Any]:
        rng, user = np.random.default_rng(seed), ranker.user()
        told: list[Any] = []
        for _ in range(6):
            ranked = user.rerank((rng.permutation(N_ITEMS)[:30] + 1).tolist(), 10)
            user.feedback(ranked[int(rng.integers(10))].item_id)
            told += [list(ranked), list(user.recommend(5))]
        return told

    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda seed: life(cold, seed), range(6)))
    assert together == [life(alone, seed) for seed in range(6)]
