"""What an app does with a bundle, as calls to time, through the public `Reranker` and `User`.

    rerank     one new event, then candidates ranked: look-up, encoding, scores, sort, ids
    recommend  one new event, then the best k of the whole catalogue
    feedback   one click or dismissal in a list of 100 just re-ranked, learned
    encode     one history to a user vector: the model alone
    load       open the bundle, check it, make the session; the file is in the system's cache

Histories are those of real users, drawn with a seed; candidates are drawn from the catalogue. A user is
made anew for each call and has observed all but the last item of the history before the clock starts, so
that a call pays for exactly one event and nothing is remembered from the call before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .latency import Call, Timing, compare, summarize, time_interleaved
from .progress import Track

if TYPE_CHECKING:
    from ..runtime.devices import Device
    from ..runtime.reranker import Reranker

LOAD_ROUNDS = 40
"""Loads are slow and vary little: fewer of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What the calls are made with: the same for every system."""

    histories: Sequence[Sequence[int | str]]
    """Item ids, oldest first, at least one each."""
    catalogue: Sequence[int | str]
    """Item ids that candidates are drawn from."""
    candidates: tuple[int, ...] = (50, 100, 500)
    """Sizes of the candidate lists; those beyond the catalogue are left out."""
    k: int = 10
    seed: int = 0

    def history(self, n: int) -> Sequence[int | str]:
        return self.histories[n % len(self.histories)]

    def draw(self, n: int, count: int) -> list[int | str]:
        """The candidates of round n, distinct."""
        rng = np.random.default_rng([self.seed, n])
        return [self.catalogue[row] for row in rng.choice(len(self.catalogue), count, replace=False)]


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing to time; `size` is the number of candidates, or of items returned."""

    name: str
    size: int | None
    prepare: Callable[[Any, int], Call]


def sample_histories(
    histories: Sequence[NDArray[np.int64]], n_users: int, seed: int
) -> list[NDArray[np.int64]]:
    """At most `n_users` of the histories, drawn without replacement, in the drawn order."""
    known = [history for history in histories if len(history)]
    drawn = np.random.default_rng(seed).permutation(len(known))[:n_users]
    return [known[user] for user in drawn]


def user_operations(work: Workload) -> list[Operation]:
    """The operations on a loaded `Reranker`."""

    def rerank(count: int) -> Callable[[Reranker, int], Call]:
        def prepare(ranker: Reranker, n: int) -> Call:
            *before, last = work.history(n)
            candidates, user = work.draw(n, count), ranker.user()
            user.observe(*before)

            def call() -> object:
                user.observe(last)
                return user.rerank(candidates, k=work.k)

            return call

        return prepare

    def recommend(ranker: Reranker, n: int) -> Call:
        *before, last = work.history(n)
        user = ranker.user()
        user.observe(*before)

        def call() -> object:
            user.observe(last)
            return user.recommend(k=work.k)

        return call

    def feedback(ranker: Reranker, n: int) -> Call:
        user = ranker.user()
        user.observe(*work.history(n))
        shown = work.draw(n, min(100, len(work.catalogue)))
        user.rerank(shown, k=work.k)
        item_id = shown[n % len(shown)]
        return lambda: user.feedback(item_id, clicked=n % 2 == 0)

    def encode(ranker: Reranker, n: int) -> Call:
        engine = ranker.engine
        rows = engine.item_ids.rows(work.history(n))[None, -engine.max_length :]
        return lambda: engine.encode(rows)

    sizes = [size for size in work.candidates if size <= len(work.catalogue)]
    return [
        *(Operation("rerank", size, rerank(size)) for size in sizes),
        Operation("recommend", work.k, recommend),
        Operation("feedback", None, feedback),
        Operation("encode", None, encode),
    ]


def load_operation(threads: int, device: Device) -> Operation:
    """Loading; its systems are paths."""
    from ..runtime.reranker import Reranker

    return Operation(
        "load", None, lambda path, n: lambda: Reranker.load(path, threads=threads, device=device)
    )


def measure_latency(
    paths: Mapping[str, Path],
    work: Workload,
    timing: Timing,
    *,
    threads: Sequence[int],
    device: Device,
    reference: str | None,
    track: Track,
) -> list[dict[str, Any]]:
    """One row for each operation, number of threads and system, all systems interleaved.

    A row holds what `latency.summarize` says and, for every system but the `reference`, `speedup` over it.
    """
    from ..runtime.reranker import Reranker

    rows: list[dict[str, Any]] = []

    def measure(operation: Operation, systems: Mapping[str, Any], n_threads: int, how: Timing) -> None:
        title = f"{operation.name} {operation.size or ''}".strip() + f", threads {n_threads}"
        with track(title, how.n_rounds) as advance:
            samples = time_interleaved(systems, operation.prepare, how, progress=advance)
        for name, samples_ms in samples.items():
            speedup = None
            if reference is not None and name != reference:
                speedup = compare(samples_ms, samples[reference], seed=work.seed).to_json()
            of = {"operation": operation.name, "size": operation.size, "threads": n_threads, "system": name}
            rows.append({**of, "device": device, **summarize(samples_ms), "speedup": speedup})

    for n_threads in threads:
        rankers = {
            name: Reranker.load(path, threads=n_threads, device=device) for name, path in paths.items()
        }
        for operation in user_operations(work):
            measure(operation, rankers, n_threads, timing)
        del rankers
    how = replace(timing, n_rounds=min(timing.n_rounds, LOAD_ROUNDS), n_warmup=1)
    measure(load_operation(threads[0], device), paths, threads[0], how)
    return rows
