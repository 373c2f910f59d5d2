"""Quantized rows: exact for what they can hold, bounded for the rest, and the same for lookup and scoring."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.runtime.errors import BundleError, InputError
from pocketrec.runtime.item_table import (
    ROW_BITS,
    FloatRows,
    QuantizedRows,
    largest_level,
    padded_width,
    quantize_rows,
    row_bytes,
)

WIDTHS = (1, 7, 8, 15, 16, 17, 32, 50, 64)


def levels_of(bits: int) -> np.ndarray:
    top = largest_level(bits)
    return np.arange(-top, top + 1, 1 if bits in (4, 8) else 2)


@pytest.mark.parametrize("bits", ROW_BITS)
@pytest.mark.parametrize("width", WIDTHS)
def test_rows_of_levels_are_held_exactly(bits: int, width: int) -> None:
    rng = np.random.default_rng(width)
    rows = rng.choice(levels_of(bits), (30, width)).astype(np.float32)
    rows[:, 0] = largest_level(bits)  # so that the best scale is 1
    table = quantize_rows(rows, bits)
    np.testing.assert_allclose(table.lookup(np.arange(30)), rows, rtol=1e-3)  # the scale has 11 bits
    assert table.codes.shape == (30, row_bytes(width, bits)) == (30, padded_width(width) * bits // 8)


@pytest.mark.parametrize("bits", ROW_BITS)
@pytest.mark.parametrize("magnitude", [1e-20, 1.0, 1e20])
def test_the_error_is_at_most_a_step_whatever_the_magnitude(bits: int, magnitude: float) -> None:
    values = (np.random.default_rng(0).standard_normal((200, 32)) * magnitude).astype(np.float32)
    restored = quantize_rows(values, bits).lookup(np.arange(200))
    relative = np.sqrt(np.square(restored / magnitude - values / magnitude).mean())
    assert (
        relative < {2: 0.4, 3: 0.22, 4: 0.12, 8: 0.01}[bits]
    )  # optimal uniform quantizers of a Gaussian: .34 .19 .1 .007


@pytest.mark.parametrize("bits", ROW_BITS)
def test_more_bits_are_never_worse(bits: int) -> None:
    values = np.random.default_rng(1).standard_normal((100, 24)).astype(np.float32)
    errors = [
        np.square(quantize_rows(values, b).lookup(np.arange(100)) - values).mean() for b in sorted(ROW_BITS)
    ]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("bits", ROW_BITS)
@pytest.mark.parametrize("width", WIDTHS)
def test_scores_are_dot_products_of_what_is_looked_up(bits: int, width: int) -> None:
    rng = np.random.default_rng(width)
    table = quantize_rows(rng.standard_normal((40, width)), bits)
    users, rows = rng.standard_normal((3, width)).astype(np.float32), rng.integers(0, 40, (3, 11))
    expected = np.einsum("bcd,bd->bc", table.lookup(rows), users)
    np.testing.assert_allclose(
        table.score(users, rows), expected, rtol=1e-4, atol=1e-5
    )  # sums in another order


@pytest.mark.parametrize("bits", ROW_BITS)
def test_one_row_is_looked_up_as_among_many(bits: int) -> None:
    table = quantize_rows(np.random.default_rng(0).standard_normal((50, 20)), bits)
    many = table.lookup(np.arange(50))
    one = np.concatenate([table.lookup(np.array([row])) for row in range(50)])
    np.testing.assert_allclose(one, many, rtol=1e-6)  # the order of two products
    assert table.lookup(np.array([[3, 4], [5, 6]])).shape == (2, 2, 20)


@pytest.mark.parametrize("bits", ROW_BITS)
def test_the_scorers_codes_say_the_same(bits: int) -> None:
    """`MatMulNBits` reads value = scale * (code - 2 ** (bits - 1)), low half first."""
    table = quantize_rows(np.random.default_rng(0).standard_normal((20, 32)), bits)
    codes, stored, scales = table.scoring_codes()
    levels = (
        codes.astype(float) - 128
        if stored == 8
        else np.stack([codes & 15, codes >> 4], 2).reshape(20, -1) - 8.0
    )
    np.testing.assert_allclose(levels[:, :32] * scales[:, None], table.lookup(np.arange(20)), rtol=1e-6)
    assert stored == max(bits, 4)


@pytest.mark.parametrize("bits", ROW_BITS)
def test_rows_of_zeros_stay_finite(bits: int) -> None:
    values = np.zeros((4, 16), np.float32)
    values[1] = 1.0
    restored = quantize_rows(values, bits).lookup(np.arange(4))
    assert np.isfinite(restored).all()
    assert not restored[[0, 2, 3]].any()
    assert not quantize_rows(np.zeros((3, 5)), bits).lookup(np.arange(3)).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(value: float) -> None:
    values = np.ones((3, 4))
    values[1, 2] = value
    with pytest.raises(InputError, match=r"expected .* finite values"):
        quantize_rows(values, 4)


@pytest.mark.parametrize("bits", [0, 1, 5, 16])
def test_bits_that_there_are_not(bits: int) -> None:
    with pytest.raises(InputError, match=f"{bits} bits a value, expected one of"):
        quantize_rows(np.ones((2, 2)), bits)


def test_parts_that_do_not_fit() -> None:
    with pytest.raises(BundleError, match="export the bundle again"):
        QuantizedRows(
            codes=np.zeros((3, 7), np.uint8), scales=np.ones(3, np.float16), scale_unit=1.0, bits=4, width=16
        )


def test_the_input_is_left_alone() -> None:
    values = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    before = values.copy()
    quantize_rows(values, 3)
    np.testing.assert_array_equal(values, before)


def test_float_rows_are_the_values() -> None:
    values = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    table = FloatRows(values)
    np.testing.assert_array_equal(table.lookup(np.array([[4, 0]])), values[[[4, 0]]])
    users = np.ones((2, 8), np.float32)
    rows = np.array([[1, 2], [3, 3]])
    np.testing.assert_allclose(table.score(users, rows), values.sum(axis=1)[rows], rtol=1e-5)
    assert (table.n_items, table.width, table.size_bytes) == (5, 8, 160)


def test_the_size_is_what_it_should_be() -> None:
    table = quantize_rows(np.ones((1000, 64)), 3)
    assert table.size_bytes == 1000 * (64 * 3 // 8 + 2)
