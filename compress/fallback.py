"""When a recipe's result loses more than it may on the validation items, something gentler is taken.

Pruning and few bits are worth their bytes where data suffice. Where they do not, the teacher itself with more bits a value
is the safer bundle: rounded so that scores stay (`rounding_for_users`), or distilled without being cut. Candidates are
made one after the other, and the first that passes is taken:

    the recipe's own;   the teacher in 4 bits;   the teacher distilled into 4 bits;   the teacher in 8 bits

A candidate passes where the mean over users of

    difference = NDCG@10 of the candidate - (1 - max_drop) * NDCG@10 of the teacher

is at least its own standard error. The margin is there since validation chooses: what looks equal on few users may have
been lucky, above all the best of several epochs (Breiman et al. 1984, "Classification and Regression Trees", section
3.4.3, use one standard error for the same reason). With many users it vanishes. Where none passes, the one with the
highest such mean less its error is taken, and the step says so.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..export.encoder_int8 import EncoderForm
from .models.protocol import SequenceModel
from .report import Measure
from .table_form import TableForm

ROUNDED_BITS = (4, 8)
"""Of the teacher's table, smallest first."""
RETRAINED_BITS = 4
"""Of the teacher's table where it is distilled, in minutes, because rounding alone does not pass."""

MOST_GUARDED = 0.99
"""A guard's `max_drop` is below 1; a budget that allows more allows anything."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GuardConfig:
    """What a recipe may lose before something gentler is taken."""

    max_drop: float = 0.01
    """Largest relative loss of NDCG@10 (or `--metric`) on the validation items: 0.01 is 1%."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_drop < 1:
            raise ValueError(f"guard: max_drop {self.max_drop}, expected 0 to below 1")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model as it would be deployed."""

    name: str
    model: SequenceModel
    bits: TableForm | None
    """Of the table, or its tiers; None is float32."""
    form: EncoderForm
    for_users: bool
    """Whether its table is rounded so that scores stay, or to the nearest levels that it learned around."""
    measure: Measure
    gains: NDArray[np.float64]
    """NDCG@10 of each validation user: (U,)."""


def margin(gains: NDArray[np.float64], teacher: NDArray[np.float64], max_drop: float) -> float:
    """The mean difference above less its standard error; at least 0 passes.

    >>> teacher = np.array([0.0, 0.5, 1.0, 0.5])
    >>> as_good_on_average = teacher + [0.2, -0.2, 0.2, -0.2]
    >>> margin(as_good_on_average, teacher, max_drop=0.01) < 0 < margin(teacher, teacher, max_drop=0.01)
    True
    """
    difference = gains - (1 - max_drop) * teacher
    if len(difference) < 2:
        return float(difference.sum())
    return float(difference.mean() - difference.std(ddof=1) / math.sqrt(len(difference)))


def fall_back(
    own: Candidate,
    teacher_gains: NDArray[np.float64],
    config: GuardConfig,
    gentler: Sequence[Callable[[], Candidate]],
    *,
    max_bytes: int | None = None,
) -> tuple[Candidate, dict[str, Any]]:
    """The recipe's own result, or something gentler, and what was tried.

    Args:
        gentler: what else there is, in the order in which it is tried; made when it is its turn.
        max_bytes: what is larger is not taken in place of the recipe's own; None is no limit.
    """
    tried, margins = [own], [margin(own.gains, teacher_gains, config.max_drop)]
    for make in gentler:
        if margins[-1] >= 0:
            break
        candidate = make()
        if max_bytes is not None and candidate.measure.size_bytes > max_bytes:
            continue
        tried.append(candidate)
        margins.append(margin(candidate.gains, teacher_gains, config.max_drop))
    best = len(tried) - 1 if margins[-1] >= 0 else int(np.argmax(margins))
    return tried[best], {
        "chosen": tried[best].name,
        "passed": margins[best] >= 0,
        "max_drop": config.max_drop,
        "tried": [_described(one, float(teacher_gains.mean())) for one in tried],
    }


def _described(candidate: Candidate, teacher_ndcg10: float) -> dict[str, Any]:
    kept = candidate.measure.ndcg10 / teacher_ndcg10 if teacher_ndcg10 > 0 else None
    return {"name": candidate.name, "bytes": candidate.measure.size_bytes, "kept": kept}
