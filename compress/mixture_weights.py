"""Weights of experts, from lists that people chose from: fitted by likelihood, judged by what they rank.

Weights maximize the likelihood of the choices, columns of Z in units of their deviation,

    sum over lists of log softmax(Z w)[chosen] - l2 / 2 * |w - w_0|^2

by damped Newton steps, once for each kind of history (`choice_lists`).

Sets of experts are taken in turn: the base, with popularity, with recency means, with the taste space. All figures are
cross-fitted: weights from one half of the users, figures of the other half, both ways; means over a user's lists of both
kinds. A set is kept for a source where its log-likelihood is above that of the best so far, with the 95% interval, unless
its NDCG@10 is below, with the interval: the likelihood tells sets apart with a tenth of the users that NDCG@10 needs (of 500
lists of the catalogue the interval of a gain is 15% wide), but does not say what a list is worth. The taste space, which
costs bytes, is shipped where it is kept and gains at least `WORTH_BYTES` for some source. Experts that are not kept weigh 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..benchmarks.ranking_metrics import Interval, paired_bootstrap
from ..runtime.adaptation import OWN_EXPERTS, TASTE_EXPERTS

Doubles = NDArray[np.float64]
Rows = NDArray[np.int64]

L2 = 4.0
"""A weight of one deviation is held towards its start as by a few lists; of hundreds of lists it is not felt."""
LARGEST_VECTOR_WEIGHT = 1.0
"""Of a user vector: beyond it the steps of online softmax are too long on any data that we measured."""
WORTH_BYTES = 2.0
"""Percent of NDCG@10 over the best without it."""


def fit_weights(features: Doubles) -> Doubles:
    """Weights of the multinomial logit: features (U, C, K), the chosen item first -> float64 (K,).

    >>> rng = np.random.default_rng(0)
    >>> z = rng.standard_normal((4000, 10, 2))
    >>> choice = (z @ [1.0, -0.5] + rng.gumbel(size=(4000, 10))).argmax(axis=1)
    >>> z[np.arange(4000), choice], z[:, 0] = z[:, 0].copy(), z[np.arange(4000), choice].copy()
    >>> bool(np.abs(fit_weights(z) - [1.0, -0.5]).max() < 0.1)
    True
    """
    deviation = np.sqrt(np.maximum(features.var(axis=1).mean(axis=0), 1e-12))
    z = features / deviation
    held = np.zeros(z.shape[2])
    held[0] = 1.0  # the base alone, at a deviation of 1
    weights = held.copy()
    for _ in range(30):
        q = _probabilities(z @ weights)
        mean = np.einsum("uc,uck->uk", q, z)
        gradient = (z[:, 0] - mean).sum(axis=0) - L2 * (weights - held)
        second = np.einsum("uck,ucl->kl", z * q[:, :, None], z, optimize=True) - mean.T @ mean
        step = np.linalg.solve(second + L2 * np.eye(len(weights)), gradient)
        length = float(np.linalg.norm(step))
        weights = weights + step * min(
            1.0, 2.0 / max(length, 1e-12)
        )  # damped: a far first step may overshoot
        if length < 1e-6:
            break
    return weights / deviation


@dataclass(frozen=True, slots=True, eq=False)
class Choices:
    """L lists of one source and one kind of history, and what was chosen from them."""

    users: Rows
    """int64 (L,): whose."""
    features: Doubles
    """Z, float64 (L, C, K), the chosen item first."""

    def of_experts(self, experts: Sequence[int]) -> Choices:
        return Choices(self.users, self.features[:, :, experts])

    @classmethod
    def joined(cls, several: Sequence[Choices]) -> Choices:
        return cls(
            np.concatenate([choices.users for choices in several]),
            np.concatenate([choices.features for choices in several]),
        )


def judge(
    kinds: Sequence[Choices], names: tuple[str, ...], seed: int
) -> tuple[list[int], list[dict[str, Any]]]:
    """Which experts pay, user vectors apart, and what each set brought over the best so far.

    Of every set: its NDCG@10, and as `gain` the percent that the best has gained over the base so far.
    """
    own = [n for n, name in enumerate(names) if name in OWN_EXPERTS and not name.endswith("_vector")]
    taste = [n for n, name in enumerate(names) if name in TASTE_EXPERTS and not name.endswith("_vector")]
    sets = {"popularity": [0, 1], "recency": own} | ({"taste": own + taste} if taste else {})
    kept, base = [0], _cross_fitted(kinds, [0])
    best = base
    figures: list[dict[str, Any]] = [{"set": "base", "ndcg@10": round(float(base[0].mean()), 5)}]
    for name, experts in sets.items():
        found = _cross_fitted(kinds, experts)
        compared = paired_bootstrap(found[0], best[0], seed=seed)
        likelier = paired_bootstrap(found[1], best[1], seed=seed).difference.low > 0
        pays = likelier and compared.difference.high >= 0
        figures.append(
            {
                "set": name,
                "ndcg@10": round(float(found[0].mean()), 5),
                "percent_over_best": _percent(compared.ratio),
                "percent_over_base": _percent(paired_bootstrap(found[0], base[0], seed=seed).ratio),
                "log_likelihood_gain": round(float((found[1] - best[1]).mean()), 5),
                "kept": bool(pays),
            }
        )
        if pays:
            kept, best = experts, found
    return kept, figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """What the manifest says of one source."""

    weights: tuple[list[float], ...]
    """One number an expert, for each kind of history."""
    calibrated: tuple[list[float], ...]
    figures: list[dict[str, Any]]
    """What each set of experts brought."""
    pays: bool
    """Whether any expert beside the base is kept."""

    @property
    def is_taste_worth_its_bytes(self) -> bool:
        taste = self.figures[-1]
        return taste["set"] == "taste" and taste["kept"] and taste["percent_over_best"][0] >= WORTH_BYTES


def weigh(kinds: Sequence[Choices], names: tuple[str, ...], seed: int) -> Weighed:
    """Which experts pay, and their weights for each kind of history."""
    kept, figures = judge(kinds, names, seed)
    return Weighed(
        weights=tuple(with_useful_vectors(c.features, names, kept).round(5).tolist() for c in kinds),
        calibrated=tuple(calibrated_weights(c.features, kept).round(5).tolist() for c in kinds),
        figures=figures,
        pays=kept != [0],
    )


def weigh_own(kinds: Sequence[Choices], before: Weighed, seed: int) -> Weighed:
    """The same without the taste space, whose figures stay among the others, as rejected."""
    own = range(len(OWN_EXPERTS))
    weighed = weigh([choices.of_experts(own) for choices in kinds], OWN_EXPERTS, seed)
    return replace(weighed, figures=[*before.figures[:-1], {**before.figures[-1], "kept": False}])


def uses_taste(names: tuple[str, ...], experts: list[int]) -> bool:
    """Whether any of these experts looks at the taste space."""
    return any(names[n] in TASTE_EXPERTS for n in experts)


def with_useful_vectors(features: Doubles, names: tuple[str, ...], kept: list[int]) -> Doubles:
    """Weights, float64 (K,): those of user vectors between 0 and the largest, of what is not kept 0."""
    spaces = [OWN_EXPERTS] + ([TASTE_EXPERTS] if uses_taste(names, kept) else [])
    vectors = [
        n for n, name in enumerate(names) if name.endswith("_vector") and any(name in s for s in spaces)
    ]
    fitted = sorted({*kept, *vectors})
    while True:
        weights = np.zeros(len(names))
        weights[fitted] = fit_weights(features[:, :, fitted])
        useless = [n for n in fitted if n in vectors and weights[n] <= 0]
        if not useless:
            break
        fitted.remove(min(useless, key=lambda n: weights[n]))
    weights[vectors] = np.minimum(weights[vectors], LARGEST_VECTOR_WEIGHT)
    return weights


def calibrated_weights(features: Doubles, kept: list[int]) -> Doubles:
    """Weights of base and popularity alone, float64 (2,); popularity 0 where nothing but the base is kept."""
    if kept == [0]:
        return np.array([fit_weights(features[:, :, :1])[0], 0.0])
    return fit_weights(features[:, :, :2])


def _cross_fitted(kinds: Sequence[Choices], experts: list[int]) -> tuple[Doubles, Doubles]:
    """NDCG@10 and log-likelihood of each user under weights fitted on the other half of the users: float64 (U,) each."""
    users = np.concatenate([choices.users for choices in kinds])
    figures = np.concatenate([_of_lists(choices.of_experts(experts)) for choices in kinds], axis=1)
    _, of_user = np.unique(users, return_inverse=True)
    ndcg, likelihood = (np.bincount(of_user, values) / np.bincount(of_user) for values in figures)
    return ndcg, likelihood


def _of_lists(choices: Choices) -> Doubles:
    """NDCG@10 and log-likelihood of each list: float64 (2, L)."""
    found = np.empty((2, len(choices.users)))
    for half in range(2):
        held_out = choices.users % 2 == half
        scores = choices.features[held_out] @ fit_weights(choices.features[~held_out])
        found[0, held_out] = _ndcg_at_10(scores)
        found[1, held_out] = np.log(np.maximum(_probabilities(scores)[:, 0], 1e-30))
    return found


def _ndcg_at_10(scores: Doubles) -> Doubles:
    """Of the first item of each list, ties against it: float64 (U, C) -> (U,)."""
    ranks = (scores >= scores[:, :1]).sum(axis=1)
    return np.where(ranks <= 10, 1.0 / np.log2(ranks + 1.0), 0.0)


def _percent(ratio: Interval) -> list[float]:
    """[gain, low, high]; nothing where the other one ranks nobody's item, so that there is nothing to compare with."""
    percents = [100.0 * (value - 1.0) for value in (ratio.value, ratio.low, ratio.high)]
    return [round(percent, 2) for percent in percents] if np.isfinite(percents).all() else [0.0, 0.0, 0.0]


def _probabilities(logits: Doubles) -> Doubles:
    q = np.exp(logits - logits.max(axis=1, keepdims=True))
    return q / q.sum(axis=1, keepdims=True)
