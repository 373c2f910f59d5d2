"""Tables of tiers and of codebooks through the engine: the catalogue's scores are the candidates', within rounding."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.export.scorer_graph import scoring_error
from pocketrec.runtime.codebook_rows import CodebookRows, pack_codebooks, slice_width
from pocketrec.runtime.item_spaces import UNPACKED_BYTES
from pocketrec.runtime.item_table import ItemTable
from pocketrec.runtime.reranker import Reranker
from pocketrec.runtime.tiered_rows import TieredRows

from .conftest import random_table

WIDTHS = (5, 16, 50)


def codebooks(n_items: int, width: int) -> CodebookRows:
    random = np.random.default_rng(width)
    entries = random.standard_normal((4, 200, slice_width(width, 4))).astype(np.float32)
    codes = random.integers(0, 200, (n_items, 4)).astype(np.uint8)
    return pack_codebooks(codes, entries, width=width, entry_bits=4)


def tables(width: int) -> dict[str, ItemTable]:
    tier_of = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [7, 20, 33])).astype(np.uint8)
    few, some, many = random_table(7, width, 4), random_table(20, width, 2), codebooks(33, width)
    wide = random_table(40, width, 3)
    assert not isinstance(few, TieredRows)
    return {
        "codebooks": codebooks(60, width),
        "three tiers": TieredRows(tiers=(few, some, many), tier_of=tier_of),  # type: ignore[arg-type]
        "quantized tiers": TieredRows(tiers=(some, wide), tier_of=(tier_of != 1).astype(np.uint8)),  # type: ignore[arg-type]
        "tier by tier": TieredRows(tiers=(random_table(7, width, 8), some, many), tier_of=tier_of),  # type: ignore[arg-type]
        "8 bits": TieredRows(
            tiers=(random_table(20, width, 8), wide),  # type: ignore[arg-type]
            tier_of=(tier_of != 1).astype(np.uint8),
        ),
        "codebooks behind one": TieredRows(
            tiers=(some, codebooks(40, width)), tier_of=(tier_of != 1).astype(np.uint8)
        ),  # type: ignore[arg-type]
    }


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", list(tables(5)))
def test_the_catalogue_agrees_with_its_candidates(make_engine, name: str, width: int) -> None:
    """Quantized tiers within the rounding of the user's vector, codebooks within sums of float32."""
    engine = make_engine(tables(width)[name])
    users = np.random.default_rng(1).standard_normal((3, width)).astype(np.float32)
    everything = np.broadcast_to(np.arange(60), (3, 60))
    expected = engine.score(users, everything)
    for some in (slice(0, 3), slice(0, 1)):
        scores = engine.score_all(users[some])
        for user, got, wanted in zip(users[some], scores, expected[some], strict=True):
            allowed = scoring_error(engine.table, user, np.arange(60)) + 1e-5 * np.abs(expected).max()
            assert (np.abs(got - wanted) <= allowed).all()
        assert scores.flags.writeable
    rows, scores = engine.top_k(users[0], 5, exclude=np.arange(30))
    assert rows.min() >= 30
    np.testing.assert_allclose(scores, expected[0, rows], rtol=1e-5)


def test_codebooks_alone_have_no_graph_of_the_catalogue(make_engine) -> None:
    assert "scorer.onnx" not in make_engine(codebooks(60, 16)).bundle
    assert "scorer.onnx" in make_engine(tables(16)["three tiers"]).bundle


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", list(tables(5)))
def test_unpacked_vectors_score_as_packed_rows_do(make_engine, name: str, width: int) -> None:
    """To the last bit, also where a space of taste stands beside the model's."""
    engine = make_engine(tables(width)[name])
    user, rows = np.random.default_rng(2).standard_normal(width).astype(np.float32), np.arange(60)[::-1]
    rankers = [Reranker(engine, unpacked_bytes=n_bytes) for n_bytes in (0, UNPACKED_BYTES, UNPACKED_BYTES)]
    rankers[2].tables = (engine.table, random_table(60, 8, 4))
    assert [ranker.spaces.catalogue is None for ranker in rankers] == [True, False, False]
    history = np.array([[3, 59, 3, 0]])
    encoded = engine.encode(history)
    for ranker in rankers:
        vectors = ranker.gather_known(rows).vectors
        assert vectors.shape == (60, width + (8 if ranker is rankers[2] else 0))
        assert (engine.unpacked is None) == (ranker is rankers[0])
        np.testing.assert_array_equal(engine.encode(history), encoded)
        np.testing.assert_array_equal(
            ranker.score_by_model(user, rows), engine.score(user[None], rows[None])[0]
        )
        found, scores = ranker.top_k(user, 5, np.arange(30))
        expected, wanted = engine.top_k(user, 5, np.arange(30))
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_allclose(scores, wanted, rtol=1e-5)
