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

    score_i = e_i . (X w) + f_i . (Y w')                        X, Y: the experts' vectors as columns

The weights are those of a multinomial logit over lists, fitted when the bundle is made, for each source of candidates:
the weight of popularity is about 0 over the catalogue and strongly negative where candidates were drawn by popularity.
The manifest holds them as `adaptation`:

    experts     names, `base` first
    weights     {source: one number an expert}
    calibrated  {source: [base, popularity]}, fitted alone: what the gate falls back to
    variances   of each expert's scores within a list: what the size of a weight's step is measured by

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
DEFAULT_EXPERTS = ("base", "user_vector")

RECENT = 64
"""Events that the means look back on; what is older weighs .9 ** 64, a thousandth."""
_FAST, _SLOW, _LAST = 0.3, 0.9, 3


def _recency() -> NDArray[np.float32]:
    """Weights of the last `RECENT` events, oldest first, in the three means: float32 (3, RECENT)."""
    age = np.arange(RECENT)[::-1]
    fast, slow = (1 - _FAST) * _FAST**age, (1 - _SLOW) * _SLOW**age
    return np.stack([fast, slow, (age < _LAST) / _LAST]).astype(np.float32)


_RECENCY = _recency()


@dataclass(frozen=True, slots=True, eq=False)
class AdaptationPrior:
    """What the manifest says of the mixture; K experts, in the order of `OWN_EXPERTS` and `TASTE_EXPERTS`."""

    experts: tuple[str, ...]
    weights: dict[str, NDArray[np.float64]]
    """float64 (K,) by source."""
    calibrated: dict[str, NDArray[np.float64]]
    """float64 (2,) by source: of base and popularity."""
    variances: NDArray[np.float64]
    """float64 (K,)."""

    @property
    def own(self) -> tuple[str, ...]:
        return tuple(name for name in self.experts if name in OWN_EXPERTS)

    @property
    def taste(self) -> tuple[str, ...]:
        return tuple(name for name in self.experts if name in TASTE_EXPERTS)


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
        unknown = [name for name in experts if name not in OWN_EXPERTS + TASTE_EXPERTS]
        if unknown:
            raise BundleError(
                f"{path}: expert {unknown[0]!r}, this pocketrec knows {', '.join(OWN_EXPERTS + TASTE_EXPERTS)}; upgrade pocketrec"
            )
        prior = AdaptationPrior(
            experts=experts,
            weights={source: np.array(described["weights"][source], np.float64) for source in SOURCES},
            calibrated={source: np.array(described["calibrated"][source], np.float64) for source in SOURCES},
            variances=np.array(described["variances"], np.float64),
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(
            f"{path}: the manifest's `adaptation` is not one that pocketrec writes ({error!r}); export the bundle again"
        ) from None
    _check(prior, path)
    return prior


def _check(prior: AdaptationPrior, path: Any) -> None:
    order = [name for name in OWN_EXPERTS + TASTE_EXPERTS if name in prior.experts]
    n_experts = len(prior.experts)
    fits = (
        list(prior.experts) == order
        and "base" in order
        and prior.variances.shape == (n_experts,)
        and bool((prior.variances > 0).all())
        and all(weights.shape == (n_experts,) for weights in prior.weights.values())
        and all(weights.shape == (2,) for weights in prior.calibrated.values())
        and all(
            np.isfinite(v).all()
            for v in (*prior.weights.values(), *prior.calibrated.values(), prior.variances)
        )
    )
    if not fits:
        raise BundleError(
            f"{path}: the manifest's `adaptation` has experts {prior.experts} and numbers that do not fit them; export the bundle again"
        )


def recency_weights(n: int) -> NDArray[np.float32]:
    """How much each of the last n events, oldest first, counts in the fast mean, the slow one, and the last three.

    A mean starts at 0, so a short history counts for less. n is at most `RECENT`; float32 (3, n).

    >>> recency_weights(2).round(2).tolist() == np.array([[0.21, 0.7], [0.09, 0.1], [0.5, 0.5]], "f").tolist()
    True
    """
    weights = _RECENCY[:, RECENT - n :]
    if 0 < n < _LAST:
        weights = weights * np.array([[1.0], [1.0], [_LAST / n]], np.float32)
    return weights
