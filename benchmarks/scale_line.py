"""How a cost grows: the straight line through its points, where it leaves that line, and where its slope changes.

    cost(size) = fixed + per_unit * size

fitted to the points by least squares of the relative errors, with neither part below zero: sizes span decades, and a line
that only minds the largest says nothing of the others. On logarithmic axes such a line bends at fixed / per_unit, where
both parts weigh the same: that bend is no knee. A knee is where the points are off the line by more than `TOLERANCE` and the
slope between neighbours changes by more than a factor of `KNEE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

Span = tuple[float, float]
TOLERANCE = 0.25
KNEE = 2.0
_GROWTH = 0.15
"""A step that changes the cost by less than this share of it has no slope to speak of."""


@dataclass(frozen=True, slots=True)
class Line:
    """A fitted line; `fixed` in the unit of the costs, `per_unit` in that by the unit of the sizes."""

    fixed: float
    per_unit: float
    deviations: tuple[float, ...]
    """Of each point: cost / line - 1."""

    @property
    def balanced_at(self) -> float | None:
        """The size at which both parts are the same; None where one of them is not there."""
        return self.fixed / self.per_unit if self.fixed > 0 and self.per_unit > 0 else None

    @property
    def largest_deviation(self) -> float:
        """The one of the largest magnitude."""
        return max(self.deviations, key=abs)


@dataclass(frozen=True, slots=True)
class Knee:
    """A change of slope."""

    at: float
    """The size."""
    before: float
    """The slope below, in cost by unit."""
    after: float


def fit_line(sizes: Sequence[float], costs: Sequence[float]) -> Line:
    """The line through at least two points, costs above zero.

    >>> line = fit_line([10, 100, 1000], [2.1, 3.0, 12.0])
    >>> round(line.fixed, 3), round(line.per_unit, 3), round(line.balanced_at)
    (2.0, 0.01, 200)
    """
    x, y = np.asarray(sizes, float), np.asarray(costs, float)
    columns = np.stack([1 / y, x / y], axis=1)  # relative errors: each equation divided by its cost
    one = np.ones(len(y))
    fixed, per_unit = np.linalg.lstsq(columns, one, rcond=None)[0].tolist()
    if fixed < 0 or per_unit < 0:
        only = int(fixed < 0)  # the column that is left
        alone = float(columns[:, only] @ one / (columns[:, only] @ columns[:, only]))
        fixed, per_unit = (0.0, alone) if only else (alone, 0.0)
    deviations = y / (fixed + per_unit * x) - 1
    return Line(fixed, per_unit, tuple(deviations.tolist()))


def find_knees(
    sizes: Sequence[float], costs: Sequence[float], line: Line, spans: Sequence[Span] | None = None
) -> list[Knee]:
    """Where the slope changes, of sizes in ascending order; none where all points are near the line.

    Args:
        spans: interval of each cost; neighbours whose intervals overlap are not told apart, and their slope is 0.

    >>> sizes, costs = [10, 50, 200, 1000], [1.1, 1.5, 1.5, 1.5]  # near a line that is flat
    >>> find_knees(sizes, costs, fit_line(sizes, costs))
    []
    >>> costs = [1.0, 5.0, 5.0, 5.0]
    >>> [(knee.at, knee.before, knee.after) for knee in find_knees(sizes, costs, fit_line(sizes, costs))]
    [(50, 0.1, 0.0)]
    """
    if abs(line.largest_deviation) <= TOLERANCE:
        return []
    points = list(zip(sizes, costs, spans or [(cost, cost) for cost in costs], strict=True))
    steps = [_step(a, b) for a, b in pairwise(points)]
    found: list[Knee] = []
    for at, (before, grew), (after, grows) in zip(sizes[1:-1], steps[:-1], steps[1:], strict=True):
        low, high = sorted((max(before, 0.0), max(after, 0.0)))
        if max(grew, grows) > _GROWTH and high > KNEE * low:
            found.append(Knee(at, before, after))
    return found


def _step(a: tuple[float, float, Span], b: tuple[float, float, Span]) -> tuple[float, float]:
    """Slope between two points, and the change of cost as a share of the first."""
    if max(a[2][0], b[2][0]) < min(a[2][1], b[2][1]):
        return 0.0, 0.0
    return (b[1] - a[1]) / (b[0] - a[0]), abs(b[1] - a[1]) / a[1]


def describe_growth(
    sizes: Sequence[float], costs: Sequence[float], spans: Sequence[Span] | None = None
) -> dict[str, Any]:
    """The line and the knees, ready for JSON."""
    line = fit_line(sizes, costs)
    return {
        "fixed": line.fixed,
        "per_unit": line.per_unit,
        "balanced_at": line.balanced_at,
        "largest_deviation": line.largest_deviation,
        "deviations": list(line.deviations),
        "knees": [
            {"at": knee.at, "slope_before": knee.before, "slope_after": knee.after}
            for knee in find_knees(sizes, costs, line, spans)
        ],
    }
