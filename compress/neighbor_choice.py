"""How many neighbours an item keeps: the fewest that still rank the validation items as well.

Counts are tried from few to many (`COUNTS`), each with its weights rounded as they will be stored; the first is taken that
keeps `keep` of the NDCG@10 that all neighbours have in float32, and where none does, or more would break the size that is
allowed, the best. Neighbours are the largest weights by size: EASE's negative ones say what a user will not want, and
without them a tenth is lost (ML-100K, 100 neighbours).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..benchmarks.evaluate import evaluate_ranks
from ..benchmarks.protocols import Split
from ..benchmarks.ranking_metrics import per_user
from ..runtime.item_table import ROW_BITS, quantize_rows
from ..runtime.neighbors import Neighbors, row_dtype
from .models.item_item import spread, strongest

COUNTS = (16, 32, 64, 128, 256, 512, 1024)
SPREAD_ITEMS = 8192
"""Largest catalogue whose weights are spread out: 256 MB."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NeighborsConfig:
    """Which item-item weights are kept."""

    count: int | None = None
    """Neighbours of each item; None: the fewest that keep `keep`."""
    keep: float = 0.99
    """Share of the validation NDCG@10 of all neighbours, 0 to 1."""
    bits: int = 8
    """Bits a weight, with a scale an item. A neighbour's row takes two or four bytes, so fewer bits save little: 4 bits are a
    sixth less than 8."""

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise ValueError(f"neighbors: count {self.count}, expected at least 1")
        if not 0 < self.keep <= 1:
            raise ValueError(f"neighbors: keep {self.keep}, expected above 0 and at most 1")
        if self.bits not in ROW_BITS:
            raise ValueError(f"neighbors: bits {self.bits}, expected one of {', '.join(map(str, ROW_BITS))}")


class NeighborsScorer:
    """The `Scorer` of item-item weights; those of small catalogues are spread out, which scores many users at once."""

    def __init__(self, neighbors: Neighbors, max_length: int) -> None:
        self.neighbors = spread(neighbors) if neighbors.n_items <= SPREAD_ITEMS else neighbors
        self.n_items, self.max_length = neighbors.n_items, max_length

    def __call__(self, histories: NDArray[np.int64]) -> NDArray[np.float32]:
        """int64 (B, n) -> float32 (B, N)."""
        return self.neighbors.score_all(self.neighbors.users(histories))


def choose_neighbors(
    neighbors: Neighbors,
    config: NeighborsConfig,
    validation: Split,
    *,
    max_bytes: int | None,
    max_length: int,
    keep_repeats: bool,
    metric: str = "ndcg@10",
) -> tuple[Neighbors, dict[str, Any]]:
    """The strongest neighbours, in float32, and what was tried: the metric by count.

    Args:
        max_bytes: of the neighbours; None is no limit.
        max_length: events of a history that count.
        metric: of the validation items, as `ranking_metrics.per_user` names it.
    """
    if config.count is not None:
        return strongest(neighbors, config.count), {"neighbors": min(config.count, neighbors.count)}

    def value(candidate: Neighbors) -> float:
        scorer = NeighborsScorer(candidate, max_length)
        ranking = evaluate_ranks(scorer, validation, keep_repeats=keep_repeats, n_top=0)
        return float(per_user(ranking.ranks, metric).mean())

    wanted = config.keep * value(neighbors)
    counts = sorted({*(count for count in COUNTS if count < neighbors.count), neighbors.count})
    most = (
        neighbors.count if max_bytes is None else max_bytes // neighbor_bytes(neighbors.n_items, config.bits)
    )
    tried: dict[int, float] = {}
    fitting = [count for count in counts if count <= most]
    if fitting and fitting[-1] < most < neighbors.count:
        fitting.append(most)  # what just fits, where more would be wanted
    for count in fitting or counts[:1]:
        tried[count] = value(rounded_weights(strongest(neighbors, count), config.bits))
        if tried[count] >= wanted:
            break
    chosen = max(tried, key=lambda count: (tried[count] >= wanted, tried[count]))
    detail = {
        "neighbors": chosen,
        f"{metric.replace('@', '')}_by_count": {str(count): found for count, found in tried.items()},
    }
    return strongest(neighbors, chosen), detail


def neighbor_bytes(n_items: int, bits: int) -> int:
    """Bytes of one neighbour of every item, at most."""
    return n_items * (8 * np.dtype(row_dtype(n_items)).itemsize + bits) // 8


def rounded_weights(neighbors: Neighbors, bits: int) -> Neighbors:
    """The same neighbours with weights of `bits` bits."""
    values = neighbors.weights.lookup(np.arange(neighbors.n_items))
    return Neighbors(neighbors.rows, quantize_rows(values, bits))
