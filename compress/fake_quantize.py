"""Rounding in the loop: the item table as the device will see it, with gradients as if it were not rounded.

Forward, each row is rounded exactly as the file will store it (`runtime.item_table.quantize_rows`, `compress.codebooks`);
backward, the rounding is skipped (straight-through estimator, Bengio et al. 2013, arXiv:1308.3432), so the model learns
around its own rounding. The clipping threshold of each row, a share of its largest value, is chosen by least squares as
the writer does, and chosen again every few steps since it moves slowly.

Codebooks follow the table that learns: every few steps each entry goes to the mean of the rows that have it, and each row
to its nearest entry (a round of k-means). So an entry moves where its rows want to go, and a row whose own gradient leads
it elsewhere changes its code (the same estimator as in van den Oord et al. 2017, "Neural Discrete Representation
Learning", arXiv:1711.00937, section 3.2 and appendix A.1, which updates codebooks so as well).
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from ..runtime.item_table import CLIP_SHARES, largest_level
from .codebooks import fit_codebooks, moved, nearest, rounded_books, slices_of
from .table_form import TableForm, Tiers

REFRESH_STEPS = 50
"""Steps between two choices of the clipping."""
CODE_STEPS = 8
"""Steps between two rounds of k-means."""


class TableQuantizer(Protocol):
    """Rounds a table that learns."""

    def __call__(self, table: Tensor) -> Tensor:
        """float32 (N, D) -> float32 (N, D), with the gradient of the identity."""
        ...

    def settled(self, table: Tensor) -> Tensor:
        """The values that the writer stores as they were learned: float32 (N, D), without a gradient."""
        ...


def table_quantizer(n_items: int, form: TableForm | None) -> TableQuantizer:
    """Of a table of `n_items` rows; None leaves it alone."""
    return TierQuantizer(form) if isinstance(form, Tiers) else RowQuantizer(n_items, form)


class RowQuantizer(nn.Module):
    """Rounds a table (N, D) to `bits` bits a value; bits=None leaves it alone."""

    def __init__(self, n_items: int, bits: int | None) -> None:
        super().__init__()
        self.bits = bits
        self.clip = torch.ones(n_items, 1)
        self._steps_left = 0

    def forward(self, table: Tensor) -> Tensor:
        """float32 (N, D) -> float32 (N, D) on the grid of each row."""
        if self.bits is None:
            return table
        detached = table.detach()
        return table + (self.rounded(detached) - detached)

    def rounded(self, table: Tensor) -> Tensor:
        """The same without a gradient; `bits` is not None."""
        assert self.bits is not None
        if self._steps_left == 0:
            self.clip = best_clip(table, self.bits)
            self._steps_left = REFRESH_STEPS
        self._steps_left -= 1
        return round_rows(table, self.clip, self.bits)

    def settled(self, table: Tensor) -> Tensor:
        """See `TableQuantizer.settled`: the writer rounds by itself as it was learned."""
        return table.detach()


class CodebookQuantizer:
    """Rounds rows (n, D) to entries of codebooks that follow them."""

    def __init__(self, n_codebooks: int) -> None:
        self.n_codebooks = n_codebooks
        self._books: Tensor | None = None
        self._rounded: Tensor | None = None
        self._steps_left = 0

    def rounded(self, rows: Tensor) -> Tensor:
        """float32 (n, D) -> float32 (n, D), without a gradient."""
        if self._steps_left == 0 or self._rounded is None:
            self._books, self._rounded = self._fitted(rows)
            self._steps_left = CODE_STEPS
        self._steps_left -= 1
        return self._rounded

    def settled(self, rows: Tensor) -> Tensor:
        """The entries nearest to rows, after a round of k-means; what `rounded` goes on with stays as it is."""
        return self._fitted(rows)[1]

    def _fitted(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        slices = slices_of(rows, self.n_codebooks)
        if self._books is None:
            books = fit_codebooks(slices)
        else:
            books = torch.stack([moved(part, book) for part, book in zip(slices, self._books, strict=True)])
        stored = rounded_books(books)
        found = [book[nearest(part, book)[0]] for part, book in zip(slices, stored, strict=True)]
        return books, torch.cat(found, dim=1)[:, : rows.shape[1]]


class TierQuantizer:
    """Rounds each tier of a table in its own way."""

    def __init__(self, form: Tiers) -> None:
        self._tiers = [
            (
                torch.from_numpy(tier.rows),
                CodebookQuantizer(tier.codes)
                if tier.bits is None
                else RowQuantizer(len(tier.rows), tier.bits),
            )
            for tier in form.tiers
        ]

    def __call__(self, table: Tensor) -> Tensor:
        """See `TableQuantizer`."""
        detached = table.detach()
        change = torch.empty_like(detached)
        for rows, quantizer in self._tiers:
            part = detached[rows]
            change[rows] = quantizer.rounded(part) - part
        return table + change

    def settled(self, table: Tensor) -> Tensor:
        """See `TableQuantizer.settled`: rows of codebooks become their entries, which the writer finds again."""
        found = table.detach().clone()
        for rows, quantizer in self._tiers:
            found[rows] = quantizer.settled(found[rows])
        return found


def round_rows(table: Tensor, clip: Tensor, bits: int) -> Tensor:
    """The nearest level of each value, the scale of a row being clip * max|row| / largest level; clip (N, 1)."""
    largest = largest_level(bits)
    scale = (table.abs().amax(1, keepdim=True) * clip / largest).clamp(min=1e-12)
    scaled = table / scale
    nearest_level = scaled.round() if bits in (4, 8) else 2 * ((scaled - 1) / 2).round() + 1
    return nearest_level.clamp(-largest, largest) * scale


def best_clip(table: Tensor, bits: int) -> Tensor:
    """The clipping share of each row with the least squared error: (N, D) -> (N, 1)."""
    shares = torch.tensor(CLIP_SHARES[bits])
    errors = torch.stack([(round_rows(table, share, bits) - table).square().sum(1) for share in shares])
    return shares[errors.argmin(0)][:, None]
