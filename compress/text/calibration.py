"""Where titles' vectors lie among the rows of a table: a scale and a shift, so that cold items compete fairly with warm ones.

What a title does not tell, a tower cannot say, and its vectors lie nearer to their mean than rows do: among themselves they
rank as well as they can, but beside rows they never reach the top. With m the means over the probes (items whose titles the
tower was not taught), v becomes

    v' = s (v - m_titles) + m_rows

and s is the one with which most of the validation users are served best: NDCG@10 over all items, the probes by v', the
others by their rows, every user asked whether the item they chose is a probe or not. Too small an s hides new items, too
large a one puts them before everything. Between the two the figure is flat, since few users choose a new item: of the scales
that cannot be told from the best one (one standard error of the paired difference), the largest is taken, for a new item
is found by nobody who is not shown it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...benchmarks.ranking_metrics import ndcg

SCALES = tuple(np.linspace(0.7, 2.0, 27).round(2).tolist())
"""From a title that says almost everything of its row to one that says a quarter of its variance."""
_TOP = 10


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """v' = scale * v + shift."""

    scale: float
    shift: NDArray[np.float32]
    """float32 (D,)."""
    ndcg10: dict[float, float]
    """Of all validation users, by scale."""


def calibrate(
    users: NDArray[np.float32],
    targets: NDArray[np.int64],
    histories: list[NDArray[np.int64]],
    table: NDArray[np.float32],
    probes: NDArray[np.int64],
    vectors: NDArray[np.float32],
) -> Calibration:
    """Choose the scale.

    Args:
        users: float32 (U, D), of the validation users before their target.
        targets, histories: int64 (U,) and int64 (n,) each, rows of the table; histories are no candidates.
        table: float32 (N, D).
        probes: int64 (P,), ascending.
        vectors: float32 (P, D), of the probes' titles.
    """
    rows_mean, titles_mean = table[probes].mean(0), vectors.mean(0)
    place = np.full(len(table), -1, np.int64)
    place[probes] = np.arange(len(probes))
    best, wanted = _without_probes(users, targets, histories, table, probes)  # (U, 10), (U,)
    of_probe = place[targets] >= 0
    centered = users @ (vectors - titles_mean).T  # (U, P)
    base = (users @ rows_mean)[:, None]
    for user, history in enumerate(histories):
        met = place[history]
        centered[user, met[met >= 0]] = -np.inf
    found: dict[float, NDArray[np.float64]] = {}
    for scale in SCALES:
        scores = centered * np.float32(scale) + base  # (U, P)
        goal = wanted.copy()
        goal[of_probe] = scores[of_probe, place[targets[of_probe]]]
        ranks = (best >= goal[:, None]).sum(1) + (scores >= goal[:, None]).sum(1)
        # the target itself is among one of the two; without the probes only the ten best are kept, which is enough
        found[scale] = ndcg(np.maximum(ranks, 1), _TOP)
    best_of_all = max(found.values(), key=lambda gains: float(gains.mean()))
    scale = max(scale for scale, gains in found.items() if _as_good(gains, best_of_all))
    shift = (rows_mean - np.float32(scale) * titles_mean).astype(np.float32)
    return Calibration(scale, shift, {scale: float(gains.mean()) for scale, gains in found.items()})


def _as_good(gains: NDArray[np.float64], best: NDArray[np.float64]) -> bool:
    """Whether the same users' gains (U,) are within one standard error of the best."""
    lost = best - gains
    return bool(lost.mean() <= lost.std() / np.sqrt(len(lost)))


def _without_probes(
    users: NDArray[np.float32],
    targets: NDArray[np.int64],
    histories: list[NDArray[np.int64]],
    table: NDArray[np.float32],
    probes: NDArray[np.int64],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The eleven best scores of each user's candidates that are no probes, and the target's score by its row."""
    n_best = min(_TOP + 1, len(table))
    best = np.empty((len(users), n_best), np.float32)
    wanted = np.einsum("ud,ud->u", users, table[targets]).astype(np.float32)
    for start in range(0, len(users), 256):
        some = slice(start, start + 256)
        scores = users[some] @ table.T
        scores[:, probes] = -np.inf
        for n, history in enumerate(histories[some]):
            scores[n, history] = -np.inf
        n_rows = np.arange(len(scores))
        goal = targets[some]
        own = ~np.isin(goal, probes)
        scores[n_rows[own], goal[own]] = wanted[some][own]  # the same sum, bit for bit
        best[some] = np.partition(scores, scores.shape[1] - n_best, axis=1)[:, -n_best:]
    return best, wanted
