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
    fresh       weights and calibrated once more, for a history that the model was not trained on; may be missing
    variances   of each expert's scores within a list: what the size of a weight's step is measured by
    start       `model`, where it is missing: until the first feedback the ranking is the model's, exactly;
                `mixture`: the prior's mixture ranks from the first event of the history on

A model is surer of a history that it was trained on than it has reason to be of any other. Events that were learned on the
device are none of those, so with n of them among the last m events

    w = weights + f (fresh - weights),   f = min(1, n / m)      (`freshness`)

and likewise the calibrated ones. How far `fresh` lies from `weights` also says in which direction people differ most: along
it, and along nothing else, a user's own weights may move quickly (`AdaptationPrior.first_covariance`).

Without `adaptation` in the manifest: `base` and `user_vector`, and while nothing is learned the model exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BundleError

OWN_EXPERTS = ("base", "popularity", "recent_fast", "recent_slow", "recent_last", "user_vector")
TASTE_EXPERTS = ("taste_fast", "taste_slow", "taste_last", "taste_vector")
SOURCES = ("catalogue", "popularity")
"""Where candidates come from: all items (also any list of which nothing is known), or drawn by popularity."""
SPREAD = 0.5
"""How far users differ along fresh - weights, in units of its length. On an earlier era of MovieLens-100K than any that a figure
is reported of, catalogue, NDCG@10 over the frozen model: +33% with 0 and .5, +32% with 1; where the validation events had been
trained on by mistake, so that the prior trusts the model too much, 24% with 0, 31% with .5, 30% with 1, 28% with 2."""
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
    fresh_weights: dict[str, NDArray[np.float64]] = field(default_factory=dict[str, NDArray[np.float64]])
    """As `weights`, for a history that the model was not trained on; empty where the manifest does not say."""
    fresh_calibrated: dict[str, NDArray[np.float64]] = field(default_factory=dict[str, NDArray[np.float64]])
    """As `calibrated`."""
    _rows: dict[tuple[str, float], NDArray[np.float32]] = field(
        init=False, repr=False, default_factory=dict[tuple[str, float], NDArray[np.float32]]
    )

    def weights_at(self, source: str, fresh: float) -> NDArray[np.float64]:
        """float64 (K,), where `freshness` is `fresh`."""
        return _between(self.weights[source], self.fresh_weights.get(source), fresh)

    def calibrated_at(self, source: str, fresh: float) -> NDArray[np.float64]:
        """float64 (2,), of base and popularity alone."""
        return _between(self.calibrated[source], self.fresh_calibrated.get(source), fresh)

    def rows_at(self, source: str, fresh: float) -> NDArray[np.float32]:
        """`weights_at` and `calibrated_at` (0 for the other experts), float32 (2, K), for a product; not to be changed."""
        rows = self._rows.get((source, fresh))
        if rows is None:
            rows = np.zeros((2, len(self.experts)), np.float32)
            rows[0], rows[1, :2] = self.weights_at(source, fresh), self.calibrated_at(source, fresh)
            if fresh in (0.0, 1.0):  # what is between them comes but once
                self._rows[source, fresh] = rows
        return rows

    def first_covariance(self, n_events: float) -> NDArray[np.float64]:
        """P_0 = H_0^-1 of `kalman_step`, float64 (K, K): as if `n_events` had been seen, but few along fresh - weights.

        diag(1 / (n_events variances)) + SPREAD^2 mean over sources of d d', d = fresh - weights.
        """
        covariance = np.diag(1.0 / (n_events * self.variances))
        for source, fresh in self.fresh_weights.items():
            difference = SPREAD * (fresh - self.weights[source])
            covariance += np.outer(difference, difference) / len(self.fresh_weights)
        return covariance

    @property
    def has_taste(self) -> bool:
        return len(self.experts) > len(OWN_EXPERTS)


def freshness(n_learned: int, n_recent: int) -> float:
    """f: of the last `n_recent` events, the share that the model cannot have been trained on.

    >>> freshness(3, 50), freshness(3, 3), freshness(0, 0)
    (0.06, 1.0, 0.0)
    """
    return min(1.0, n_learned / max(n_recent, 1))


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
        told = described.get("fresh")
        fresh: list[dict[str, NDArray[np.float64]]] = [
            {} if told is None else {source: np.array(told[name][source], np.float64) for source in SOURCES}
            for name in ("weights", "calibrated")
        ]
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
    of_experts = (*weights.values(), *fresh[0].values(), variances)
    of_two = (*calibrated.values(), *fresh[1].values())
    numbers = (*of_experts, *of_two)
    fits = all(values.shape == (len(experts),) for values in of_experts)
    fits &= all(values.shape == (2,) for values in of_two)
    if not fits or not all(np.isfinite(values).all() for values in numbers) or not (variances > 0).all():
        raise BundleError(
            f"{path}: the manifest's `adaptation` has numbers that do not fit its {len(experts)} experts; export the bundle again"
        )
    return AdaptationPrior(experts, weights, calibrated, variances, start, *fresh)


def _between(
    known: NDArray[np.float64], fresh: NDArray[np.float64] | None, share: float
) -> NDArray[np.float64]:
    return known if fresh is None or share == 0.0 else known + share * (fresh - known)
