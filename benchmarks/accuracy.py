"""What a `Ranking` says, as JSON: every metric with its interval, alone and against a reference.

One form for all who report accuracy: `pocketrec bench` writes it, and what compression records in a
bundle's manifest is the same, so that a report can show either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .evaluate import Ranking
from .ranking_metrics import (
    CUTOFFS,
    bootstrap_mean,
    coverage,
    metric_names,
    overlap,
    paired_bootstrap,
    per_user,
    users_to_tell_apart,
)

Json = dict[str, Any]


def describe_ranking(ranking: Ranking, *, cutoffs: Sequence[int] = CUTOFFS, seed: int = 0) -> Json:
    """Means over users with intervals, by names such as "ndcg@10"; coverage of the lists that were kept."""
    n_top = ranking.top_rows.shape[1]
    return {
        "metrics": {
            name: bootstrap_mean(per_user(ranking.ranks, name), seed=seed).to_json()
            for name in metric_names(cutoffs)
        },
        "coverage": {f"coverage@{n_top}": coverage(ranking.top_rows, ranking.n_items)} if n_top else {},
        "seconds": ranking.seconds,
    }


def compare_rankings(
    ranking: Ranking, reference: Ranking, *, cutoffs: Sequence[int] = CUTOFFS, seed: int = 0
) -> Json:
    """Share kept and difference of each metric, paired over users; agreement of the lists that were kept.

    Both rankings must be of the same split.
    """
    if len(ranking.ranks) != len(reference.ranks):
        raise ValueError(
            f"{len(ranking.ranks)} users against {len(reference.ranks)}; expected the same split"
        )
    metrics: Json = {}
    for name in metric_names(cutoffs):
        ours, theirs = per_user(ranking.ranks, name), per_user(reference.ranks, name)
        found = paired_bootstrap(ours, theirs, seed=seed)
        metrics[name] = {
            "ratio": found.ratio.to_json(),
            "difference": found.difference.to_json(),
            "users_needed": users_to_tell_apart(ours, theirs),
        }
    n_top = ranking.top_rows.shape[1]
    agreement = {f"overlap@{n_top}": overlap(ranking.top_rows, reference.top_rows)} if n_top else {}
    return {"metrics": metrics, "overlap": agreement}
