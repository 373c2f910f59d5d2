"""Codebooks and tiers: lookup, scores of candidates and scores of the catalogue agree, and a file that lies is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pocketrec.runtime.bundle import Bundle, write_bundle
from pocketrec.runtime.codebook_rows import CodebookRows, pack_codebooks, round_entries, slice_width
from pocketrec.runtime.errors import BundleError, InputError
from pocketrec.runtime.item_table import quantize_rows, read_item_table
from pocketrec.runtime.scoring_codes import ScoringCodes
from pocketrec.runtime.tiered_rows import TieredRows

RANDOM = np.random.default_rng(0)


def codebooks(
    n_items: int, width: int, n_codebooks: int, *, n_entries: int = 9, entry_bits: int = 4
) -> CodebookRows:
    entries = RANDOM.standard_normal((n_codebooks, n_entries, slice_width(width, n_codebooks)))
    codes = RANDOM.integers(0, n_entries, (n_items, n_codebooks)).astype(np.uint8)
    return pack_codebooks(codes, entries.astype(np.float32), width=width, entry_bits=entry_bits)


def tiers(width: int = 20, *, counts: tuple[int, ...] = (5, 12, 40)) -> TieredRows:
    few, some, many = counts
    random = np.random.default_rng(1)
    tier_of = random.permutation(np.repeat([0, 1, 2], counts)).astype(np.uint8)
    return TieredRows(
        tiers=(
            quantize_rows(random.standard_normal((few, width)), 4),
            quantize_rows(random.standard_normal((some, width)), 2),
            codebooks(many, width, 4),
        ),
        tier_of=tier_of,
    )


def levels_of(table: ScoringCodes, width: int) -> NDArray[np.float32]:
    """Rows unpacked as `MatMulNBits` reads them."""
    codes = table.codes
    if table.bits == 4:
        codes = np.stack([codes & 15, codes >> 4], axis=2).reshape(len(codes), -1)
    return (codes[:, :width].astype(np.float32) - 2 ** (table.bits - 1)) * table.scales[:, None]


def write(path: Path, table: CodebookRows | TieredRows, **changes: Any) -> Bundle:
    """A file with a table and nothing else; `changes` replace what the manifest says, or whole parts."""
    parts = {name: changes.pop(name, part) for name, part in table.parts().items()}
    described = {**table.describe(), **changes}
    write_bundle(path, {"items": {"count": table.n_items}, "item_table": described}, parts, overwrite=True)
    return Bundle.open(path)


@pytest.mark.parametrize("entry_bits", [4, 8])
@pytest.mark.parametrize(("width", "n_codebooks"), [(16, 4), (20, 8), (7, 7), (50, 8), (3, 1)])
def test_rows_are_their_entries(width: int, n_codebooks: int, entry_bits: int) -> None:
    entries = RANDOM.standard_normal((n_codebooks, 9, slice_width(width, n_codebooks))).astype(np.float32)
    codes = RANDOM.integers(0, 9, (30, n_codebooks)).astype(np.uint8)
    table = pack_codebooks(codes, entries, width=width, entry_bits=entry_bits)
    levels, scales = round_entries(entries, entry_bits)
    rounded = levels * scales[:, None, None]
    assert np.square(rounded - entries).mean() < {4: 0.02, 8: 1e-4}[entry_bits] * np.square(entries).mean()
    expected = np.stack(
        [np.concatenate([rounded[m, row[m]] for m in range(n_codebooks)])[:width] for row in codes]
    )
    np.testing.assert_array_equal(table.lookup(np.arange(30)), expected)
    assert table.size_bytes == sum(part.nbytes for part in table.parts().values())


def test_what_is_on_the_grid_stays() -> None:
    table = codebooks(30, 24, 4)
    entries = table.lookup(np.arange(30))  # (30, 24): as codes of 30 entries for a table of 30 rows
    own = np.tile(np.arange(30, dtype=np.uint8)[:, None], 4)
    slices = np.ascontiguousarray(entries.reshape(30, 4, 6).transpose(1, 0, 2))
    again = pack_codebooks(own, slices, width=24, entry_bits=8)
    np.testing.assert_allclose(again.lookup(np.arange(30)), entries, atol=np.abs(entries).max() / 200)
    levels, scales = round_entries(slices, 4)
    twice, same = round_entries(levels * scales[:, None, None], 4)
    np.testing.assert_array_equal(twice, levels)
    np.testing.assert_allclose(same, scales, rtol=1e-6)


@pytest.mark.parametrize("table", [codebooks(57, 20, 8), tiers()], ids=["codebooks", "tiers"])
def test_lookup_and_scores_agree(table: CodebookRows | TieredRows) -> None:
    users = RANDOM.standard_normal((3, 20)).astype(np.float32)
    rows = RANDOM.integers(0, 57, (3, 11))
    vectors = table.lookup(rows)
    assert vectors.shape == (3, 11, 20)
    assert vectors.dtype == np.float32
    expected = np.einsum("bd,bcd->bc", users, vectors)
    np.testing.assert_allclose(table.score(users, rows), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(table.gather(rows[0]).scores(users[0]), expected[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(table.gather(rows[0]).vectors(), vectors[0])
    catalogue = users @ table.lookup(np.arange(57)).T
    if isinstance(table, TieredRows):  # what the graph would have scored
        scored = [users @ levels_of(codes, 20).T for codes in table.scoring_codes().values()]
        every = table.in_item_order(np.concatenate(scored, axis=1), users)
        np.testing.assert_allclose(every, catalogue, rtol=1e-4, atol=1e-4)
    else:
        np.testing.assert_allclose(table.score_all(users), catalogue, rtol=1e-4, atol=1e-4)


def test_a_row_of_a_tier_is_the_row_of_its_table() -> None:
    table = tiers()
    for number, tier in enumerate(table.tiers):
        rows = np.flatnonzero(table.tier_of == number)
        np.testing.assert_array_equal(table.lookup(rows), tier.lookup(np.arange(tier.n_items)))
    assert table.lookup(np.zeros((2, 0), np.int64)).shape == (2, 0, 20)


@pytest.mark.parametrize("table", [codebooks(57, 20, 8), tiers()], ids=["codebooks", "tiers"])
def test_what_was_written_is_read(tmp_path: Path, table: CodebookRows | TieredRows) -> None:
    read = read_item_table(write(tmp_path / "b.pocket", table))
    assert type(read) is type(table)
    np.testing.assert_array_equal(read.lookup(np.arange(57)), table.lookup(np.arange(57)))
    assert read.describe() == table.describe()
    assert read.size_bytes == sum(part.nbytes for part in table.parts().values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codebooks": 0}, "export the bundle again"),
        ({"codebooks": 21}, "expected at most 20 of 256"),
        ({"codebooks": "8"}, "export the bundle again"),
        ({"codebooks": 4}, "export the bundle again"),
        ({"entries": 257}, "expected at most 20 of 256"),
        ({"entries": 8}, "export the bundle again"),
        ({"entry_bits": 3}, "in 4 or 8"),
        ({"width": 2**40}, "export the bundle again"),
        ({"width": -1}, "width -1"),
        ({"format": "lattice"}, "reads rows, codebooks, tiers and float"),
        ({"item_codes": np.full((57, 8), 9, np.uint8)}, "a code of 9 for codebooks of 9 entries"),
        ({"item_codes": np.zeros((56, 8), np.uint8)}, "export the bundle again"),
        ({"codebook_scales": np.zeros(7, np.float32)}, "export the bundle again"),
    ],
)
def test_codebooks_that_lie_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    bundle = write(tmp_path / "b.pocket", codebooks(57, 20, 8), **changes)
    with pytest.raises(BundleError, match=message):
        read_item_table(bundle)


TIERS = tiers().describe()["tiers"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tiers": []}, "export the bundle again"),
        ({"tiers": TIERS * 3}, "export the bundle again"),
        ({"tiers": [3, 4]}, "export the bundle again"),
        ({"tiers": TIERS[:2]}, r"tiers of \[5, 12\] rows for 57 items"),
        (
            {"tiers": [{**TIERS[0], "count": 6}, {**TIERS[1], "count": 11}, TIERS[2]]},
            "export the bundle again",
        ),
        (
            {"tiers": [{**TIERS[0], "count": -5}, {**TIERS[1], "count": 22}, TIERS[2]]},
            "export the bundle again",
        ),
        ({"tiers": [{**TIERS[0], "width": 16}, *TIERS[1:]]}, "export the bundle again"),
        ({"tiers": [{**TIERS[0], "bits": 5}, *TIERS[1:]]}, "5 bits"),
        ({"tiers": [{**TIERS[0], "scale_unit": None}, *TIERS[1:]]}, "units of None"),
        ({"tiers": [{**TIERS[0], "format": "tiers"}, *TIERS[1:]]}, "format 'tiers'"),
        ({"item_tiers": np.full((2, 8), 255, np.uint8)}, "tier 3 of 3"),
        ({"item_tiers": np.zeros((2, 8), np.uint8)}, r"\[57, 0, 0\] items are in them"),
        ({"item_tiers": np.zeros((1, 8), np.uint8)}, "export the bundle again"),
    ],
)
def test_tiers_that_lie_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    bundle = write(tmp_path / "b.pocket", tiers(), **changes)
    with pytest.raises(BundleError, match=message):
        read_item_table(bundle)


def test_rows_of_8_bits_have_a_product_of_their_own() -> None:
    table = tiers()
    few = quantize_rows(np.random.default_rng(0).standard_normal((5, 20)), 8)
    eight = TieredRows(tiers=(few, *table.tiers[1:]), tier_of=table.tier_of)
    assert [codes.bits for codes in eight.scoring_codes().values()] == [8, 4]
    users = RANDOM.standard_normal((3, 20)).astype(np.float32)
    scored = [users @ levels_of(codes, 20).T for codes in eight.scoring_codes().values()]
    every = eight.in_item_order(np.concatenate(scored, axis=1), users)
    np.testing.assert_allclose(every, users @ eight.lookup(np.arange(57)).T, rtol=1e-4, atol=1e-4)


def test_codebooks_stand_behind_quantized_rows() -> None:
    table = tiers()
    with pytest.raises(BundleError, match="codebooks before quantized rows"):
        TieredRows(tiers=table.tiers[::-1], tier_of=np.uint8(2) - table.tier_of)


@pytest.mark.parametrize(
    ("shape", "width", "entry_bits", "message"),
    [
        ((4, 9, 5), 20, 3, "entries of 3 bits"),
        ((4, 9, 4), 20, 4, "at most 256 of 5"),
        ((4, 257, 5), 20, 4, "at most 256 of 5"),
    ],
)
def test_codebooks_that_do_not_fit_are_not_made(
    shape: tuple[int, int, int], width: int, entry_bits: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        pack_codebooks(
            np.zeros((3, 4), np.uint8), np.zeros(shape, np.float32), width=width, entry_bits=entry_bits
        )
