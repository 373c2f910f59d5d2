"""Codebooks of a table's slices: k-means (Lloyd 1982), so that every slice is near one of K entries.

Slice m of the rows has entries of its own (`runtime.codebook_rows`). A table whose slices have at most K different values
already, as one that learned around its codebooks has, gets exactly these back.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..runtime.codebook_rows import MAX_ENTRIES, CodebookRows, pack_codebooks, round_entries, slice_width

ENTRY_BITS = 4
"""Of the entries: at 12,000 items codebooks of 8 bits cost 1.4 bytes an item, and 4 bits lose nothing beside what the codes
themselves lose."""
_ROUNDS = 10
_ROWS_AT_ONCE = 4096  # bounds the distances to 4 MB a codebook


def slices_of(table: Tensor, n_codebooks: int) -> Tensor:
    """float32 (N, D) -> (M, N, d), zeros beyond D."""
    d = slice_width(table.shape[1], n_codebooks)
    padded = torch.nn.functional.pad(table, (0, n_codebooks * d - table.shape[1]))
    return padded.reshape(len(table), n_codebooks, d).transpose(0, 1).contiguous()


def fit_codebooks(slices: Tensor, *, seed: int = 0) -> Tensor:
    """Entries of slices (M, N, d): float32 (M, K, d), K = 256 or, where rows are few, as many as there are."""
    generator = torch.Generator().manual_seed(seed)
    n_entries = min(MAX_ENTRIES, slices.shape[1])
    books = []
    for rows in slices:
        distinct = torch.unique(rows, dim=0)
        if len(distinct) <= n_entries:  # nothing to find: the last one is repeated
            books.append(distinct[torch.arange(n_entries).clamp(max=len(distinct) - 1)])
            continue
        book = rows[torch.randperm(len(rows), generator=generator)[:n_entries]]
        for _ in range(_ROUNDS):
            book = moved(rows, book)
        books.append(book)
    return torch.stack(books)


def moved(rows: Tensor, book: Tensor) -> Tensor:
    """One round of k-means: each entry to the mean of its rows, one without rows to the row that is worst served."""
    codes, distances = nearest(rows, book)
    counts = torch.bincount(codes, minlength=len(book))
    means = torch.zeros_like(book).index_add_(0, codes, rows) / counts.clamp(min=1)[:, None]
    empty = torch.nonzero(counts == 0)[:, 0]
    means[empty] = rows[distances.topk(min(len(empty), len(rows))).indices]
    return means


def nearest(rows: Tensor, book: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest entry of each row and its squared distance: (N, d), (K, d) -> int64 (N,), float32 (N,)."""
    lengths = book.square().sum(1)
    found = [torch.addmm(lengths, part, book.T, alpha=-2).min(1) for part in rows.split(_ROWS_AT_ONCE)]
    codes = torch.cat([one.indices for one in found])
    return codes, torch.cat([one.values for one in found]) + rows.square().sum(1)


def rounded_books(books: Tensor, entry_bits: int = ENTRY_BITS) -> Tensor:
    """The entries as the file holds them: float32 (M, K, d)."""
    levels, scales = round_entries(books.numpy(), entry_bits)
    return torch.from_numpy(levels * scales[:, None, None])


def codebook_rows(
    values: NDArray[np.float32], n_codebooks: int, entry_bits: int = ENTRY_BITS
) -> CodebookRows:
    """A table, float32 (N, D), in `n_codebooks` codes a row."""
    slices = slices_of(torch.from_numpy(np.ascontiguousarray(values)), n_codebooks)
    books = rounded_books(fit_codebooks(slices), entry_bits)
    codes = torch.stack([nearest(rows, book)[0] for rows, book in zip(slices, books, strict=True)], dim=1)
    return pack_codebooks(
        codes.numpy().astype(np.uint8), books.numpy(), width=values.shape[1], entry_bits=entry_bits
    )
