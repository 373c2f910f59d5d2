"""Item-item weights: scored as the matrix that they stand for, ranked and fed back to as any other bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketrec.runtime import BundleError, Engine, InputError, Reranker
from pocketrec.runtime.bundle import write_bundle
from pocketrec.runtime.item_ids import ItemIds
from pocketrec.runtime.item_table import FloatRows, quantize_rows
from pocketrec.runtime.neighbors import Neighbors, row_dtype
from pocketrec.runtime.rank_options import Explore, RankOptions

N_ITEMS, COUNT = 40, 6


def random_neighbors(
    bits: int | None, count: int = COUNT, seed: int = 0, *, shuffled: bool = True
) -> tuple[Neighbors, np.ndarray]:
    """Neighbours, and the whole matrix (item, neighbour) that they stand for."""
    generator = np.random.default_rng(seed)
    values = generator.standard_normal((N_ITEMS, count)).astype(np.float32)
    weights = FloatRows(values) if bits is None else quantize_rows(values, bits)
    dense = np.zeros((N_ITEMS, N_ITEMS), np.float32)
    if count == N_ITEMS:
        return Neighbors(None, weights), weights.lookup(np.arange(N_ITEMS))
    chosen = [generator.permutation(N_ITEMS)[:count] for _ in range(N_ITEMS)]
    rows = np.stack(chosen if shuffled else np.sort(chosen)).astype(row_dtype(N_ITEMS))
    np.put_along_axis(dense, rows.astype(np.int64), weights.lookup(np.arange(N_ITEMS)), axis=1)
    return Neighbors(rows, weights), dense


def written(path: Path, neighbors: Neighbors, **changes: Any) -> Path:
    ids = ItemIds.from_sequence([f"item-{n:02}" for n in range(N_ITEMS)])
    manifest = {
        "name": "tiny",
        "family": "item-item",
        "max_length": 8,
        "items": {"count": N_ITEMS, "ids": ids.describe()},
        "item_table": neighbors.weights.describe(),
    }
    prior = np.linspace(0, 1, N_ITEMS).astype(np.float16)
    parts = {**neighbors.parts(), "prior_user": prior, "item_ids": ids.to_bytes()} | changes
    write_bundle(path, manifest, {name: part for name, part in parts.items() if part is not None})
    return path


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., tuple[Engine, np.ndarray]]:
    def make(bits: int | None = 4, count: int = COUNT) -> tuple[Engine, np.ndarray]:
        neighbors, dense = random_neighbors(bits, count)
        return Engine.load(written(tmp_path / "tiny.pocket", neighbors)), dense

    return make


def ids(*rows: int) -> list[str]:
    return [f"item-{row:02}" for row in rows]


@pytest.mark.parametrize("bits", [None, 2, 3, 4, 8])
@pytest.mark.parametrize("count", [1, COUNT, N_ITEMS])
def test_scores_are_the_matrix_times_the_history(make: Any, bits: int | None, count: int) -> None:
    engine, dense = make(bits, count)
    histories = np.array([[3, 1, 7], [0, 39, 2]])
    users = engine.encode(histories)
    assert (users.shape, users.dtype) == ((2, N_ITEMS), np.float32)
    expected = np.stack([dense[:, history].sum(1) for history in histories])
    np.testing.assert_allclose(engine.score_all(users), expected, rtol=1e-5, atol=1e-5)
    rows = np.array([[5, 5, 0, 39], [1, 2, 3, 4]])
    np.testing.assert_allclose(
        engine.score(users, rows), np.take_along_axis(expected, rows, 1), rtol=1e-5, atol=1e-5
    )
    found, scores = engine.top_k(users[0], 5, exclude=histories[0])
    left = [row for row in np.argsort(-expected[0], kind="stable").tolist() if row not in histories[0]]
    assert found.tolist() == left[:5]
    np.testing.assert_allclose(scores, expected[0, left[:5]], rtol=1e-5, atol=1e-5)


def test_an_item_counts_once_and_only_the_last_events(make: Any) -> None:
    engine, _ = make()
    once, twice = engine.encode(np.array([[3, 5]])), engine.encode(np.array([[3, 5, 3]]))
    np.testing.assert_array_equal(once, twice)
    history = np.arange(20)[None]
    np.testing.assert_array_equal(engine.encode(history), engine.encode(history[:, -8:]))


def test_a_ranking_follows_the_history(make: Any, tmp_path: Path) -> None:
    engine, dense = make()
    ranker = Reranker(engine)
    user = ranker.user(tmp_path / "state.bin")
    candidates = list(range(10, 30))

    def expected(*history: int) -> list[str]:
        x = np.linspace(0, 1, N_ITEMS).astype(np.float16).astype(np.float32)
        if history:
            x = np.zeros(N_ITEMS, np.float32)
            x[list(history)] = 1
        scores = (dense @ x)[candidates]
        return ids(*(candidates[n] for n in np.argsort(-scores, kind="stable")))

    def ranked() -> list[str]:
        return [item.item_id for item in user.rerank(ids(*candidates), k=20)]

    assert ranked() == expected()
    user.observe(*ids(1, 2))
    assert ranked() == expected(1, 2)
    user.feedback("item-12")  # from the list that was just shown
    user.feedback("item-35")  # found elsewhere
    assert ranked() == expected(1, 2, 12, 35)
    user.feedback("item-20", clicked=False)
    assert ranked() == [i for i in expected(1, 2, 12, 35) if i != "item-20"] + ["item-20"]
    assert {"item-01", "item-20"}.isdisjoint(item.item_id for item in user.recommend(k=40))
    before = ranked()
    user.save()
    user = ranker.user(tmp_path / "state.bin")
    assert ranked() == before


def test_what_needs_no_vectors_works(make: Any) -> None:
    engine, _ = make()
    user = Reranker(engine).user()
    user.observe(*ids(1, 2))
    explained = user.rerank([*ids(4, 5), "unknown"], k=3, options=RankOptions(explain=True))
    assert [sum(reasons.values()) for reasons in explained.reasons] == pytest.approx(
        [item.score if np.isfinite(item.score) else 0.0 for item in explained]
    )
    by_server = user.rerank([*ids(4, 5, 6), "unknown"], k=4, scores=[0.0, 100.0, 1.0, 200.0])
    assert by_server[0].item_id == "unknown"
    assert {item.item_id for item in by_server} == {*ids(4, 5, 6), "unknown"}


@pytest.mark.parametrize(
    "options", [{"mmr": 0.5}, {"dpp": 0.5}, {"explore": Explore(policy="thompson", strength=1)}]
)
def test_what_needs_vectors_is_refused(make: Any, options: dict[str, Any]) -> None:
    engine, _ = make()
    ranker = Reranker(engine)
    with pytest.raises(InputError, match="need item vectors, and the bundle has item-item weights"):
        ranker.user().rerank(ids(4, 5), options=RankOptions(**options))
    with pytest.raises(InputError, match="no item vectors; nothing can be added"):
        ranker.add_items(["new"], np.zeros((1, 0), np.float32))
    with pytest.raises(InputError, match="items have no vectors to encode"):
        engine.encode_vectors(np.zeros((1, 2, 0), np.float32))


def test_bundles_that_contradict_themselves(tmp_path: Path) -> None:
    neighbors, _ = random_neighbors(4)
    assert neighbors.rows is not None
    beyond = neighbors.rows.copy()
    beyond[3, 2] = N_ITEMS
    with pytest.raises(BundleError, match="a neighbour in row 40 of 40 items"):
        Engine.load(written(tmp_path / "beyond.pocket", neighbors, neighbor_rows=beyond))
    with pytest.raises(BundleError, match="6 weights an item for 40 items and no part 'neighbor_rows'"):
        Engine.load(written(tmp_path / "without.pocket", neighbors, neighbor_rows=None))
    with pytest.raises(BundleError, match="part 'neighbor_rows' has 238 bytes"):
        Engine.load(
            written(tmp_path / "short.pocket", neighbors, neighbor_rows=neighbors.rows.ravel()[:-121])
        )


@pytest.mark.parametrize("count", [1, 3, 20, N_ITEMS - 1])
def test_neighbours_as_bits(tmp_path: Path, count: int) -> None:
    """What is smaller is written, and the same comes back."""
    neighbors, dense = random_neighbors(8, count, shuffled=False)
    parts = neighbors.parts()
    assert ("neighbor_bits" in parts) == (2 * count > 5)
    assert ("neighbor_rows" in parts) == (2 * count <= 5)
    engine = Engine.load(written(tmp_path / "tiny.pocket", neighbors))
    assert engine.neighbors is not None
    np.testing.assert_array_equal(engine.neighbors.rows, neighbors.rows)
    np.testing.assert_allclose(
        engine.score_all(engine.encode(np.array([[3, 1, 7]])))[0],
        dense[:, [3, 1, 7]].sum(1),
        rtol=1e-5,
        atol=1e-5,
    )
    assert "neighbor_rows" in random_neighbors(8, 20)[0].parts()  # not in the order of their rows


def test_bits_that_are_too_few(tmp_path: Path) -> None:
    neighbors, _ = random_neighbors(8, 20, shuffled=False)
    bits = neighbors.parts()["neighbor_bits"].copy()
    bits[5] = 0
    with pytest.raises(BundleError, match="items with other than 20 neighbours in part 'neighbor_bits'"):
        Engine.load(written(tmp_path / "tiny.pocket", neighbors, neighbor_bits=bits))


def test_rows_of_large_catalogues_are_wider() -> None:
    assert row_dtype(1 << 16) is np.uint16
    assert row_dtype((1 << 16) + 1) is np.uint32


def test_what_needs_no_vectors_can_be_asked_of_a_list(make: Any) -> None:
    engine, _ = make()
    user = Reranker(engine).user()
    user.observe(*ids(3, 1))
    categories = {item_id: item_id[-1] for item_id in ids(*range(N_ITEMS))}
    options = RankOptions(
        explore=Explore(policy="softmax", strength=1.0),
        max_per_category=1,
        calibration=0.3,
        categories=categories,
        unknown="prior",
        explain=True,
    )
    ranked = user.rerank([*ids(*range(N_ITEMS)), "new"], 11, options=options)
    assert len({categories.get(item.item_id, "new") for item in ranked}) == 11
    assert len(user.recommend(5, options=options)) == 5
