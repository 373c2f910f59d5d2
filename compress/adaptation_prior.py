"""Fit the mixture's prior: how much each expert counts before the device has learned anything.

One question a user: after the history, the event that comes next, which the bundle was not trained on. For each question a
list for each source of candidates, without what the user chose before:

    popularity   the event and 99 others drawn by popularity
    catalogue    the 200 items that the model ranks first; users whose event is not among them are left out

Weights maximize the likelihood of the choices, columns of Z in units of their deviation,

    sum over lists of log softmax(Z w)[chosen] - l2 / 2 * |w - w_0|^2

by damped Newton steps. The likelihood over the whole catalogue is another thing than its head: on Beauty it preferred
weights that lost 5% of NDCG@10, hence the lists of what comes first.

Sets of experts are taken in turn: the base, with popularity, with recency means, with the taste space. A set is kept for a
source where its NDCG@10 is better than that of the best so far, cross-fitted: weights from one half of the users, figures
of the other half, both ways. Experts that are not kept weigh 0.

For the user vectors each user first learns from the events before the question, as on the device. The model was trained
on those, so they surprise it less than new events will, and the vectors' weights come out low rather than high; where
such a weight is not above 0, what is learned by clicks does not help this model, and the weight is 0.

Fitted on what the bundle may know of: with leave-one-out, sequences that end with the validation event.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..export.scorer_graph import scorer_graph, scoring_block
from ..runtime.adaptation import OWN_EXPERTS, SOURCES, TASTE_EXPERTS, AdaptationPrior
from ..runtime.bundle import Bundle, write_bundle
from ..runtime.engine import Engine
from ..runtime.errors import InputError
from ..runtime.item_space import ItemSpace
from ..runtime.item_table import QuantizedRows
from ..runtime.mixture import Experts, Mixture
from ..runtime.recency import RECENT, Recency

Doubles = NDArray[np.float64]
Rows = NDArray[np.int64]

N_POPULAR = 99
N_FIRST = 200
"""Beyond it the model ranks a tenth of the events that it ranks at all, and no mixture brings them to the first ten."""
N_LEARNED = 10
"""Events before the question that a user learns from; most of what there is to gain, a user gains within them."""
L2 = 4.0
"""A weight of one deviation is held towards its start as by a few lists; of hundreds of lists it is not felt."""
LARGEST_VECTOR_WEIGHT = 1.0
"""Of a user vector: beyond it the steps of online softmax are too long on any data that we measured."""
PAYS = 1.64
"""Standard errors by which a set must raise the cross-fitted NDCG@10 to be kept: one-sided, 5%."""
MIN_USERS = 50
"""Fewer cannot tell the weights of eight experts."""


def fit_adaptation_prior(
    engine: Engine,
    sequences: Sequence[Rows],
    seed: int,
    *,
    taste: QuantizedRows | None = None,
    max_users: int = 3000,
) -> dict[str, Any] | None:
    """What the manifest says as `adaptation`; None where no expert pays, or too few users have two events.

    Args:
        engine: of the bundle, or of a draft of it.
        sequences: item rows, oldest first; the last event of each was not trained on, all others are known.
        taste: the taste table that the bundle will have; the result has `taste` if it pays.
        max_users: drawn with the seed; 10 to 30 seconds.
    """
    usable = [sequence for sequence in sequences if len(sequence) >= 2]
    if len(usable) < MIN_USERS:
        return None
    counts = np.bincount(np.concatenate([sequence[:-1] for sequence in usable]), minlength=engine.n_items)
    rng = np.random.default_rng(seed)
    if len(usable) > max_users:
        usable = [usable[n] for n in np.sort(rng.choice(len(usable), max_users, replace=False))]
    bench = _Bench(
        engine,
        [ItemSpace.of(table) for table in ((engine.table,) if taste is None else (engine.table, taste))],
    )
    questions = {
        "popularity": _drawn_by_popularity(usable, counts, rng),
        "catalogue": _first_of_the_catalogue(usable, engine),
    }
    if any(len(q.users) < MIN_USERS for q in questions.values()):
        return None
    experts = _experts_after_learning(bench, usable, rng)
    features = {source: bench.lists(experts, q) for source, q in questions.items()}
    kept, judged = {}, {}
    for source in SOURCES:
        kept[source], judged[source] = _judge(features[source], bench.names)
    if taste is not None and not any(_uses_taste(bench.names, kept[source]) for source in SOURCES):
        without = fit_adaptation_prior(engine, sequences, seed, max_users=max_users)
        if without is not None:
            without["fitted_on"]["sets"] = judged  # what the taste space would have brought
        return without
    if all(kept[source] == [0] for source in SOURCES):
        return None
    is_vector = np.array([name.endswith("_vector") for name in bench.names])
    variance = np.mean([z.var(axis=1).mean(axis=0) for z in features.values()], axis=0)
    described: dict[str, Any] = {
        "experts": list(bench.names),
        "weights": {
            s: _with_useful_vectors(features[s], bench.names, kept[s]).round(5).tolist() for s in SOURCES
        },
        "calibrated": {s: _calibrated(features[s], kept[s]).round(5).tolist() for s in SOURCES},
        "variances": [
            float(f"{v:.5g}") for v in np.where(is_vector, 1.0, np.maximum(variance, 1e-9)).tolist()
        ],
        "fitted_on": {
            "users": {source: len(q.users) for source, q in questions.items()},
            "seed": seed,
            "sets": judged,
        },
    }
    if taste is not None:
        described["taste"] = {**taste.describe(), "block": scoring_block(taste.width)}
    return described


def write_adapted(
    draft: str | os.PathLike[str],
    path: str | os.PathLike[str],
    adaptation: dict[str, Any] | None,
    taste: QuantizedRows | None = None,
    *,
    overwrite: bool = False,
) -> int:
    """Copy a bundle with the prior, and the taste table if the prior uses it; returns the size in bytes.

    Raises:
        InputError: the prior uses a taste table, and none is given.
        FileExistsError, OSError: as `write_bundle`.
    """
    bundle = Bundle.open(draft)
    manifest = {
        name: value for name, value in bundle.manifest.items() if name not in ("parts", "format_version")
    }
    parts: dict[str, Any] = {part["name"]: bundle.part(part["name"]) for part in bundle.manifest["parts"]}
    if adaptation is not None:
        manifest["adaptation"] = adaptation
        if "taste" in adaptation:
            if taste is None:
                raise InputError("write_adapted: the prior uses a taste table, and none is given; pass it")
            parts |= {
                "taste_codes": taste.codes,
                "taste_scales": taste.scales,
                "taste_scorer.onnx": scorer_graph(taste).SerializeToString(),
            }
    return write_bundle(path, manifest, parts, overwrite=overwrite)


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


class _Bench:
    """An engine and the spaces of a mixture: makes the experts of any history."""

    def __init__(self, engine: Engine, spaces: list[ItemSpace]) -> None:
        self.engine = engine
        self.spaces = spaces
        self.names = OWN_EXPERTS + (TASTE_EXPERTS if len(spaces) == 2 else ())
        self._recency = [Recency(space) for space in spaces]

    def experts(self, mixture: Mixture, history: Rows) -> Experts:
        recent = history[-RECENT:]
        means = [
            r.means(space.table.lookup(recent)) for r, space in zip(self._recency, self.spaces, strict=True)
        ]
        user = self.engine.encode(history[None, -self.engine.max_length :])[0]
        return mixture.experts(user, means, len(recent))

    def lists(self, experts: list[Experts], questions: _Questions) -> Doubles:
        """Z of each list, the chosen item first: float64 (U, C, K)."""
        return np.stack(
            [
                self.features(experts[user], rows)
                for user, rows in zip(questions.users, questions.rows, strict=True)
            ]
        )

    def features(self, experts: Experts, rows: Rows) -> Doubles:
        """float64 (C, K)."""
        products = [
            space.table.lookup(rows) @ block.T
            for space, block in zip(self.spaces, experts.of_space, strict=True)
        ]
        return np.concatenate(products, axis=1, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Questions:
    """Lists of one source."""

    users: Rows
    """int64 (U,), which of the sequences."""
    rows: Rows
    """int64 (U, C), the chosen item first."""


def _drawn_by_popularity(sequences: list[Rows], counts: Rows, rng: np.random.Generator) -> _Questions:
    chances = np.cumsum(counts + 0.5, dtype=np.float64)
    rows = np.stack([draw_list(rng, chances, sequence, N_POPULAR) for sequence in sequences])
    return _Questions(np.arange(len(sequences)), rows)


def _first_of_the_catalogue(sequences: list[Rows], engine: Engine) -> _Questions:
    count = min(N_FIRST, engine.n_items // 2)
    users: list[int] = []
    lists: list[Rows] = []
    for user, sequence in enumerate(sequences):
        vector = engine.encode(sequence[None, :-1][:, -engine.max_length :])[0]
        history = np.setdiff1d(sequence[:-1], sequence[-1:])
        first, _ = engine.top_k(vector, count, history)
        if len(first) == count and sequence[-1] in first:
            users.append(user)
            lists.append(np.append(sequence[-1], first[first != sequence[-1]]))
    return _Questions(np.array(users, np.int64), np.array(lists, np.int64).reshape(len(users), -1))


def draw_list(rng: np.random.Generator, chances: Doubles, sequence: Rows, n_others: int) -> Rows:
    """The last item of a sequence, then `n_others` that are not in it: int64 (1 + n_others,).

    `chances` is cumulative, (N,). An item may come twice where few are left; only where none is, one of the sequence.
    """
    taken = np.zeros(len(chances), np.bool_)
    taken[sequence] = True
    drawn = np.searchsorted(chances, rng.random(4 * n_others) * chances[-1], side="right")
    others = drawn[~taken[drawn]]
    if len(others) < n_others:
        free = np.flatnonzero(~taken)
        others = np.append(others, rng.choice(free if len(free) else np.arange(len(chances)), n_others))
    return np.append(sequence[-1], others[:n_others]).astype(np.int64)


def _experts_after_learning(bench: _Bench, sequences: list[Rows], rng: np.random.Generator) -> list[Experts]:
    """The experts' vectors at each question, after the user learned from the events before it."""
    even = np.arange(1.0, bench.engine.n_items + 1)
    n_experts = len(bench.names)
    base_alone = AdaptationPrior(
        bench.names,
        dict.fromkeys(SOURCES, np.eye(1, n_experts)[0]),
        dict.fromkeys(SOURCES, np.eye(1, 2)[0]),
        np.ones(n_experts),
    )
    experts: list[Experts] = []
    for sequence in sequences:
        mixture = Mixture(bench.spaces, bench.engine.prior(), base_alone)
        for n in range(max(1, len(sequence) - 1 - N_LEARNED), len(sequence) - 1):
            rows = draw_list(rng, even, sequence[: n + 1], N_POPULAR)
            items = [space.table.lookup(rows) for space in bench.spaces]
            added = np.zeros(len(rows), np.float32)
            mixture.learn_(bench.experts(mixture, sequence[:n]), "catalogue", items, added, 0, chosen=True)
        experts.append(bench.experts(mixture, sequence[:-1]))
    return experts


def _judge(features: Doubles, names: tuple[str, ...]) -> tuple[list[int], list[dict[str, Any]]]:
    """Which experts pay, user vectors apart, and what each set brought: NDCG@10 over the best so far."""
    own = [n for n, name in enumerate(names) if name in OWN_EXPERTS and not name.endswith("_vector")]
    taste = [n for n, name in enumerate(names) if name in TASTE_EXPERTS and not name.endswith("_vector")]
    sets = {"popularity": [0, 1], "recency": own} | ({"taste": own + taste} if taste else {})
    kept, best = [0], _ndcg_at_10(features[:, :, 0])
    figures: list[dict[str, Any]] = [{"set": "base", "ndcg@10": round(float(best.mean()), 5)}]
    for name, experts in sets.items():
        found = _cross_fitted(features[:, :, experts])
        gain = found - best
        error = float(gain.std() / np.sqrt(len(gain)))
        pays = bool(gain.mean() > PAYS * error)
        figures.append(
            {
                "set": name,
                "ndcg@10": round(float(found.mean()), 5),
                "error_of_gain": round(error, 5),
                "kept": pays,
            }
        )
        if pays:
            kept, best = experts, found
    return kept, figures


def _uses_taste(names: tuple[str, ...], experts: list[int]) -> bool:
    return any(names[n] in TASTE_EXPERTS for n in experts)


def _with_useful_vectors(features: Doubles, names: tuple[str, ...], kept: list[int]) -> Doubles:
    """Weights, float64 (K,): those of user vectors between 0 and the largest, of what is not kept 0."""
    spaces = [OWN_EXPERTS] + ([TASTE_EXPERTS] if _uses_taste(names, kept) else [])
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


def _calibrated(features: Doubles, kept: list[int]) -> Doubles:
    """Weights of base and popularity alone, float64 (2,); popularity 0 where nothing but the base is kept."""
    if kept == [0]:
        return np.array([fit_weights(features[:, :, :1])[0], 0.0])
    return fit_weights(features[:, :, :2])


def _cross_fitted(features: Doubles) -> Doubles:
    """NDCG@10 of each user under weights fitted on the other half of the users: float64 (U,)."""
    found = np.empty(len(features))
    for half in range(2):
        held_out = np.arange(len(features)) % 2 == half
        found[held_out] = _ndcg_at_10(features[held_out] @ fit_weights(features[~held_out]))
    return found


def _ndcg_at_10(scores: Doubles) -> Doubles:
    """Of the first item of each list, ties against it: float64 (U, C) -> (U,)."""
    ranks = (scores >= scores[:, :1]).sum(axis=1)
    return np.where(ranks <= 10, 1.0 / np.log2(ranks + 1.0), 0.0)


def _probabilities(logits: Doubles) -> Doubles:
    q = np.exp(logits - logits.max(axis=1, keepdims=True))
    return q / q.sum(axis=1, keepdims=True)
