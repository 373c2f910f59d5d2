"""Fit the mixture's prior: how much each expert counts before the device has learned anything.

One question a user: after the history, the event that comes next, which the bundle was not trained on. For each question a
list for each source of candidates (`choice_lists`); the weights, and which experts pay, follow from what was chosen from
them (`mixture_weights`). All of it twice: after the history, which the model was trained on, and after some of its events,
in order, which are new to it: the manifest's `weights` and `fresh`.

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
from ..runtime.experts import Experts
from ..runtime.item_space import ItemSpace
from ..runtime.item_spaces import ItemSpaces
from ..runtime.item_table import QuantizedRows
from ..runtime.mixture import Mixture
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
    thinned,
)
from .mixture_weights import Choices, Weighed, weigh, weigh_own

N_LEARNED = 10
"""Events before the question that a user learns from; most of what there is to gain, a user gains within them."""
MIN_USERS = 50
"""Fewer cannot tell the weights of eight experts."""
MAX_DRAWS = 4
"""Of thinned histories of each user, where there are few users."""


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
    bench = _Bench(engine, [ItemSpace.of(table) for table in tables], counts, keep_repeats=keep_repeats)
    known = bench.ask(usable, usable, rng)
    if any(len(choices.users) < MIN_USERS for choices in known.values()):
        return None
    n_draws = min(max(max_users // len(usable), 1), MAX_DRAWS)
    draws = [bench.ask(thinned(usable, engine.max_length, rng), usable, rng) for _ in range(n_draws)]
    kinds = {s: [known[s], Choices.joined([draw[s] for draw in draws])] for s in SOURCES}
    names = bench.names
    weighed = {source: weigh(kinds[source], names, seed) for source in SOURCES}
    if taste is not None and not any(w.is_taste_worth_its_bytes for w in weighed.values()):
        names = OWN_EXPERTS
        weighed = {source: weigh_own(kinds[source], weighed[source], seed) for source in SOURCES}
    if not any(w.pays for w in weighed.values()):
        return None
    is_vector = np.array([name.endswith("_vector") for name in names])
    variance = np.mean(
        [c.features[:, :, : len(names)].var(axis=1).mean(axis=0) for c in known.values()], axis=0
    )
    described: dict[str, Any] = {
        "experts": list(names),
        **_by_source(weighed, 0),
        "fresh": _by_source(weighed, 1),
        "variances": [
            float(f"{v:.5g}") for v in np.where(is_vector, 1.0, np.maximum(variance, 1e-9)).tolist()
        ],
        "fitted_on": {
            "users": {source: len(choices.users) for source, choices in known.items()},
            "thinned_histories": n_draws,
            "seed": seed,
            "sets": {source: w.figures for source, w in weighed.items()},
        },
    }
    if taste is not None and names != OWN_EXPERTS:
        described["taste"] = {**taste.describe(), "block": scoring_block(taste.width)}
    return described


def _by_source(weighed: dict[str, Weighed], kind: int) -> dict[str, Any]:
    return {
        "weights": {source: w.weights[kind] for source, w in weighed.items()},
        "calibrated": {source: w.calibrated[kind] for source, w in weighed.items()},
    }


class _Bench:
    """An engine and the spaces of a mixture: makes the experts of any history, and of lists their features."""

    def __init__(self, engine: Engine, spaces: list[ItemSpace], counts: Rows, *, keep_repeats: bool) -> None:
        self.engine = engine
        self.spaces = ItemSpaces(spaces)
        self.names = OWN_EXPERTS + (TASTE_EXPERTS if len(spaces) == 2 else ())
        self._counts = counts
        self._keep_repeats = keep_repeats

    def ask(self, sequences: list[Rows], whole: list[Rows], rng: np.random.Generator) -> dict[str, Choices]:
        """Features of the last event of each sequence and of others, by source.

        Args:
            sequences: what is known of each user, and the event that comes next.
            whole: the same with all that the user chose, none of which is among the others.
        """
        base_users = encode_all(self.engine, [sequence[:-1] for sequence in sequences])
        lists = {
            "popularity": lists_by_popularity(whole, self._counts, rng, keep_repeats=self._keep_repeats),
            "catalogue": lists_of_the_first(whole, base_users, self.engine, keep_repeats=self._keep_repeats),
        }
        experts = self.after_learning(sequences, whole, base_users, rng)
        return {s: Choices(found.users, self.features(experts, found)) for s, found in lists.items()}

    def after_learning(
        self,
        sequences: list[Rows],
        whole: list[Rows],
        base_users: NDArray[np.float32],
        rng: np.random.Generator,
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
                rows = draw_list(rng, even, np.append(whole[user][:-1], sequence[n]), N_POPULAR)
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
