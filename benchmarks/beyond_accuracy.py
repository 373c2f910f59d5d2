"""What lists look like beyond hits: how popular and how novel their items are; and the metrics that follow from HR.

With c_i the training events of item i, C their sum, and N items:

    mean popularity  mean of c_i over all listed items, divided by the mean of c_i over the catalogue: 1 is a random list
                     (average recommendation popularity: Yin et al., Challenging the Long Tail Recommendation, VLDB 2012)
    novelty          mean of -log2((c_i + 1) / (C + N)): bits of surprise of a listed item
                     (mean self-information: Vargas and Castells, Rank and Relevance in Novelty and Diversity Metrics,
                     RecSys 2011; one event is added to each item, so that unseen ones are finite)

With one relevant item a user, precision@k = HR@k / k, recall@k = HR@k and F1@k = 2 HR@k / (k + 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .evaluate import Ranking
from .ranking_metrics import CUTOFFS, hit_rate


def describe_lists(ranking: Ranking, counts: NDArray[np.int64]) -> dict[str, float | None]:
    """`mean_popularity@K` and `novelty@K` of the lists that were kept; empty where none were.

    Args:
        counts: int64 (N,), training events of each item row.
    """
    k = ranking.top_rows.shape[1]
    listed = ranking.top_rows[ranking.top_rows >= 0]
    if not k or not len(listed):
        return {}
    shares = (counts + 1) / (counts.sum() + len(counts))
    mean_count = counts.mean()
    return {
        f"mean_popularity@{k}": float(counts[listed].mean() / mean_count) if mean_count else None,
        f"novelty@{k}": float(-np.log2(shares[listed]).mean()),
    }


def set_metrics(ranks: NDArray[np.int64], cutoffs: Sequence[int] = CUTOFFS) -> Mapping[str, Any]:
    """Means over users of precision, recall and F1 at each cutoff.

    >>> set_metrics(np.array([1, 30]), [10])
    {'precision@10': 0.05, 'recall@10': 0.5, 'f1@10': 0.09090909090909091}
    """
    found: dict[str, float] = {}
    for k in cutoffs:
        hits = float(hit_rate(ranks, k).mean())
        found |= {f"precision@{k}": hits / k, f"recall@{k}": hits, f"f1@{k}": 2 * hits / (k + 1)}
    return found
