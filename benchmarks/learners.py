"""What ranking and learning on the device cost, beside the model and beside libraries for online learning.

    python -m pocketrec.benchmarks.learners BUNDLE --json FILE

One person chooses `N_EVENTS` times from lists of 100. In turns, event by event, on the same lists and choices:

    model      the bundle's encoder on the history, and its scores of the candidates: what any ranking costs
    rerank     `User.rerank` after the new event; what it costs over the model is the adaptation's, and the app's comfort
    feedback   `User.feedback`: one choice learned
    ... without taste
               the same, where the bundle has a taste table, as if it had none
    river, mabwiser, vowpalwabbit
               the same job, to rank the 100 by features of the candidates and to learn the choice, where they are
               installed: logistic regression on the item's vector (River), a linear bandit with an arm an item
               (MABWiser, LinUCB), a contextual bandit with features of the actions (Vowpal Wabbit)

The others know nothing of a sequence model: they rank by the items' vectors alone, so their cost compares with what the
adaptation adds, `rerank` less `model`. One thread, monotonic clock, garbage collector at rest. What goes before does not
count: each call is made once untimed, `model` on the same history, the others by another user on the same list.
"""

from __future__ import annotations

import argparse
import copy
import gc
import importlib.metadata
import importlib.util
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..runtime.adaptation import OWN_EXPERTS
from ..runtime.atomic_file import write_atomically
from ..runtime.reranker import Reranker
from .latency import quantile_interval
from .machine import describe_machine

N_EVENTS = 600
N_WARMUP = 30
N_CANDIDATES = 100
N_OTHERS = 60
"""Events of the libraries, which take up to a thousand times as long."""
WITHOUT_TASTE = " without taste"
Floats = NDArray[np.float32]


class Learner(Protocol):
    """A library that ranks candidates by their vectors, and learns a choice."""

    def rank(self, rows: NDArray[np.int64], items: Floats) -> object:
        """Rows int64 (C,) and vectors float32 (C, D)."""
        ...

    def learn(self, rows: NDArray[np.int64], items: Floats, chosen: int) -> object:
        """`chosen`: which of the C."""
        ...


class RiverLogistic:
    """River: logistic regression, one positive and ten negatives a choice."""

    def __init__(self, n_items: int, width: int) -> None:
        from river import linear_model, optim  # pyright: ignore[reportMissingImports]

        self._model: Any = linear_model.LogisticRegression(optimizer=optim.SGD(0.1))

    def rank(self, rows: NDArray[np.int64], items: Floats) -> object:
        return sorted(
            (self._model.predict_proba_one(_named(item)).get(True, 0.0) for item in items), reverse=True
        )

    def learn(self, rows: NDArray[np.int64], items: Floats, chosen: int) -> None:
        self._model.learn_one(_named(items[chosen]), True)
        for n in range(10):
            if n != chosen:
                self._model.learn_one(_named(items[n]), False)


class MabWiserLinUcb:
    """MABWiser: LinUCB with an arm an item of the list; the context is the mean of the list."""

    def __init__(self, n_items: int, width: int) -> None:
        from mabwiser.mab import MAB, LearningPolicy  # pyright: ignore[reportMissingImports]

        self._arms = list(range(N_CANDIDATES))
        self._mab: Any = MAB(self._arms, LearningPolicy.LinUCB(alpha=0.5))
        contexts = np.random.default_rng(0).standard_normal((N_CANDIDATES, width))
        self._mab.fit(self._arms, np.zeros(N_CANDIDATES), contexts)

    def rank(self, rows: NDArray[np.int64], items: Floats) -> object:
        expected = self._mab.predict_expectations(items.mean(axis=0)[None])
        return sorted(expected.items(), key=lambda pair: -pair[1])

    def learn(self, rows: NDArray[np.int64], items: Floats, chosen: int) -> None:
        self._mab.partial_fit([chosen], [1.0], items.mean(axis=0)[None])


class VowpalWabbit:
    """Vowpal Wabbit: a contextual bandit with features of the actions, from its text format as its users write it."""

    def __init__(self, n_items: int, width: int) -> None:
        from vowpalwabbit import Workspace  # pyright: ignore[reportMissingImports]

        self._vw: Any = Workspace("--cb_explore_adf --epsilon 0 --quiet")

    def rank(self, rows: NDArray[np.int64], items: Floats) -> object:
        return self._vw.predict(self._lines(items, None))

    def learn(self, rows: NDArray[np.int64], items: Floats, chosen: int) -> None:
        self._vw.learn(self._lines(items, chosen))

    def _lines(self, items: Floats, chosen: int | None) -> list[str]:
        lines = []
        for n, item in enumerate(items):
            label = "0:-1.0:1.0 " if n == chosen else ""
            lines.append(label + "|i " + " ".join(f"f{d}:{value:.5g}" for d, value in enumerate(item)))
        return lines


OTHERS: dict[str, Callable[[int, int], Learner]] = {
    "river": RiverLogistic,
    "mabwiser": MabWiserLinUcb,
    "vowpalwabbit": VowpalWabbit,
}


def measure_learners(ranker: Reranker, *, seed: int = 0, n_events: int = N_EVENTS) -> dict[str, Any]:
    """Microseconds of each operation, p50 and p95 with intervals, and ratios of medians, ready for JSON."""
    engine = ranker.engine
    rng = np.random.default_rng(seed)
    count = min(N_CANDIDATES, engine.n_items)
    rankers = {"": ranker}
    if ranker.prior is not None and ranker.prior.has_taste:
        rankers[WITHOUT_TASTE] = without_taste(ranker)
    users = {suffix: (made.user(), made.user()) for suffix, made in rankers.items()}
    met = engine.item_ids.ids(rng.integers(0, engine.n_items, 2 * engine.max_length).tolist())
    for pair in users.values():
        for one in pair:
            one.observe(*met)
    installed = {name: make for name, make in OTHERS.items() if importlib.util.find_spec(name) is not None}
    others = {name: make(engine.n_items, engine.width) for name, make in installed.items()}
    history: list[int] = engine.item_ids.rows(users[""][0].history).tolist()
    samples: dict[str, list[int]] = {}

    def clock(name: str, call: Callable[[], object]) -> None:
        began = time.perf_counter_ns()
        call()
        samples.setdefault(name, []).append(time.perf_counter_ns() - began)

    gc.collect()
    gc.disable()
    try:
        for n in range(N_WARMUP + n_events):
            if n == N_WARMUP:
                samples.clear()
            rows = rng.choice(engine.n_items, count, replace=False)
            ids, chosen = engine.item_ids.ids(rows.tolist()), int(rng.integers(count))
            vectors = engine.table.lookup(np.array([history[-engine.max_length :]], np.int64))

            def model(vectors: Floats = vectors, rows: NDArray[np.int64] = rows) -> None:
                engine.score(engine.encode_vectors(vectors), rows[None])

            model()
            clock("model", model)
            for suffix, (user, before) in users.items():
                before.rerank(ids)
                clock("rerank" + suffix, lambda u=user, ids=ids: u.rerank(ids))
                before.feedback(ids[chosen])
                clock("feedback" + suffix, lambda u=user, item=ids[chosen]: u.feedback(item))
            history.append(int(rows[chosen]))
            if n < N_WARMUP + N_OTHERS and count == N_CANDIDATES:
                items = engine.table.lookup(rows)
                for name, other in others.items():
                    clock(f"{name} rank", lambda o=other, r=rows, i=items: o.rank(r, i))
                    clock(f"{name} learn", lambda o=other, r=rows, i=items, c=chosen: o.learn(r, i, c))
    finally:
        gc.enable()
    versions = {name: importlib.metadata.version(name) for name in installed}
    return _described(samples, sorted(set(OTHERS) - set(installed))) | {"versions": versions}


def without_taste(ranker: Reranker) -> Reranker:
    """The same bundle as if it had no taste table: its experts are gone, the weights of the others as they are."""
    described, n_own = ranker.engine.manifest["adaptation"], len(OWN_EXPERTS)

    def own(of_experts: dict[str, list[float]]) -> dict[str, list[float]]:
        return {source: weights[:n_own] for source, weights in of_experts.items()}

    cut = {**described, "experts": list(OWN_EXPERTS), "variances": described["variances"][:n_own]}
    cut["weights"] = own(described["weights"])
    if "fresh" in described:
        cut["fresh"] = {**described["fresh"], "weights": own(described["fresh"]["weights"])}
    engine = copy.copy(ranker.engine)
    engine.manifest = {**engine.manifest, "adaptation": cut}
    return Reranker(engine, candidates=ranker.candidates)


def _described(samples: dict[str, list[int]], missing: list[str]) -> dict[str, Any]:
    operations: dict[str, Any] = {}
    for name, values in samples.items():
        ordered = np.sort(np.array(values) / 1000.0)
        operations[name] = {
            "n": len(ordered),
            "p50_us": quantile_interval(ordered, 0.5).to_json(),
            "p95_us": quantile_interval(ordered, 0.95).to_json(),
        }
    for suffix in ("", WITHOUT_TASTE):
        if "rerank" + suffix in samples:
            over = np.sort((np.array(samples["rerank" + suffix]) - np.array(samples["model"])) / 1000.0)
            operations["rerank over model" + suffix] = {
                "n": len(over),
                "p50_us": quantile_interval(over, 0.5).to_json(),
                "p95_us": quantile_interval(over, 0.95).to_json(),
            }
    median = {name: found["p50_us"]["value"] for name, found in operations.items()}
    ratios = {
        name.split()[0]: {
            "rank": median[f"{name.split()[0]} rank"] / max(median["rerank over model"], 1e-3),
            "learn": median[f"{name.split()[0]} learn"] / median["feedback"],
        }
        for name in samples
        if name.endswith(" rank")
    }
    return {"operations": operations, "times_as_long": ratios, "not_installed": missing}


def learners_lines(result: dict[str, Any]) -> list[str]:
    """For people."""
    lines = [f"{'microseconds':<32} {'p50':>10}   {'p95':>10}"]
    for name, found in result["operations"].items():
        lines.append(f"{name:<32} {found['p50_us']['value']:>10.1f}   {found['p95_us']['value']:>10.1f}")
    for name, ratio in result["times_as_long"].items():
        lines.append(
            f"{name}: {ratio['rank']:.0f} times as long to rank, {ratio['learn']:.0f} times to learn"
        )
    if result["not_installed"]:
        lines.append(f"not installed, and left out: {', '.join(result['not_installed'])}")
    return lines


def _named(item: Floats) -> dict[int, float]:
    return dict(enumerate(item.tolist()))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m pocketrec.benchmarks.learners", description="What ranking and learning cost."
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--candidates", choices=["catalogue", "popularity"], default="catalogue")
    parser.add_argument("--events", type=int, default=N_EVENTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    ranker = Reranker.load(args.bundle, candidates=args.candidates)
    words = sys.argv[1:] if argv is None else argv
    result = {
        "schema_version": 1,
        "command": shlex.join(["python", "-m", "pocketrec.benchmarks.learners", *words]),
        "bundle": {"file": args.bundle.name, "fingerprint": ranker.engine.bundle.fingerprint},
        "width": ranker.engine.width,
        "experts": None if ranker.prior is None else list(ranker.prior.experts),
        "seed": args.seed,
        **measure_learners(ranker, seed=args.seed, n_events=args.events),
        "machine": describe_machine(),
    }
    print("\n".join(learners_lines(result)))
    if args.json is not None:
        write_atomically(args.json, [json.dumps(result, indent=1, allow_nan=False).encode()], overwrite=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
