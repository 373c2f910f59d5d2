"""Fit the mixture's prior: how much each expert counts before the device has learned anything.

One question a user: after the history, the event that comes next, which the bundle has not seen. For each question a
list for each source of candidates, without what the user chose before: the event and

    popularity   99 others drawn by popularity            catalogue    255 others drawn evenly

(drawn evenly, the conditional softmax estimates the one over the catalogue: McFadden 1978). Weights maximize

    sum over lists of log softmax(Z w)[chosen] - l2 / 2 * |w - w_0|^2,     columns of Z in units of their deviation

by damped Newton steps. Experts are taken in nested sets and kept where they pay, judged by cross-fitting: weights fitted
on one half of the users, the likelihood of the other half, both ways. The user vectors are learned by nobody here (a
single event teaches nothing that another one could test): they have the weights that did best on replay.

Fitted on what the bundle may know of: with leave-one-out, sequences that end with the validation event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..export.scorer_graph import scorer_graph, scoring_block
from ..runtime.adaptation import OWN_EXPERTS, RECENT, SOURCES, TASTE_EXPERTS, AdaptationPrior
from ..runtime.bundle import Bundle, write_bundle
from ..runtime.engine import Engine
from ..runtime.errors import InputError
from ..runtime.item_space import ItemSpace
from ..runtime.item_table import QuantizedRows
from ..runtime.mixture import Mixture

Doubles = NDArray[np.float64]

N_POPULAR, N_EVEN = 99, 255
L2 = 4.0
"""A weight of one deviation is held towards its start as by a few lists; of hundreds of lists it is not felt."""
USER_VECTOR_WEIGHT = {False: 0.5, True: 0.25}
"""Without and with a taste space, for each user vector. Best on MovieLens-100K, from .25 to 1 within noise."""
PAYS = 1.64
"""Standard errors by which experts must raise the cross-fitted likelihood to be kept: one-sided, 5%."""
MIN_USERS = 50
"""Fewer cannot tell the weights of eight experts."""


@dataclass(frozen=True, slots=True)
class _Lists:
    """What weights are fitted on, for one source: the chosen item comes first."""

    features: Doubles
    """float64 (U, C, K)."""

    def select(self, experts: list[int]) -> Doubles:
        return self.features[:, :, experts]


def fit_adaptation_prior(
    engine: Engine,
    sequences: Sequence[NDArray[np.int64]],
    seed: int,
    *,
    taste: QuantizedRows | None = None,
    max_users: int = 4000,
) -> dict[str, Any] | None:
    """What the manifest says as `adaptation`; None where no expert pays, or too few users have two events.

    Args:
        engine: of the bundle, or of a draft of it.
        sequences: item rows, oldest first; the last event of each was not trained on, all others are known.
        taste: the taste table that the bundle will have.
        max_users: drawn with the seed.
    """
    usable = [sequence for sequence in sequences if len(sequence) >= 2]
    if len(usable) < MIN_USERS:
        return None
    rng = np.random.default_rng(seed)
    if len(usable) > max_users:
        usable = [usable[n] for n in np.sort(rng.choice(len(usable), max_users, replace=False))]
    spaces = [ItemSpace.of(engine.table)] + ([] if taste is None else [ItemSpace.of(taste)])
    counts = np.bincount(np.concatenate([s[:-1] for s in sequences if len(s)]), minlength=engine.n_items)
    experts = (*OWN_EXPERTS, *(TASTE_EXPERTS if taste is not None else ()))
    lists = _lists(engine, spaces, experts, usable, counts, rng)
    fitted = [n for n, name in enumerate(experts) if not name.endswith("_vector")]
    sets = _nested_sets(experts)
    steps = _judge(lists, sets)
    kept = max((n for n, step in enumerate(steps) if step["kept"]), default=None)
    if kept is None:
        return None
    chosen = sets[kept]
    with_taste = any(experts[n] in TASTE_EXPERTS for n in chosen)
    names = [
        n
        for n in range(len(experts))
        if n in chosen or (n not in fitted and (with_taste or n < len(OWN_EXPERTS)))
    ]
    variances = np.mean([found.features.var(axis=1).mean(axis=0) for found in lists.values()], axis=0)
    weights: dict[str, list[float]] = {}
    calibrated: dict[str, list[float]] = {}
    for source, found in lists.items():
        fit = dict(zip(chosen, fit_weights(found.select(chosen)).tolist(), strict=True))
        weights[source] = [round(fit.get(n, USER_VECTOR_WEIGHT[with_taste]), 5) for n in names]
        calibrated[source] = fit_weights(found.select([0, 1])).round(5).tolist()
    described: dict[str, Any] = {
        "experts": [experts[n] for n in names],
        "weights": weights,
        "calibrated": calibrated,
        "variances": [1.0 if n not in fitted else float(f"{max(variances[n], 1e-12):.5g}") for n in names],
        "fitted_on": {"users": len(usable), "seed": seed, "sets": steps},
    }
    if with_taste and taste is not None:
        described["taste"] = {**taste.describe(), "block": scoring_block(taste.width)}
    return described


def write_adapted(
    draft: str,
    path: str,
    adaptation: dict[str, Any] | None,
    taste: QuantizedRows | None,
    *,
    overwrite: bool = False,
) -> int:
    """Copy a bundle with the prior, and the taste table if the prior uses it; returns the size in bytes."""
    bundle = Bundle.open(draft)
    manifest = {
        name: value for name, value in bundle.manifest.items() if name not in ("parts", "format_version")
    }
    parts: dict[str, Any] = {part["name"]: bundle.part(part["name"]) for part in bundle.manifest["parts"]}
    if adaptation is not None:
        manifest["adaptation"] = adaptation
        if "taste" in adaptation:
            if taste is None:
                raise InputError("write_adapted: the prior uses a taste table, and none is given")
            parts |= {
                "taste_codes": taste.codes,
                "taste_scales": taste.scales,
                "taste_scorer.onnx": scorer_graph(taste).SerializeToString(),
            }
    return write_bundle(path, manifest, parts, overwrite=overwrite)


def fit_weights(features: Doubles, *, start: Doubles | None = None) -> Doubles:
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


def _nested_sets(experts: tuple[str, ...]) -> list[list[int]]:
    """Indices of ever more experts: base and popularity with the recent ones, then with the tastes."""
    own = [n for n, name in enumerate(experts) if name in OWN_EXPERTS and name != "user_vector"]
    taste = [n for n, name in enumerate(experts) if name in TASTE_EXPERTS and name != "taste_vector"]
    return [own, own + taste] if taste else [own]


def _judge(lists: dict[str, _Lists], sets: list[list[int]]) -> list[dict[str, Any]]:
    """Whether each set pays over the last one that did, at the beginning base and popularity."""
    best = {source: _cross_fitted(found.select([0, 1])) for source, found in lists.items()}
    steps: list[dict[str, Any]] = []
    for experts in sets:
        likelihoods = {source: _cross_fitted(found.select(experts)) for source, found in lists.items()}
        gains = {source: likelihoods[source] - best[source] for source in lists}
        errors = {source: gain.std() / np.sqrt(len(gain)) for source, gain in gains.items()}
        kept = all(gains[s].mean() > PAYS * errors[s] for s in lists)
        step = {"experts": len(experts), "kept": bool(kept)}
        step |= {f"gain_{s}": round(float(gains[s].mean()), 5) for s in lists}
        step |= {f"error_{s}": round(float(errors[s]), 5) for s in lists}
        steps.append(step)
        if kept:
            best = likelihoods
    return steps


def _cross_fitted(features: Doubles) -> Doubles:
    """Log-likelihood of each user's choice under weights fitted on the other half of the users: float64 (U,)."""
    likelihood = np.empty(len(features))
    for half in range(2):
        held_out = np.arange(len(features)) % 2 == half
        q = _probabilities(features[held_out] @ fit_weights(features[~held_out]))
        likelihood[held_out] = np.log(np.maximum(q[:, 0], 1e-30))
    return likelihood


def _lists(
    engine: Engine,
    spaces: list[ItemSpace],
    experts: tuple[str, ...],
    sequences: list[NDArray[np.int64]],
    counts: NDArray[np.int64],
    rng: np.random.Generator,
) -> dict[str, _Lists]:
    """One list a user and source, with the features that the mixture itself makes."""
    blank = np.zeros(len(experts))
    prior = AdaptationPrior(experts, dict.fromkeys(SOURCES, blank), {}, np.ones(len(experts)))
    mixture = Mixture(spaces, engine.prior(), prior)
    log_counts = np.log(counts + 0.5)
    sizes = {"popularity": N_POPULAR, "catalogue": N_EVEN}
    features: dict[str, list[Doubles]] = {source: [] for source in SOURCES}
    for sequence in sequences:
        history, target = sequence[:-1], int(sequence[-1])
        recent = [space.table.lookup(history[-RECENT:]) for space in spaces]
        columns = mixture.columns(engine.encode(history[None, -engine.max_length :])[0], recent)
        taken = np.append(np.unique(history), target)
        n_free = engine.n_items - len(np.unique(taken))
        for source in SOURCES:
            keys = rng.gumbel(size=engine.n_items) + (log_counts if source == "popularity" else 0.0)
            keys[taken] = -np.inf
            n = min(sizes[source], n_free)
            others = np.argpartition(-keys, n - 1)[:n]
            rows = np.append(target, np.resize(others, sizes[source]))  # a tiny catalogue repeats itself
            blocks = [
                space.table.lookup(rows) @ block
                for space, block in zip(spaces, columns.of_space, strict=True)
            ]
            features[source].append(np.concatenate(blocks, axis=1).astype(np.float64))
    return {source: _Lists(np.stack(found)) for source, found in features.items()}


def _probabilities(logits: Doubles) -> Doubles:
    q = np.exp(logits - logits.max(axis=1, keepdims=True))
    return q / q.sum(axis=1, keepdims=True)
