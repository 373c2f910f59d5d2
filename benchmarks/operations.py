"""What an app does with a bundle, as calls to time, through the public `Reranker` and `User`.

    rerank     one new event, then candidates ranked: look-up, encoding, scores, sort, ids
    recommend  one new event, then the best k of the whole catalogue
    feedback   one click or dismissal in a list of 100 just re-ranked, learned
    encode     one history to a user vector: the model alone
    encode_batch  several histories at once: what a server, or an evaluation, gets out of it; `per_second` is of histories
    load       open the bundle, check it, make the session; the file is in the system's cache
    load_cold  the same after the system was made to forget the file's pages; Python and the libraries stay loaded

Histories are those of real users, drawn with a seed; candidates are drawn from the catalogue. A user is
made anew for each call and has observed all but the last item of the history before the clock starts, so
that a call pays for exactly one event and nothing is remembered from the call before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .blas_threads import blas_threads
from .energy import find_meter, measure_energy
from .evaluate import EngineScorer
from .file_cache import copies, drop_from_cache, problem
from .latency import Call
from .latency_rows import LatencyRows, Operation

if TYPE_CHECKING:
    from ..runtime.devices import Device
    from ..runtime.reranker import Reranker


ENERGY_OF = {("rerank", 100), ("recommend", 10), ("encode", None)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What the calls are made with: the same for every system."""

    histories: Sequence[Sequence[int | str]]
    """Item ids, oldest first, at least one each."""
    catalogue: Sequence[int | str]
    """Item ids that candidates are drawn from."""
    candidates: tuple[int, ...] = (10, 50, 100, 500, 1000)
    """Sizes of the candidate lists; those beyond the catalogue are left out."""
    batches: tuple[int, ...] = (4, 16, 64, 256)
    """Histories encoded in one call, beside `encode`, which is one."""
    k: int = 10
    seed: int = 0

    def history(self, n: int) -> Sequence[int | str]:
        return self.histories[n % len(self.histories)]

    def draw(self, n: int, count: int) -> list[int | str]:
        """The candidates of round n, distinct."""
        rng = np.random.default_rng([self.seed, n])
        return [self.catalogue[row] for row in rng.choice(len(self.catalogue), count, replace=False)]


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

    def encode_batch(count: int) -> Callable[[Reranker, int], Call]:
        length = int(np.median([len(history) for history in work.histories]))
        long_enough = [history[-length:] for history in work.histories if len(history) >= length]

        def prepare(ranker: Reranker, n: int) -> Call:
            encode, ids = EngineScorer(ranker.engine).encode, ranker.engine.item_ids
            drawn = np.random.default_rng([work.seed, n]).integers(0, len(long_enough), count)
            rows = np.stack([ids.rows(long_enough[place]) for place in drawn.tolist()])
            return lambda: encode(rows)

        return prepare

    sizes = [size for size in work.candidates if size <= len(work.catalogue)]
    return [
        *(Operation("rerank", size, rerank(size)) for size in sizes),
        Operation("recommend", work.k, recommend),
        Operation("feedback", None, feedback),
        Operation("encode", None, encode),
        *(Operation("encode_batch", size, encode_batch(size), batch=size) for size in work.batches),
    ]


def load_operations(threads: int, device: Device) -> tuple[Operation, Operation]:
    """Loading, warm and cold; their systems are paths, the cold ones such as the cache can be made to forget (`file_cache`)."""
    from ..runtime.reranker import Reranker

    def load(path: Path, n: int) -> Call:
        return lambda: Reranker.load(path, threads=threads, device=device)

    def load_cold(path: Path, n: int) -> Call:
        drop_from_cache(path)
        return load(path, n)

    return Operation("load", None, load, slow=True), Operation("load_cold", None, load_cold, slow=True)


def measure_latency(
    paths: Mapping[str, Path], work: Workload, timed: LatencyRows, *, threads: Sequence[int], device: Device
) -> dict[str, Any]:
    """Fill `timed` with every operation, all systems interleaved; returns what else was seen on the way.

    `first_calls` are loads and first uses, when sessions are made and a device compiles, which no distribution holds;
    `energy` is of the first number of threads, null where the machine does not tell; `notes` say what could not be measured.
    """

    notes: list[str] = []
    first_calls: list[dict[str, Any]] = []
    energy: dict[str, Any] | None = None
    for n_threads in threads:
        with blas_threads(n_threads) as unheld:
            rankers: dict[str, Reranker] = {}
            for name, path in paths.items():
                rankers[name], seen = first_uses(path, work, threads=n_threads, device=device)
                first_calls.append({"system": name, "threads": n_threads, "device": device, **seen})
            operations = user_operations(work)
            for operation in operations:
                timed.measure(operation, rankers, n_threads)
            if n_threads == threads[0]:
                meter = find_meter()
                if isinstance(meter, str):
                    notes.append(meter)
                else:
                    asked = [one for one in operations if (one.name, one.size) in ENERGY_OF]
                    energy = measure_energy(meter, asked, rankers, threads=n_threads, seed=work.seed)
            del rankers
            notes += [] if unheld is None else [unheld]
    load, load_cold = load_operations(threads[0], device)
    timed.measure(load, paths, threads[0])
    with copies(paths) as fresh:
        problems = sorted({why for path in fresh.values() if (why := problem(path))})
        if not problems:
            timed.measure(load_cold, fresh, threads[0])
    notes += problems
    return {"first_calls": first_calls, "energy": energy, "notes": notes}


def first_uses(
    path: Path, work: Workload, *, threads: int, device: Device
) -> tuple[Reranker, dict[str, float]]:
    """A loaded bundle, and the milliseconds of its load, first re-ranking and first recommendation."""
    from ..runtime.reranker import Reranker

    marks = [time.perf_counter()]
    ranker = Reranker.load(path, threads=threads, device=device)
    marks.append(time.perf_counter())
    user = ranker.user()
    user.observe(*work.history(0))
    user.rerank(work.draw(0, min(100, len(work.catalogue))), k=work.k)
    marks.append(time.perf_counter())
    user.recommend(k=work.k)
    marks.append(time.perf_counter())
    load_ms, rerank_ms, recommend_ms = (1e3 * float(took) for took in np.diff(marks))
    return ranker, {"load_ms": load_ms, "rerank_ms": rerank_ms, "recommend_ms": recommend_ms}
