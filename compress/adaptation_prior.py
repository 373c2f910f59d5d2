"""Fit the mixture's prior: how much each expert counts before the device has learned anything.

One question a user: after the history, the event that comes next, which the bundle was not trained on. For each question a
list for each source of candidates (`choice_lists`); the weights, and which experts pay, follow from what was chosen from
them (`mixture_weights`).

For the user vectors each user first learns from the events before the question, as on the device. The model was trained
on those, so they surprise it less than new events will, and the vectors' weights come out low rather than high; where
such a weight is not above 0, what is learned by clicks does not help this model, and the weight is 0.

Fitted on what the bundle may know of: with leave-one-out, sequences that end with the validation event.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..export.scorer_graph import scoring_block
from ..runtime.adaptation import OWN_EXPERTS, SOURCES, TASTE_EXPERTS, AdaptationPrior
from ..runtime.engine import Engine
from ..runtime.item_space import ItemSpace
from ..runtime.item_spaces import ItemSpaces
from ..runtime.item_table import QuantizedRows
from ..runtime.mixture import Experts, Mixture
from ..runtime.recency import RECENT
from .choice_lists import (
    N_POPULAR,
    ChoiceLists,
    Doubles,
    Rows,
    draw_list,
    encode_all,
    lists_by_popularity,
    lists_of_the_first,
)
from .mixture_weights import calibrated_weights, judge, with_useful_vectors, worth_bytes

N_LEARNED = 10
"""Events before the question that a user learns from; most of what there is to gain, a user gains within them."""
MIN_USERS = 50
"""Fewer cannot tell the weights of eight experts."""


def fit_adaptation_prior(
    engine: Engine,
    sequences: Sequence[Rows],
    seed: int,
    *,
    taste: QuantizedRows | None = None,
    max_users: int = 3000,
    keep_repeats: bool = False,
) -> dict[str, Any] | None:
    """What the manifest says as `adaptation`; None where no expert pays, or too few users have two events.

    Args:
        engine: of the bundle, or of a draft of it.
        sequences: item rows, oldest first; the last event of each was not trained on, all others are known.
        taste: the taste table that the bundle will have; the result has `taste` if it pays.
        max_users: drawn with the seed; 10 to 30 seconds.
        keep_repeats: items of the history are candidates too.
    """
    usable = [sequence for sequence in sequences if len(sequence) >= 2]
    if len(usable) < MIN_USERS:
        return None
    counts = np.bincount(np.concatenate([sequence[:-1] for sequence in usable]), minlength=engine.n_items)
    rng = np.random.default_rng(seed)
    if len(usable) > max_users:
        usable = [usable[n] for n in np.sort(rng.choice(len(usable), max_users, replace=False))]
    tables = (engine.table,) if taste is None else (engine.table, taste)
    bench = _Bench(engine, [ItemSpace.of(table) for table in tables])
    base_users = encode_all(engine, [sequence[:-1] for sequence in usable])
    lists = {
        "popularity": lists_by_popularity(usable, counts, rng, keep_repeats=keep_repeats),
        "catalogue": lists_of_the_first(usable, base_users, engine, keep_repeats=keep_repeats),
    }
    if any(len(found.users) < MIN_USERS for found in lists.values()):
        return None
    experts = bench.after_learning(usable, base_users, rng)
    features = {source: bench.features(experts, found) for source, found in lists.items()}
    kept, judged = {}, {}
    for source in SOURCES:
        kept[source], judged[source] = judge(features[source], bench.names, seed)
    names = bench.names
    if taste is not None and not any(worth_bytes(judged[source]) for source in SOURCES):
        names = OWN_EXPERTS
        features = {source: z[:, :, : len(OWN_EXPERTS)] for source, z in features.items()}
        for source in SOURCES:
            judged[source][-1]["kept"] = False  # what the taste space would have brought stays among the sets
            kept[source], _ = judge(features[source], names, seed)
    if all(kept[source] == [0] for source in SOURCES):
        return None
    is_vector = np.array([name.endswith("_vector") for name in names])
    variance = np.mean([z.var(axis=1).mean(axis=0) for z in features.values()], axis=0)
    described: dict[str, Any] = {
        "experts": list(names),
        "weights": {s: with_useful_vectors(features[s], names, kept[s]).round(5).tolist() for s in SOURCES},
        "calibrated": {s: calibrated_weights(features[s], kept[s]).round(5).tolist() for s in SOURCES},
        "variances": [
            float(f"{v:.5g}") for v in np.where(is_vector, 1.0, np.maximum(variance, 1e-9)).tolist()
        ],
        "fitted_on": {
            "users": {source: len(found.users) for source, found in lists.items()},
            "seed": seed,
            "sets": judged,
        },
    }
    if taste is not None and names != OWN_EXPERTS:
        described["taste"] = {**taste.describe(), "block": scoring_block(taste.width)}
    return described


class _Bench:
    """An engine and the spaces of a mixture: makes the experts of any history."""

    def __init__(self, engine: Engine, spaces: list[ItemSpace]) -> None:
        self.engine = engine
        self.spaces = ItemSpaces(spaces)
        self.names = OWN_EXPERTS + (TASTE_EXPERTS if len(spaces) == 2 else ())

    def after_learning(
        self, sequences: list[Rows], base_users: NDArray[np.float32], rng: np.random.Generator
    ) -> list[Experts]:
        """The experts' vectors at each question, after the user learned from the events before it."""
        even = np.arange(1.0, self.engine.n_items + 1)
        base_alone = AdaptationPrior(
            self.names,
            dict.fromkeys(SOURCES, np.eye(1, len(self.names))[0]),
            dict.fromkeys(SOURCES, np.eye(1, 2)[0]),
            np.ones(len(self.names)),
        )
        learned = [range(max(1, len(s) - 1 - N_LEARNED), len(s) - 1) for s in sequences]
        met = encode_all(
            self.engine, [s[:n] for s, events in zip(sequences, learned, strict=True) for n in events]
        )
        ends = np.append(0, np.cumsum([len(events) for events in learned]))
        experts: list[Experts] = []
        for user, (first, last) in enumerate(pairwise(ends.tolist())):
            sequence = sequences[user]
            mixture = Mixture(self.spaces, self.engine.prior(), base_alone)
            for n, vector in zip(learned[user], met[first:last], strict=True):
                rows = draw_list(rng, even, sequence[: n + 1], N_POPULAR)
                items = self.spaces.lookup(rows)
                now = self._experts(mixture, vector, sequence[:n])
                mixture.learn_(now, "catalogue", items, np.zeros(len(rows), np.float32), 0, chosen=True)
            experts.append(self._experts(mixture, base_users[user], sequence[:-1]))
        return experts

    def features(self, experts: list[Experts], lists: ChoiceLists) -> Doubles:
        """Z of each list, the chosen item first: float64 (U, C, K)."""
        found = np.empty((*lists.rows.shape, len(self.names)))
        for n, (user, rows) in enumerate(zip(lists.users.tolist(), lists.rows, strict=True)):
            found[n] = self.spaces.lookup(rows) @ experts[user].matrix.T
        return found

    def _experts(self, mixture: Mixture, user: NDArray[np.float32], history: Rows) -> Experts:
        recent = history[-RECENT:]
        return mixture.experts(user, self.spaces.recency.scaled(self.spaces.lookup(recent)), len(recent))
