"""How the rows of an item table are stored: in so many bits a value, or in tiers by how often items occur.

    head: the most frequent items, `head_bits` a value;   middle: `bits` a value;   tail: the rarest, `tail_codes` bytes a row

Few items make most of what a ranking is worth (`runtime.tiered_rows`), and the rest of the bytes buys little there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.codebook_rows import CodebookRows
from ..runtime.item_table import ROW_BITS, QuantizedRows, quantize_rows
from ..runtime.tiered_rows import TieredRows
from .codebooks import codebook_rows


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TableConfig:
    """How the item table, most of the bytes, is stored."""

    bits: int = 3
    """Bits a value, with a scale a row: 8 and 4 lose next to nothing as they are, 3 and 2 want distillation."""
    width: int | None = None
    """Dimensions for lookup and scoring; None keeps the model's own."""
    head_share: float = 0.0
    """Share of the items, the most frequent in training, that get `head_bits` instead, if those are more."""
    head_bits: int = 4
    """Bits a value of the head: its items are asked for most, and one more bit for a tenth of them costs 3% of the table."""
    tail_share: float = 0.0
    """Share of the items, the rarest in training, whose rows are codes of codebooks instead."""
    tail_codes: int = 8
    """Codes of a row of the tail, a byte each: 8 for 64 dimensions is a bit a value. Below 2 bits a value, codebooks are
    nearer than levels are."""

    def __post_init__(self) -> None:
        for name in ("bits", "head_bits"):
            if getattr(self, name) not in ROW_BITS:
                raise ValueError(
                    f"table: {name} {getattr(self, name)}, expected one of {', '.join(map(str, ROW_BITS))}"
                )
        if self.width is not None and self.width < 1:
            raise ValueError(f"table: width {self.width}, expected at least 1")
        if not (self.head_share >= 0 and self.tail_share >= 0 and self.head_share + self.tail_share <= 1):
            raise ValueError(
                f"table: head_share {self.head_share} and tail_share {self.tail_share}, expected 0 to 1 together"
            )
        if self.tail_codes < 1:
            raise ValueError(f"table: tail_codes {self.tail_codes}, expected at least 1")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tier:
    """Some rows of a table, stored alike."""

    rows: NDArray[np.int64]
    """int64 (n,), rising."""
    bits: int | None = None
    """Bits a value, or None: codebooks."""
    codes: int = 0
    """Codes a row, of codebooks."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Tiers:
    """A table in tiers, the quantized ones first."""

    tiers: tuple[Tier, ...]

    def describe(self) -> list[dict[str, int]]:
        """For the report of a step."""
        return [
            {"items": len(tier.rows), **({"bits": tier.bits} if tier.bits else {"codes": tier.codes})}
            for tier in self.tiers
        ]


TableForm = int | Tiers
"""Bits a value of every row, or tiers."""


def table_form(config: TableConfig, item_counts: NDArray[np.int64], width: int) -> TableForm:
    """The form of a table of rows of `width`, whose items occur `item_counts` times in training (N,).

    Where all occur equally often no items are the most frequent, and a part of them is no head.
    """
    n_items = len(item_counts)
    n_head, n_tail = (round(share * n_items) for share in (config.head_share, config.tail_share))
    if config.head_bits <= config.bits or (n_head < n_items and np.ptp(item_counts) == 0):
        n_head = 0
    order = np.argsort(-item_counts, kind="stable")
    head, middle, tail = np.split(order, [n_head, n_items - n_tail])
    tiers = [
        Tier(rows=np.sort(head), bits=config.head_bits),
        Tier(rows=np.sort(middle), bits=config.bits),
        Tier(rows=np.sort(tail), codes=min(config.tail_codes, width)),
    ]
    kept = tuple(tier for tier in tiers if len(tier.rows))
    if len(kept) == 1 and kept[0].bits is not None:
        return kept[0].bits
    return Tiers(kept)


def store_table(
    values: NDArray[np.float32],
    form: TableForm,
    quantize: Callable[[NDArray[np.float32], int], QuantizedRows] = quantize_rows,
) -> QuantizedRows | CodebookRows | TieredRows:
    """A table, float32 (N, D), in its form; `quantize` makes the rows of so many bits a value."""
    if isinstance(form, int):
        return quantize(values, form)
    tables: list[QuantizedRows | CodebookRows] = []
    tier_of = np.empty(len(values), np.uint8)
    for number, tier in enumerate(form.tiers):
        tier_of[tier.rows] = number
        rows = np.ascontiguousarray(values[tier.rows])
        tables.append(codebook_rows(rows, tier.codes) if tier.bits is None else quantize(rows, tier.bits))
    if isinstance(tables[0], CodebookRows):
        return tables[0]
    return TieredRows(tiers=tuple(tables), tier_of=tier_of)


def describe_form(form: TableForm) -> dict[str, Any]:
    """What a step's report says: `bits`, or `tiers`."""
    return {"bits": form} if isinstance(form, int) else {"tiers": form.describe()}
