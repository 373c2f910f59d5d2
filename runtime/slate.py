"""A list, place by place: what is pinned, then what the policy chooses of the most useful candidates that are allowed.

Candidates stand on steps: first what is known and not dismissed, then what was dismissed, then what is unknown. A
candidate of a lower step takes a place only where no other of a higher step is allowed, so that neither diversity nor
chance brings up what would come last.

Utilities are in logits: with dials at 0 they are the logits themselves, and otherwise those of `rank_options` times the
range of the logits over the list, so that a temperature, or a posterior's deviation, means the same with any dial.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .category_terms import CategoryCap
from .diversity import Term
from .exploration import Policy

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Slate:
    """Which candidates were placed."""

    order: NDArray[np.int64]
    """int64 (K,), best first."""
    propensities: Floats
    """float64 (K,), 1 for what was pinned."""


def fill_slate(
    logits: Floats,
    steps: NDArray[np.int64],
    k: int,
    policy: Policy,
    *,
    first: Sequence[int] = (),
    terms: Sequence[tuple[float, Term]] = (),
    cap: CategoryCap | None = None,
) -> Slate:
    """Fill k places, fewer where nothing else is allowed.

    Args:
        logits: float64 (C,), finite.
        steps: int64 (C,): 0 before 1 before 2.
        first: candidates that take the first places.
        terms: with their dials, each from 0 to 1.

    >>> from .exploration import Greedy
    >>> fill_slate(np.array([1.0, 3.0, 2.0]), np.array([0, 1, 0]), 3, Greedy(), first=[0]).order.tolist()
    [0, 2, 1]
    """
    relevance, unit = _in_units(logits, steps, [dial for dial, _ in terms])
    left = np.ones(len(logits), bool)
    placed: list[int] = []
    propensities: list[float] = []

    def place(n: int, propensity: float) -> None:
        left[n] = False
        placed.append(n)
        propensities.append(propensity)
        if cap is not None:
            cap.place(n)
        for _, term in terms:
            term.place(n)

    for n in first[:k]:
        place(n, 1.0)
    while len(placed) < k:
        eligible = np.flatnonzero(left if cap is None else left & cap.allowed())
        if len(eligible) == 0:
            break
        on_step = steps[eligible]
        eligible = eligible[on_step == on_step.min()]
        utilities = relevance
        for dial, term in terms:
            utilities = utilities + (dial * unit) * term.values()
        place(*policy.choose(utilities, eligible, len(placed)))
    return Slate(np.array(placed, np.int64), np.array(propensities))


def _in_units(logits: Floats, steps: NDArray[np.int64], dials: Sequence[float]) -> tuple[Floats, float]:
    """What the score gives to the utility, float64 (C,), and what a term is multiplied by."""
    if not dials:
        return logits, 1.0
    judged = logits[steps == steps.min()] if len(steps) else logits
    span = float(np.ptp(judged)) if len(judged) else 0.0
    return logits * float(np.prod([1 - dial for dial in dials])), span or 1.0
