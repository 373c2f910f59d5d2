"""The mixture: which experts a bundle ranks with on the device, and how much each counts before anything is learned.

Every expert scores an item by a dot product with a vector that follows from the user's history or feedback, so a
mixture of them is again one user vector a space, and costs no more to rank with than the model:

    own space, the model's item table e                        taste space, a second table f (optional)
    base          h, the model's user vector
    popularity    the bundle's prior user (fits log counts)
    recent_fast   m / rho, m <- .3 m + .7 a                     taste_fast
    recent_slow   m / rho, m <- .9 m + .1 a                     taste_slow
    recent_last   mean of the last three a, / rho               taste_last
    user_vector   u / rho, online softmax (`residual_user`)     taste_vector

with a the chosen items in units of their space (`item_space`), and

    score_i = e_i . (w X) + f_i . (w' Y)                        X, Y: the experts' vectors as rows

The weights are those of a multinomial logit over lists, fitted when the bundle is made, for each source of candidates:
the weight of popularity is about 0 over the catalogue and strongly negative where candidates were drawn by popularity.
The manifest holds them as `adaptation`:

    experts     their names: all of the own space, or all of both
    weights     {source: one number an expert}
    calibrated  {source: [base, popularity]}, fitted alone: what the gate falls back to
    variances   of each expert's scores within a list: what the size of a weight's step is measured by
    start       `model`, where it is missing: until the first feedback the ranking is the model's, exactly;
                `mixture`: the prior's mixture ranks from the first event of the history on

Without `adaptation` in the manifest: `base` and `user_vector`, and while nothing is learned the model exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BundleError

OWN_EXPERTS = ("base", "popularity", "recent_fast", "recent_slow", "recent_last", "user_vector")
TASTE_EXPERTS = ("taste_fast", "taste_slow", "taste_last", "taste_vector")
SOURCES = ("catalogue", "popularity")
"""Where candidates come from: all items (also any list of which nothing is known), or drawn by popularity."""
STARTS = ("model", "mixture")
"""What ranks before the first feedback."""


@dataclass(frozen=True, slots=True, eq=False)
class AdaptationPrior:
    """What the manifest says of the mixture."""

    experts: tuple[str, ...]
    """K names: `OWN_EXPERTS`, or these and `TASTE_EXPERTS`."""
    weights: dict[str, NDArray[np.float64]]
    """float64 (K,) by source."""
    calibrated: dict[str, NDArray[np.float64]]
    """float64 (2,) by source: of base and popularity."""
    variances: NDArray[np.float64]
    """float64 (K,)."""
    start: str = "model"
    """One of `STARTS`."""

    @property
    def has_taste(self) -> bool:
        return len(self.experts) > len(OWN_EXPERTS)


def read_prior(manifest: dict[str, Any], path: Any) -> AdaptationPrior | None:
    """The prior of a bundle; None where it has none.

    Raises:
        BundleError: of another shape than this pocketrec writes, or with an expert it does not know.
    """
    described = manifest.get("adaptation")
    if described is None:
        return None
    try:
        experts = tuple(described["experts"])
        weights = {source: np.array(described["weights"][source], np.float64) for source in SOURCES}
        calibrated = {source: np.array(described["calibrated"][source], np.float64) for source in SOURCES}
        variances = np.array(described["variances"], np.float64)
        start = described.get("start", "model")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"{path}: the manifest's `adaptation` is not one that pocketrec writes ({error!r}); export the bundle again"
        ) from None
    if experts not in (OWN_EXPERTS, OWN_EXPERTS + TASTE_EXPERTS):
        raise BundleError(
            f"{path}: experts {', '.join(map(str, experts))}; this pocketrec knows {', '.join(OWN_EXPERTS + TASTE_EXPERTS)}; upgrade pocketrec"
        )
    if start not in STARTS:
        raise BundleError(
            f"{path}: adaptation starts as {start!r}, this pocketrec knows {', '.join(STARTS)}; upgrade pocketrec"
        )
    numbers = (*weights.values(), *calibrated.values(), variances)
    fits = all(values.shape == (len(experts),) for values in (*weights.values(), variances))
    fits &= all(values.shape == (2,) for values in calibrated.values())
    if not fits or not all(np.isfinite(values).all() for values in numbers) or not (variances > 0).all():
        raise BundleError(
            f"{path}: the manifest's `adaptation` has numbers that do not fit its {len(experts)} experts; export the bundle again"
        )
    return AdaptationPrior(experts, weights, calibrated, variances, start)
