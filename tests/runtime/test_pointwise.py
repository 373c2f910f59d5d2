"""Ranking with features: what torch computed, what is missing or unknown, and histories that grow."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketrec.runtime import Engine, InputError, Reranker
from pocketrec.runtime.bundle import Bundle, write_bundle
from pocketrec.runtime.errors import BundleError
from pocketrec.runtime.pointwise import PointwiseRanker
from pocketrec.runtime.pointwise_engine import PointwiseEngine

DATA = Path(__file__).parent / "data"
DEEPFM, DIN = DATA / "tiny-deepfm.pocket", DATA / "tiny-din.pocket"
ITEMS = [f"item-{n:02}" for n in range(1, 13)]
# Logits were written with 6 digits; both sides sum in float32.
TOLERANCE = 2e-5


def sigmoid(logits: Any) -> Any:
    return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


@pytest.fixture(scope="module")
def deepfm() -> PointwiseRanker:
    return PointwiseRanker.load(DEEPFM)


@pytest.fixture(scope="module")
def din() -> PointwiseRanker:
    return PointwiseRanker.load(DIN)


@pytest.mark.parametrize("path", [DEEPFM, DIN], ids=["deepfm", "din"])
def test_what_torch_computed(path: Path) -> None:
    recorded = json.loads(path.with_suffix(".json").read_text())
    scores = PointwiseRanker.load(path).score(recorded["rows"])
    np.testing.assert_allclose(scores, sigmoid(recorded["logits"]), rtol=0, atol=TOLERANCE)
    assert len({round(score, 4) for score in scores.tolist()}) > 12


def test_a_ranking_is_the_scores_in_order(deepfm: PointwiseRanker) -> None:
    user, context = {"user_id": 103, "age": 44}, {"hour": "noon"}
    ranking = deepfm.rerank(ITEMS, user=user, context=context)
    scores = deepfm.score([{**user, **context, "item_id": item} for item in ITEMS])
    assert [item.item_id for item in ranking] == [ITEMS[n] for n in np.argsort(-scores, kind="stable")]
    np.testing.assert_allclose(sigmoid([item.score for item in ranking]), np.sort(scores)[::-1], atol=1e-6)
    assert deepfm.rerank(ITEMS, user=user, context=context, k=3) == ranking[:3]
    assert deepfm.rerank([], user=user) == []


def test_each_candidate_is_scored_alone(deepfm: PointwiseRanker) -> None:
    together = {item.item_id: item.score for item in deepfm.rerank(ITEMS, user={"user_id": 101})}
    for item in ITEMS[:3]:
        assert deepfm.rerank([item], user={"user_id": 101})[0].score == pytest.approx(
            together[item], abs=1e-5
        )


def test_a_text_number_is_the_number_it_says(deepfm: PointwiseRanker) -> None:
    by_number = deepfm.rerank(ITEMS, user={"user_id": 104})
    assert deepfm.rerank(ITEMS, user={"user_id": "104"}) == by_number
    assert deepfm.rerank(ITEMS, user={"user_id": "0104"}) != by_number


def test_unknown_and_missing_features(deepfm: PointwiseRanker) -> None:
    nobody = deepfm.rerank(ITEMS)
    assert deepfm.rerank(ITEMS, user={"user_id": 999, "age": None}, context={"hour": "dawn"}) == nobody
    assert deepfm.rerank(ITEMS, user={"age": 10.0}) == nobody  # the low end of the range adds nothing
    assert deepfm.rerank(ITEMS, user={"age": float("nan")}) == nobody
    assert deepfm.rerank(ITEMS, user={"age": 50.0}) != nobody
    ranking = deepfm.rerank(["item-99", *ITEMS])
    assert ranking.unknown == {"item-99"}
    assert np.isfinite([item.score for item in ranking]).all()


def test_features_given_of_an_item_count_before_the_bundles(deepfm: PointwiseRanker) -> None:
    known, bare = deepfm.score([{"item_id": "item-03"}, {"item_id": "item-03", "genres": [], "price": 2.0}])
    assert known != bare
    engine = deepfm.engine
    assert engine.item_features is not None
    genres = [["comedy", "war", "drama"][row - 1] for row in engine.item_features.columns["genres"][3] if row]
    price = 4.0 * float(engine.item_features.columns["price"][3])
    assert len(genres) == 3
    given = deepfm.score([{"item_id": "item-03", "genres": genres, "price": price}])[0]
    assert given == pytest.approx(known, abs=1e-6)
    reversed_ = deepfm.score([{"item_id": "item-03", "genres": genres[::-1], "price": price}])[0]
    assert reversed_ == pytest.approx(known, abs=1e-6)  # a mean has no order


def test_candidates_that_are_mappings(deepfm: PointwiseRanker) -> None:
    ranking = deepfm.rerank([{"genres": ["war"]}, {"item_id": "item-02", "hour": "night"}, "item-04"])
    assert {item.item_id for item in ranking} == {0, "item-02", "item-04"}
    night = deepfm.score([{"item_id": "item-02", "hour": "night"}])[0]
    found = next(item.score for item in ranking if item.item_id == "item-02")
    assert sigmoid(found) == pytest.approx(night, abs=1e-6)
    assert [item.item_id for item in deepfm.rerank(["item-04", "item-04"])] == ["item-04"]


def test_a_catalogue_is_scored_in_parts(deepfm: PointwiseRanker, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = deepfm.rerank(ITEMS, user={"user_id": 102})
    monkeypatch.setattr("pocketrec.runtime.pointwise_engine.MAX_BATCH", 5)
    parts = deepfm.rerank(ITEMS, user={"user_id": 102})
    assert parts.item_ids() == whole.item_ids()
    np.testing.assert_allclose([i.score for i in parts], [i.score for i in whole], atol=1e-6)


def test_feedback_is_learned_through_the_history(din: PointwiseRanker, tmp_path: Path) -> None:
    user = din.user(state=tmp_path / "state.bin")
    before = user.rerank(range(1, 21))
    user.feedback(7)
    after = user.rerank(range(1, 21))
    assert {item.item_id: item.score for item in after} != {item.item_id: item.score for item in before}
    expected = din.rerank(range(1, 21), user={"item_id_list": [7]})
    assert after == expected
    user.feedback(expected[0].item_id, clicked=False)
    assert user.rerank(range(1, 21)).item_ids()[-1] == expected[0].item_id
    user.save()
    assert din.user(state=tmp_path / "state.bin").history == [7]
    assert din.user(state=tmp_path / "state.bin").rerank([3, 4]) == user.rerank([3, 4])


def test_the_last_items_of_a_long_history_count(din: PointwiseRanker) -> None:
    long = din.rerank(range(1, 21), user={"item_id_list": [9, 9, 9, 1, 2, 3, 4, 5]})
    assert long == din.rerank(range(1, 21), user={"item_id_list": [1, 2, 3, 4, 5]})
    unknown = din.rerank(range(1, 21), user={"item_id_list": [1, 99, 2, 3, 4, 5]})
    assert unknown == din.rerank(range(1, 21), user={"item_id_list": [1, 2, 3, 4, 5]})


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda r: r.rerank(ITEMS, user={"aeg": 3}), "did you mean 'age'"),
        (lambda r: r.rerank(ITEMS, user={"age": "old"}), "feature 'age': got 'old', expected a number"),
        (lambda r: r.rerank([{"genres": "war"}]), "feature 'genres': got 'war', expected a list of tokens"),
        (lambda r: r.rerank(ITEMS, user={"user_id": [1]}), "expected a string, an integer or None"),
        (lambda r: r.rerank([1.5]), "expected an integer or a string"),
        (lambda r: r.rerank("item-01"), "got 'item-01', expected a list"),
        (lambda r: r.rerank(None), "got None, expected a list"),
        (lambda r: r.user().rerank({"item_id": 3}), "got one mapping, expected a list"),
        (lambda r: r.rerank(ITEMS, k=0), "k: got 0, expected at least 1"),
        (lambda r: r.score(["item-01"]), "expected mappings"),
        (lambda r: r.user().save(), "no place to save to"),
    ],
)
def test_bad_input_is_one_line(deepfm: PointwiseRanker, ask: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        ask(deepfm)
    assert "\n" not in str(caught.value)


def test_each_class_names_the_other() -> None:
    for load in (Engine.load, Reranker.load):
        with pytest.raises(BundleError, match=r"a pointwise model.*load it with.*PointwiseRanker"):
            load(DEEPFM)
    with pytest.raises(BundleError, match=r"family 'sequence'.*load it with.*Reranker"):
        PointwiseEngine.load(DATA / "tiny-range.pocket")


def changed(name: str, value: Any) -> Any:
    def change(manifest: dict[str, Any], parts: dict[str, Any]) -> None:
        *path, last = name.split("/")
        inside: Any = manifest
        for key in path:
            inside = inside[int(key) if key.isdecimal() else key]
        inside[last] = value

    return change


def part(name: str, value: bytes) -> Any:
    def change(manifest: dict[str, Any], parts: dict[str, Any]) -> None:
        parts[name] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        changed("features", None),
        changed("features", {"label": "click", "fields": []}),
        changed("features/fields/0/size", 9),
        changed("features/fields/0/kind", "float"),
        changed("features/item", "age"),
        changed("field_tables", None),
        changed("field_tables/lookups", [["user_id", "item_id"]]),
        changed("field_tables/groups/0/bits", "many"),
        changed("field_tables/groups/0/width", -7),
        changed("field_tables/groups/0/sizes", [1, 2]),
        changed("field_tables/groups/0/format", "codes"),
        changed("vocabularies", {"text_bytes": 1 << 40, "shared": {}}),
        changed("vocabularies/text_bytes", 17),
        changed("item_features/bytes", 10**9),
        part("vocabularies", b"not deflated"),
        part("item_features", b""),
        part("scorer.onnx", b"no graph"),
        part("scorer.onnx", zlib.compress(b"no graph")),
        changed("network/bytes", 1 << 40),
    ],
)
def test_a_broken_bundle_is_one_line(tmp_path: Path, change: Any) -> None:
    bundle = Bundle.open(DEEPFM)
    manifest = json.loads(json.dumps(bundle.manifest))
    parts = {entry["name"]: bundle.part(entry["name"]).tobytes() for entry in manifest.pop("parts")}
    del manifest["format_version"]
    change(manifest, parts)
    path = tmp_path / "broken.pocket"
    write_bundle(path, manifest, parts)
    with pytest.raises(BundleError) as caught:
        PointwiseRanker.load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value).split("refuses part")[0]
