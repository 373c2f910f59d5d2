"""The text tower on a bundle with a hand-made tokenizer of six words; whoever lacks `tokenizers` skips what needs it."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketrec.runtime import Bundle, BundleError, InputError, Reranker
from pocketrec.runtime.bundle import write_bundle
from pocketrec.runtime.errors import MissingExtraError
from pocketrec.runtime.item_table import quantize_rows
from pocketrec.runtime.text_tokens import Tokens, clean_text
from pocketrec.runtime.text_tower import BagTower, bag_rows, read_text_tower

needs_tokenizers = pytest.mark.skipif(
    find_spec("tokenizers") is None, reason="the extra `embed` (tokenizers) is not installed"
)
WORDS = ("[UNK]", "red", "blue", "ball", "##s", "puzzle")
MAX_TOKENS = 4


def tokenizer_json() -> bytes:
    """A lower-casing WordPiece tokenizer of `WORDS`."""
    said = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {word: n for n, word in enumerate(WORDS)},
        },
    }
    return json.dumps(said).encode()


def bag_text(width: int, *, pairs: int = 0, inner: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest's `text` and the parts of a random bag."""
    random = np.random.default_rng(0)
    table = quantize_rows(random.standard_normal((len(WORDS) + pairs, width)), 8)
    described = {
        "form": "bag", "tokens": len(WORDS), "pairs": pairs, "inner": inner, "bits": 8,
        "scale_unit": table.scale_unit, "max_tokens": MAX_TOKENS,
    }  # fmt: skip
    parts: dict[str, Any] = {
        "tokenizer.json": tokenizer_json(),
        "token_codes": table.codes,
        "token_scales": table.scales,
        "token_weights": random.standard_normal(len(WORDS) + pairs).astype(np.float16),
    }
    if inner:
        parts["text_head"] = random.standard_normal(2 * width * inner + inner + width).astype(np.float16)
    return described, parts


def with_text(source: Path, target: Path, described: dict[str, Any], parts: dict[str, Any]) -> Path:
    """The bundle at `source` with a text tower, at `target`."""
    bundle = Bundle.open(source)
    kept = {part["name"]: bundle.part(part["name"]) for part in bundle.manifest["parts"]}
    said = {k: v for k, v in bundle.manifest.items() if k not in ("parts", "format_version")}
    write_bundle(target, {**said, "text": described}, {**kept, **parts}, overwrite=True)
    return target


@pytest.fixture(params=[(0, 0), (8, 6)], ids=["tokens", "pairs and head"])
def bag_path(request: pytest.FixtureRequest, range_bundle: Path, tmp_path: Path) -> Path:
    width = Bundle.open(range_bundle).manifest["item_table"]["width"]
    pairs, inner = request.param
    described, parts = bag_text(width, pairs=pairs, inner=inner)
    return with_text(range_bundle, tmp_path / "text.pocket", described, parts)


@needs_tokenizers
def test_a_title_is_the_weighted_sum_of_its_tokens_and_what_the_head_adds(bag_path: Path) -> None:
    tower = read_text_tower(Bundle.open(bag_path))
    assert isinstance(tower, BagTower)
    rows = [1, 3, 4]  # red ball ##s
    if tower.pairs:
        rows += [len(WORDS) + (a * 31_337 + b * 7_919) % tower.pairs for a, b in ((1, 3), (3, 4))]
    shares = np.exp(tower.weights[rows])
    expected = (shares / shares.sum()) @ tower.table.lookup(np.array(rows))
    if tower.head:
        w_1, b_1, w_2, b_2 = tower.head
        expected = expected + np.maximum(expected @ w_1 + b_1, 0) @ w_2 + b_2
    np.testing.assert_allclose(tower.embed(["Red BALLS"])[0], expected, rtol=1e-4, atol=1e-5)  # float32 sums


@needs_tokenizers
def test_odd_titles_have_a_vector(bag_path: Path) -> None:
    tower = read_text_tower(Bundle.open(bag_path))
    assert tower is not None
    odd = ["", "   ", "\x00\x07", "\ud800 red", "\U0001f3b2", "x" * 100_000, "red " * 1000, "\u202ered\u202c"]
    vectors = tower.embed(odd)
    assert len(vectors) == len(odd)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    unknown = tower.embed(["zzz"])[0]
    np.testing.assert_allclose(vectors[0], unknown, rtol=1e-5)  # no token is as good as an unknown one
    assert tower.embed([]).shape[0] == 0


@needs_tokenizers
def test_titles_are_embedded_alike_alone_and_together(bag_path: Path) -> None:
    tower = read_text_tower(Bundle.open(bag_path))
    assert tower is not None
    titles = ["red ball", "blue puzzle balls", "puzzle"]
    together = tower.embed(titles)
    for title, vector in zip(titles, together, strict=True):
        np.testing.assert_allclose(
            tower.embed([title])[0], vector, rtol=1e-5
        )  # the head's product of one or of three


@needs_tokenizers
def test_a_new_item_is_ranked_by_its_title(bag_path: Path) -> None:
    ranker = Reranker.load(bag_path)
    ranker.add_titles({1000: "red ball", 1001: "blue puzzle"})
    user = ranker.user()
    user.observe(3, 7)
    ranked = user.rerank([1, 1000, 2, 1001], k=4)
    assert {item.item_id for item in ranked} == {1, 2, 1000, 1001}
    assert all(np.isfinite(item.score) for item in ranked)
    vector = ranker.embed(["red ball"])[0]
    by_vector = Reranker.load(bag_path)
    by_vector.add_items([1000], vector[None])
    other = by_vector.user()
    other.observe(3, 7)
    scores = {item.item_id: item.score for item in ranked}
    for item in other.rerank([1, 1000, 2], k=3):
        assert item.score == pytest.approx(scores[item.item_id], rel=1e-5)  # one title or two in a product
    assert scores[1000] != scores[1001]


def test_a_bundle_without_a_tower_says_so(range_bundle: Path) -> None:
    assert read_text_tower(Bundle.open(range_bundle)) is None
    with pytest.raises(InputError, match="has no text tower"):
        Reranker.load(range_bundle).embed(["red"])


def test_without_tokenizers_the_extra_is_named(bag_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"embedding a text needs the extra `embed`"):
        Reranker.load(bag_path).embed(["red"])


@needs_tokenizers
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"form": "oracle"}, "form 'oracle'"),
        ({"tokens": 7}, "tokenizer of 6 tokens for 7 rows"),
        ({"tokens": None}, "tokens None"),
        ({"max_tokens": 0}, "max_tokens 0"),
        ({"pairs": -1}, "pairs -1"),
        ({"bits": 4}, "part 'token_codes'"),
        ({"inner": 9}, "text_head"),
    ],
)
def test_a_tower_that_does_not_fit_is_refused(
    change: dict[str, Any], message: str, range_bundle: Path, tmp_path: Path
) -> None:
    described, parts = bag_text(Bundle.open(range_bundle).manifest["item_table"]["width"])
    path = with_text(range_bundle, tmp_path / "odd.pocket", {**described, **change}, parts)
    with pytest.raises(BundleError, match=message):
        read_text_tower(Bundle.open(path))


@needs_tokenizers
@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff\xfe", b'{"version": "1.0", "model": {"type": "Code"}}'])
def test_a_damaged_tokenizer_is_refused(raw: bytes) -> None:
    with pytest.raises(BundleError, match=r"tokenizer\.json cannot be read"):
        Tokens(raw, max_tokens=4, where="some.pocket", special=False)


@needs_tokenizers
def test_a_title_that_is_no_string_is_refused(bag_path: Path) -> None:
    with pytest.raises(InputError, match="of type int: expected a string"):
        Reranker.load(bag_path).embed(["red", 7])  # type: ignore[list-item]


def test_texts_are_cleaned() -> None:
    assert clean_text(" Episode  I &amp; II\t\n") == "Episode I & II"


def test_rows_of_a_bag() -> None:
    assert bag_rows([], 6, 8).tolist() == [0]
    assert bag_rows([2], 6, 8).tolist() == [2]
    assert all(6 <= row < 14 for row in bag_rows([1, 2, 3], 6, 8)[3:])
