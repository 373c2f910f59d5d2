"""The taste table: a second item space, of which items are chosen by the same people, whatever the order.

Of the users-by-items matrix R of what was chosen (0 or 1), with n_i users of item i,

    A = R diag(n_i) ** -1/4  ~  U S V'                   the leading D singular triples
    F = S^2 / (S^2 + lambda)

row i of the table is row i of V F^1/2, centered, scaled to a root mean square length of 1, and quantized.

Dot products of such rows are those of ridge regression from items to items, V F V' = (A'A + lambda)^-1 A'A: what EASE
(Steck 2019, WWW) scores with, but for its zero diagonal, in D dimensions. A user's mean of them is that user folded in:
what the items chosen so far say of all others. lambda is the square of the singular value a third down the table.

With the categories of the items, each of them is one more row of A: an item in k of them has k ** -1/2 there, less the
mean over the items, all in a unit in which they have `CONTENT_SHARE` of the sum of squares of A. Categories that people do
not tell apart change little; those that they do, carry items that few people chose.

The triples come from a randomized subspace iteration (Halko, Martinsson and Tropp 2011, SIAM Review 53(2), algorithm
4.4) with products of the sparse matrix alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..runtime.errors import InputError
from ..runtime.item_table import QuantizedRows, quantize_rows

Doubles = NDArray[np.float64]
Content = Sequence[Sequence[int]]
"""Numbers of categories, for each row of the table; none where nothing is known."""

POPULARITY_POWER = 0.25
"""Of n_i in A. On an earlier era of MovieLens-100K than any that a figure is reported of, over the whole catalogue and over
lists drawn by popularity, V F^1/2 gained 3.4 and 1.0% more NDCG@10 with 1/4 than V alone did with 1/2 (and users divided
by their lengths); 1.4 and .2% with 1/2, 2.6 and .4% with 0."""
CONTENT_SHARE = 0.09
"""On the same earlier era, genres (18 of them) gained 2.9% [.2, 5.9] in the catalogue and .5% [-.6, 1.6] in lists drawn by
popularity; with a quarter of it .9 and -.1%, with four times as much 2.1 and -.1%. An expert of its own, over genres alone,
gained 2.3% [-1.1, 5.6] and 1.0% [-.6, 2.7], for bytes and time that these rows do not cost."""
MAX_CATEGORIES = 256
"""The most frequent ones count; they are a dense row each."""
OVERSAMPLING = 16
ITERATIONS = 6
"""The spectrum of such matrices falls slowly; more iterations changed no ranking."""


def make_taste_table(
    sequences: Sequence[NDArray[np.int64]],
    n_items: int,
    *,
    width: int = 64,
    bits: int = 4,
    seed: int = 0,
    content: Content | None = None,
) -> QuantizedRows:
    """The quantized table.

    Args:
        sequences: what may be learned from: item rows, one array a user.
        width: D; at most what the data has to say, the lesser of users and items.
        content: numbers of the categories of each row.

    Raises:
        InputError: no event.
    """
    return quantize_rows(taste_vectors(sequences, n_items, width=width, seed=seed, content=content), bits)


def taste_vectors(
    sequences: Sequence[NDArray[np.int64]],
    n_items: int,
    *,
    width: int,
    seed: int = 0,
    content: Content | None = None,
) -> NDArray[np.float32]:
    """The table before it is quantized: float32 (N, D); rows of items that nobody chose are the least popular taste, 0."""
    chosen = [np.unique(sequence) for sequence in sequences if len(sequence)]
    if not chosen:
        raise InputError("taste table: no events; there is nothing to learn from")
    items = np.concatenate(chosen)
    users = np.repeat(np.arange(len(chosen)), [len(rows) for rows in chosen])
    per_item = np.bincount(items, minlength=n_items)
    values = per_item[items].astype(np.float64) ** -POPULARITY_POWER
    by_item = np.argsort(items, kind="stable")
    n_users = len(chosen)
    times = _product(values, users, items, (n_users, n_items))  # A x: (N, S) -> (U, S)
    times_transposed = _product(values[by_item], items[by_item], users[by_item], (n_items, n_users))  # A' x
    rows = np.zeros((0, n_items)) if content is None else _content_rows(content, float(values @ values))

    width = min(width, n_items, len(chosen))
    sampled = min(width + OVERSAMPLING, n_items, len(chosen))
    basis = np.random.default_rng(seed).standard_normal((n_items, sampled))
    for _ in range(ITERATIONS):
        basis, _ = np.linalg.qr(times_transposed(times(basis)) + rows.T @ (rows @ basis))
    image = np.concatenate([times(basis), rows @ basis])
    _, singular, rotation = np.linalg.svd(image, full_matrices=False)
    vectors = basis @ rotation[:width].T * _folded(singular[:width])
    known = (per_item > 0) | (rows != 0).any(axis=0)
    vectors[known] -= vectors[known].mean(axis=0)
    vectors[~known] = 0.0
    return (vectors / np.sqrt(np.square(vectors).sum(axis=1).mean())).astype(np.float32)


def _content_rows(content: Content, squares: float) -> Doubles:
    """A row for each category, float64 (G, N); `squares`: the sum of squares of what they are added to."""
    frequent = Counter(number for numbers in content for number in {*numbers}).most_common(MAX_CATEGORIES)
    row_of = {number: row for row, (number, _) in enumerate(frequent)}
    rows = np.zeros((len(row_of), len(content)))
    for item, numbers in enumerate(content):
        found = [row_of[number] for number in {*numbers} if number in row_of]
        if found:
            rows[found, item] = len(found) ** -0.5
    has_any = rows.any(axis=0)
    rows[:, has_any] -= rows[:, has_any].mean(axis=1, keepdims=True)
    return rows * np.sqrt(CONTENT_SHARE * squares / max(float(np.square(rows).sum()), 1e-30))


def _folded(singular: Doubles) -> Doubles:
    """F^1/2 of the leading singular values, float64 (D,), largest first."""
    squared = np.square(singular)
    return np.sqrt(squared / np.maximum(squared + squared[len(squared) // 3], 1e-30))


def _product(
    values: Doubles, rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int]
) -> Callable[[Doubles], Doubles]:
    """Multiplies by a sparse matrix: `values` at `rows` and `columns`, in ascending order of both."""
    where = torch.from_numpy(np.stack([rows, columns]))
    matrix = torch.sparse_coo_tensor(
        where, torch.from_numpy(values), shape, is_coalesced=True, check_invariants=True
    )
    return lambda x: (matrix @ torch.from_numpy(np.ascontiguousarray(x))).numpy()
