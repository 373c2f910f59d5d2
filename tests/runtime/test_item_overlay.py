"""Items that the bundle was not made with, once their vectors are known, are items like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pocketrec.runtime import InputError, RankOptions, Reranker

ITEMS = list(range(1, 51))


@pytest.fixture(params=["tiny-range.pocket", "tiny-taste.pocket"])
def ranker(request: pytest.FixtureRequest, range_bundle: Path) -> Reranker:
    return Reranker.load(range_bundle.parent / request.param)


@pytest.fixture
def vectors(ranker: Reranker) -> np.ndarray:
    """Two new items: a copy of item 7, and something else."""
    copy = ranker.engine.table.lookup(np.array([6]))[0]
    return np.stack([copy, np.random.default_rng(0).standard_normal(len(copy)).astype(np.float32)])


def ids_of(ranked: list) -> list:
    return [item.item_id for item in ranked]


def test_they_are_ranked_by_their_vector(ranker: Reranker, vectors: np.ndarray) -> None:
    user = ranker.user()
    user.observe(4, 42)
    plain = user.rerank([*ITEMS, "new"], 51)
    assert plain.unknown == {"new"}
    ranker.add_items(["new", "newer"], vectors)
    ranked = user.rerank([*ITEMS, "new", "newer", "nobody"], 53)
    assert ranked.unknown == {"nobody"}
    scores = {item.item_id: item.score for item in ranked}
    assert scores["new"] == pytest.approx(scores[7], rel=1e-5)
    expected = float(vectors[1] @ user._model.user_vector("catalogue"))
    assert scores["newer"] == pytest.approx(expected, rel=1e-5)
    assert [i for i in ids_of(ranked) if isinstance(i, int)] == ids_of(plain[:50])


def test_they_are_recommended_and_learned_from(ranker: Reranker, vectors: np.ndarray) -> None:
    ranker.add_items(["new", "newer"], vectors)
    user = ranker.user()
    for _ in range(25):
        user.rerank([*ITEMS, "new", "newer"])
        user.feedback("newer")
    assert user.history == ["newer"] * 25
    assert "newer" in ids_of(user.recommend(5, exclude_seen=False))
    assert "newer" not in ids_of(user.recommend(60))
    options = RankOptions(first=["new"], mmr=0.1, explain=True)
    ranked = user.recommend(5, exclude_seen=False, options=options)
    assert ranked[0].item_id == "new"
    assert ranked.reasons is not None
    for item, shares in zip(ranked, ranked.reasons, strict=True):
        assert sum(shares.values()) == pytest.approx(item.score, rel=1e-4, abs=1e-4)


def test_a_choice_from_the_catalogue(ranker: Reranker, vectors: np.ndarray) -> None:
    ranker.add_items(["new"], vectors[:1])
    user = ranker.user()
    user.recommend()
    user.feedback("new")
    assert user._model.mixture.n_events == 1
    assert len(user.recommend(60)) == 50


def test_a_user_that_is_restored_knows_them_again(
    ranker: Reranker, vectors: np.ndarray, tmp_path: Path
) -> None:
    ranker.add_items(["new"], vectors[:1])
    user = ranker.user(tmp_path / "state.bin")
    user.feedback("new")
    user.save()
    again = ranker.user(tmp_path / "state.bin")
    assert again.rerank([*ITEMS, "new"], 51) == user.rerank([*ITEMS, "new"], 51)
    assert list(again._model.history.rows) == [50]


def test_another_vector_for_the_same_item(ranker: Reranker, vectors: np.ndarray) -> None:
    ranker.add_items(["new"], vectors[1:])
    ranker.add_items(["newer", "new"], vectors[[1, 0]])
    scores = {item.item_id: item.score for item in ranker.user().rerank([7, "new", "newer"])}
    assert scores["new"] == pytest.approx(scores[7], rel=1e-5)


@pytest.mark.parametrize(
    ("ids", "shape", "text"),
    [
        ([3], (1, 16), "the bundle has 3 already"),
        (["a"], (1, 5), r"vectors of shape \(1, 5\) for 1 ids, expected \(1, 16\)"),
        (["a", "b"], (1, 16), r"vectors of shape \(1, 16\) for 2 ids"),
        ([None], (1, 16), "expected an integer or a string"),
    ],
)
def test_what_is_refused(ranker: Reranker, ids: list, shape: tuple[int, int], text: str) -> None:
    with pytest.raises(InputError, match=text):
        ranker.add_items(ids, np.zeros(shape, np.float32))
    with pytest.raises(InputError, match="finite"):
        ranker.add_items(["a"], np.full((1, 16), np.nan, np.float32))
