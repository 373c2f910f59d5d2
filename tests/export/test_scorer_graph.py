"""The catalogue's scorer against the candidates' scorer, which reads the same rows with numpy."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.export.scorer_graph import scorer_graph, scoring_block, scoring_error
from pocketrec.runtime.item_table import QuantizedRows

from .conftest import random_table

WIDTHS = (5, 16, 24, 48, 64, 100)


def rounding(table: QuantizedRows, users: np.ndarray, block: int) -> np.ndarray:
    """The most that rounding a user's vector can do, number by number: float32 (B, N).

    `accuracy_level` 4 rounds each block of it to 127ths of the block's largest value, so each number moves by half of
    one at most, and a score by that times the row's number.
    """
    half_step = np.zeros_like(users)
    for start in range(0, users.shape[1], block):
        largest = np.abs(users[:, start : start + block]).max(axis=1, keepdims=True)
        half_step[:, start : start + block] = largest / 127 / 2
    return half_step @ np.abs(table.lookup(np.arange(table.n_items))).T


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("width", WIDTHS)
def test_quantized_tables_agree_within_the_rounding_of_users(make_engine, width: int, bits: int) -> None:
    """And sums in float32, which 1e-5 of the largest score allows for."""
    engine = make_engine(random_table(60, width, bits))
    users = np.random.default_rng(1).standard_normal((3, width)).astype(np.float32)
    users[2, 0] *= 30  # one large number: its whole block is rounded more coarsely
    everything = np.broadcast_to(np.arange(60), (3, 60))
    expected = engine.table.score(users, everything)
    allowed = rounding(engine.table, users, engine.manifest["item_table"]["block"])
    for some in (slice(0, 3), slice(0, 1), slice(2, 3)):  # of one user, onnxruntime has another kernel
        difference = np.abs(engine.score_all(users[some]) - expected[some])
        assert (difference <= allowed[some] + 1e-5 * np.abs(expected).max()).all()
    assert np.corrcoef(engine.score_all(users[:1])[0], expected[0])[0, 1] > 0.999


@pytest.mark.parametrize("bits", [2, 3, 4, 8, None])
@pytest.mark.parametrize("width", [16, 48, 100])
def test_the_engine_knows_how_far_its_graph_may_be_off(make_engine, width: int, bits: int | None) -> None:
    """No less than that, or items would be missed; and not much more, or too many would be scored again."""
    engine = make_engine(random_table(3000, width, bits))
    users = np.random.default_rng(1).standard_normal((4, width)).astype(np.float32)
    users[3, 0] *= 30
    for user in users:
        exact = engine.score(user[None], np.arange(3000)[None])[0]
        error = np.abs(engine.score_all(user[None])[0] - exact).max()
        if bits is None:
            assert engine.rounding(user) == 0.0
        else:
            largest = scoring_error(engine.table, user, np.arange(3000)).max()
            assert error <= engine.rounding(user) <= 2 * largest
            assert error > largest / 50


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_best_are_those_of_exhaustive_exact_scores(make_engine, bits: int) -> None:
    """Whole numbers, so that sums are the same in any order; rows come again and again, so that scores tie."""
    table = random_table(200, 32, bits)
    again = np.random.default_rng(0).integers(0, 200, 3000)
    table = QuantizedRows(
        codes=table.codes[again], scales=np.ones(3000, np.float16), scale_unit=1.0, bits=bits, width=32
    )
    engine = make_engine(table)
    user = np.random.default_rng(1).integers(-50, 51, 32).astype(np.float32)
    user[0] = 333.0  # not on the grid of 127ths
    exact = engine.score(user[None], np.arange(3000)[None])[0]
    assert not np.array_equal(engine.score_all(user[None])[0], exact)
    history = np.argsort(-exact, kind="stable")[:60:2]
    for k in (1, 30, 2999, 10_000):
        rows, scores = engine.top_k(user, k)
        assert rows.tolist() == np.argsort(-exact, kind="stable")[:k].tolist()
        np.testing.assert_array_equal(scores, exact[rows])
        left = np.where(np.isin(np.arange(3000), history), -np.inf, exact)
        rows, _ = engine.top_k(user, k, history)
        assert rows.tolist() == np.argsort(-left, kind="stable")[: min(k, 3000 - len(history))].tolist()


@pytest.mark.parametrize("width", WIDTHS)
def test_float_tables_agree(make_engine, width: int) -> None:
    """float32 sums in another order."""
    engine = make_engine(random_table(60, width, None))
    users = np.random.default_rng(1).standard_normal((3, width)).astype(np.float32)
    everything = np.broadcast_to(np.arange(60), (3, 60))
    np.testing.assert_allclose(
        engine.score_all(users), engine.table.score(users, everything), rtol=0, atol=2e-5
    )


@pytest.mark.parametrize("bits", [2, 3, 4, 8, None])
@pytest.mark.parametrize("n_items", [1, 2, 17])
def test_catalogues_of_few_items(make_engine, n_items: int, bits: int | None) -> None:
    engine = make_engine(random_table(n_items, 5, bits))
    assert engine.score_all(np.ones((2, 5), np.float32)).shape == (2, n_items)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_a_user_on_the_grid_is_scored_exactly(make_engine, bits: int) -> None:
    """Whole numbers with a 127 in each block lose nothing: so the levels of the codes are right, not just near."""
    engine = make_engine(random_table(60, 24, bits))
    users = np.random.default_rng(1).integers(-127, 128, (2, 24)).astype(np.float32)
    users[:, 3] = 127
    expected = engine.table.score(users, np.broadcast_to(np.arange(60), (2, 60)))
    np.testing.assert_allclose(engine.score_all(users), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("bits", [3, 8])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_error_that_is_allowed_for_is_that_of_rounding(width: int, bits: int) -> None:
    table = random_table(60, width, bits)
    users = np.random.default_rng(1).standard_normal((1, width)).astype(np.float32)
    rows = np.array([7, 7, 0, 59])
    expected = rounding(table, users, scoring_block(width))[0, rows]
    np.testing.assert_allclose(scoring_error(table, users[0], rows), expected, rtol=1e-5)
    assert not scoring_error(random_table(60, width, None), users[0], rows).any()


@pytest.mark.parametrize(
    ("width", "block"),
    [
        (1, 16),
        (5, 16),
        (16, 16),
        (24, 32),
        (32, 32),
        (48, 16),
        (64, 64),
        (96, 32),
        (100, 16),
        (256, 256),
        (512, 256),
    ],
)
def test_the_largest_block_that_divides_the_stored_width(width: int, block: int) -> None:
    assert scoring_block(width) == block


@pytest.mark.parametrize("bits", [2, 3, 4, 8, None])
def test_the_graph_holds_no_weights(bits: int | None) -> None:
    model = scorer_graph(random_table(5000, 64, bits))
    assert model.ByteSize() < 1000
    if bits is not None:
        (product,) = [node for node in model.graph.node if node.op_type == "MatMulNBits"]
        attributes = {attribute.name: attribute.i for attribute in product.attribute}
        assert attributes["accuracy_level"] == 4  # without it the operator is tens of times slower
        assert attributes["bits"] == (8 if bits == 8 else 4)
        assert attributes["N"] == 5000
