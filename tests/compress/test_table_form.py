"""Tiers by frequency and codebooks: who is in which, and what was learned is what the writer finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pocketrec.compress.codebooks import codebook_rows, fit_codebooks, nearest, rounded_books, slices_of
from pocketrec.compress.fake_quantize import CODE_STEPS, TierQuantizer, table_quantizer
from pocketrec.compress.table_form import TableConfig, Tiers, describe_form, store_table, table_form
from pocketrec.runtime.codebook_rows import CodebookRows
from pocketrec.runtime.item_table import QuantizedRows
from pocketrec.runtime.tiered_rows import TieredRows

N_ITEMS, WIDTH = 1000, 24
COUNTS = np.random.default_rng(0).permutation(N_ITEMS)
THREE = TableConfig(bits=2, head_share=0.1, head_bits=4, tail_share=0.6, tail_codes=4)


@pytest.fixture(scope="module")
def table() -> torch.Tensor:
    """Rows around 40 centres, as items of a catalogue lie around what they are alike in."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(40, WIDTH, generator=generator)
    kinds = torch.randint(40, (N_ITEMS,), generator=generator)
    return centres[kinds] + 0.3 * torch.randn(N_ITEMS, WIDTH, generator=generator)


def three_tiers() -> Tiers:
    form = table_form(THREE, COUNTS, WIDTH)
    assert isinstance(form, Tiers)
    return form


def test_the_most_frequent_items_are_the_head() -> None:
    head, middle, tail = three_tiers().tiers
    assert [len(tier.rows) for tier in (head, middle, tail)] == [100, 300, 600]
    assert (
        COUNTS[head.rows].min()
        > COUNTS[middle.rows].max()
        > COUNTS[middle.rows].min()
        > COUNTS[tail.rows].max()
    )
    assert (head.bits, middle.bits, tail.bits, tail.codes) == (4, 2, None, 4)
    for tier in (head, middle, tail):
        assert (np.diff(tier.rows) > 0).all()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (TableConfig(bits=3), {"bits": 3}),
        (TableConfig(bits=3, head_share=1.0, head_bits=8), {"bits": 8}),
        (TableConfig(bits=4, head_share=0.1), {"bits": 4}),
        (TableConfig(bits=8, head_share=0.1), {"bits": 8}),  # a head is never coarser than the others
        (TableConfig(tail_share=1.0, tail_codes=99), {"tiers": [{"items": N_ITEMS, "codes": WIDTH}]}),
        (
            TableConfig(bits=2, head_share=0.5),
            {"tiers": [{"items": 500, "bits": 4}, {"items": 500, "bits": 2}]},
        ),
    ],
)
def test_a_share_of_nothing_is_no_tier(config: TableConfig, expected: dict[str, object]) -> None:
    assert describe_form(table_form(config, COUNTS, WIDTH)) == expected


@pytest.mark.parametrize("n_items", [1, 4, 5, 60])
def test_small_catalogues_have_a_head_of_at_least_one_item_or_none(n_items: int) -> None:
    form = table_form(TableConfig(bits=3, head_share=0.1), COUNTS[:n_items], WIDTH)
    rows = [len(tier.rows) for tier in form.tiers] if isinstance(form, Tiers) else [n_items]
    assert rows == {1: [1], 4: [4], 5: [5], 60: [6, 54]}[n_items]


def test_items_that_all_occur_equally_often_have_no_head() -> None:
    everyone = np.full(N_ITEMS, 3)
    assert table_form(TableConfig(bits=3, head_share=0.1), everyone, WIDTH) == 3
    assert table_form(TableConfig(bits=3, head_share=1.0), everyone, WIDTH) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head_bits": 5}, "head_bits 5, expected one of 2, 3, 4, 8"),
        ({"head_share": 0.6, "tail_share": 0.5}, "expected 0 to 1 together"),
        ({"tail_share": -0.1}, "expected 0 to 1 together"),
        ({"head_share": float("nan")}, "expected 0 to 1 together"),
        ({"tail_codes": 0}, "tail_codes 0, expected at least 1"),
    ],
)
def test_shares_that_cannot_be_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TableConfig(**changes)  # type: ignore[arg-type]


def test_each_tier_is_stored_in_its_form(table: torch.Tensor) -> None:
    stored = store_table(table.numpy(), three_tiers())
    assert isinstance(stored, TieredRows)
    errors = np.square(stored.lookup(np.arange(N_ITEMS)) - table.numpy()).mean(1)
    head, middle, tail = (errors[tier.rows].mean() for tier in three_tiers().tiers)
    assert head < 0.03 < middle < 0.2  # of about 1: as of a Gaussian in 4 and in 2 bits
    assert tail < 0.2
    assert isinstance(store_table(table.numpy(), 3), QuantizedRows)
    everything = table_form(TableConfig(tail_share=1.0, tail_codes=6), COUNTS, WIDTH)
    assert isinstance(store_table(table.numpy(), everything), CodebookRows)


def test_k_means_is_nearer_than_rows_at_random(table: torch.Tensor) -> None:
    slices = slices_of(table, 3)
    books = fit_codebooks(slices)
    assert books.shape == (3, 256, 8)
    random = slices[:, torch.randperm(N_ITEMS, generator=torch.Generator().manual_seed(1))[:256]]
    for part, book, chosen in zip(slices, books, random, strict=True):
        codes, distances = nearest(part, book)
        np.testing.assert_allclose(distances, (part - book[codes]).square().sum(1), atol=1e-4)
        assert (torch.cdist(part, book).argmin(1) == codes).float().mean() > 0.999  # but for ties
        assert distances.mean() < 0.85 * nearest(part, chosen)[1].mean()
        assert len(codes.unique()) > 250  # no entry is idle


def test_few_rows_are_their_own_codebooks() -> None:
    values = np.random.default_rng(0).standard_normal((7, 10)).astype(np.float32)
    stored = codebook_rows(values, 3, entry_bits=8)
    assert stored.entries.shape == (3, 7, 4)
    np.testing.assert_allclose(stored.lookup(np.arange(7)), values, atol=np.abs(values).max() / 250)


def test_the_gradient_passes_as_if_nothing_were_rounded(table: torch.Tensor) -> None:
    parameter = torch.nn.Parameter(table.clone())
    weight = torch.randn(N_ITEMS, WIDTH, generator=torch.Generator().manual_seed(1))
    (table_quantizer(N_ITEMS, three_tiers())(parameter) * weight).sum().backward()
    assert parameter.grad is not None
    assert torch.equal(parameter.grad, weight)
    assert torch.equal(parameter.detach(), table)


def test_what_was_learned_is_what_is_stored(table: torch.Tensor) -> None:
    """The writer sees the settled values alone, and finds the entries and codes again."""
    quantizer, moving = TierQuantizer(three_tiers()), table.clone()
    for step in range(2 * CODE_STEPS + 1):
        quantizer(moving)
        moving += 0.01 * torch.randn(N_ITEMS, WIDTH, generator=torch.Generator().manual_seed(step))
    settled = quantizer.settled(moving)
    stored = store_table(settled.numpy(), three_tiers()).lookup(np.arange(N_ITEMS))
    head, middle, tail = three_tiers().tiers
    np.testing.assert_allclose(stored[tail.rows], settled.numpy()[tail.rows], atol=1e-5)
    assert torch.equal(settled[head.rows], moving[head.rows])
    in_torch = table_quantizer(N_ITEMS, three_tiers())(settled).numpy()
    np.testing.assert_allclose(in_torch[tail.rows], stored[tail.rows], atol=1e-5)
    np.testing.assert_allclose(in_torch[middle.rows], stored[middle.rows], rtol=0.01, atol=0.6)
    assert (np.abs(in_torch - stored) > 0.01).mean() < 0.01  # a value between two levels may go to the other


def test_codebooks_follow_the_table(table: torch.Tensor) -> None:
    """Rows that all move by the same find their codebooks again, a round of k-means at a time."""
    form = table_form(TableConfig(tail_share=1.0, tail_codes=4), COUNTS, WIDTH)
    quantizer = table_quantizer(N_ITEMS, form)
    before = (quantizer(table) - table).square().mean()
    errors = [(quantizer(table + 1.0) - (table + 1.0)).square().mean() for _ in range(6 * CODE_STEPS)]
    assert errors[0] > 10 * before
    assert errors[-1] < 2 * before


def test_entries_of_four_bits_are_near_enough(table: torch.Tensor) -> None:
    """A Gaussian in 16 even steps has an error of .0115 of its variance; these are not far from one."""
    books = fit_codebooks(slices_of(table, 3))
    assert (rounded_books(books) - books).square().mean() < 0.02 * books.square().mean()
