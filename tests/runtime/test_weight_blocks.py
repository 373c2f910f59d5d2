"""Matrices in four bits: what is restored is within half a level, and the layout is the one that is documented."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.runtime.weight_blocks import BLOCK, levels_of, n_blocks, restored, round_blocks


def matrix_of(n_outputs: int, n_inputs: int) -> np.ndarray:
    return np.random.default_rng(n_inputs).standard_normal((n_outputs, n_inputs)).astype(np.float32)


@pytest.mark.parametrize("n_inputs", [1, 15, 32, 33, 64, 100])
def test_there_and_back(n_inputs: int) -> None:
    """Half a level of a block's scale, or what clipping gives up of its few largest numbers (40% at most)."""
    matrix = matrix_of(7, n_inputs)
    codes, scales = round_blocks(matrix)
    assert codes.shape == (7, n_blocks(n_inputs), BLOCK // 2)
    assert scales.shape == (7, n_blocks(n_inputs))
    found = restored(codes, scales, n_inputs)
    assert found.shape == matrix.shape
    step = np.repeat(scales.astype(np.float32), BLOCK, axis=1)[:, :n_inputs]
    inside = np.abs(matrix) <= 7 * step
    assert (np.abs(found - matrix)[inside] <= 0.501 * step[inside]).all()
    assert (np.abs(found - matrix)[~inside] <= 0.401 * np.abs(matrix)[~inside]).all()


def test_rounded_again_it_stays() -> None:
    """So a student that learned around its rounding is stored as it learned: to the 11 bits of a scale."""
    once = restored(*round_blocks(matrix_of(9, 70)), 70)
    np.testing.assert_allclose(restored(*round_blocks(once), 70), once, rtol=2**-10)


def test_a_block_of_zeros_and_one_of_small_numbers() -> None:
    matrix = np.zeros((2, 64), np.float32)
    matrix[0, :32] = np.linspace(-1, 1, 32)
    matrix[1, 32:] = 1e-3 * np.linspace(-1, 1, 32)
    found = restored(*round_blocks(matrix), 64)
    assert (found[0, 32:] == 0).all()
    assert np.abs(found - matrix)[1].max() < 2e-4  # half a level, and what clipping gives up


def test_the_order_of_halves_is_fixed() -> None:
    """Byte i of a block: number 2i low, 2i + 1 high, each level + 8."""
    matrix = np.zeros((1, 32), np.float32)
    matrix[0, :4] = [7, -7, 1, 2]
    codes, scales = round_blocks(matrix)
    assert scales.item() == 1
    assert codes[0, 0, :3].tolist() == [15 | 1 << 4, 9 | 10 << 4, 8 | 8 << 4]
    assert levels_of(codes, 4).tolist() == [[7, -7, 1, 2]]
