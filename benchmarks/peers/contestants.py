"""What is measured, each behind the same four calls: our bundles through our runtime, ONNX graphs through onnxruntime.

    scores(histories)                     item rows -> scores of the catalogue: what accuracy is measured on
    score_candidates(history, candidates) the model alone: rows in, scores out
    best_rows(history, k)                 the model and the selection: rows in, rows out
    rerank(...), recommend(...)           an app's call: ids in, one new event, ids out

With a graph an app must keep the history, translate ids and select by itself: that is done here by the same functions
that our runtime uses (`ItemIds`, `top_k`), so a graph pays for the same work, less the learning that a `User` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ...runtime.engine import Engine
from ...runtime.item_ids import ItemId, ItemIds
from ...runtime.reranker import Reranker
from ...runtime.top_k import top_k
from ..evaluate import EngineScorer

Rows = NDArray[np.int64]


class Contestant(Protocol):
    """One model, loaded."""

    @property
    def max_length(self) -> int:
        """The longest history that it takes."""
        ...

    @property
    def takes_candidates(self) -> bool:
        """Whether it can score some items without the whole catalogue."""
        ...

    def scores(self, histories: Rows) -> NDArray[np.float32]:
        """int64 (B, n) -> float32 (B, N)."""
        ...

    def score_candidates(self, history: Rows, candidates: Rows) -> NDArray[np.float32]:
        """int64 (1, n), int64 (1, C) -> float32 (1, C)."""
        ...

    def best_rows(self, history: Rows, k: int) -> Rows:
        """int64 (1, n) -> int64 (k,), items of the history left out."""
        ...

    def rerank(self, before: Sequence[ItemId], last: ItemId, candidates: Sequence[ItemId], k: int) -> Call:
        """A call that has seen `before`, and will be told of `last` and rank; making it is not timed."""
        ...

    def recommend(self, before: Sequence[ItemId], last: ItemId, k: int) -> Call:
        """The same over the catalogue."""
        ...


Call = Callable[[], object]


class BundleContestant:
    """A bundle of ours."""

    takes_candidates = True

    def __init__(self, path: Path, threads: int) -> None:
        self.ranker = Reranker.load(path, threads=threads)
        self.engine: Engine = self.ranker.engine
        self.scores = EngineScorer(self.engine)
        self.max_length = self.engine.max_length

    def score_candidates(self, history: Rows, candidates: Rows) -> NDArray[np.float32]:
        return self.engine.score(self.engine.encode(history), candidates)

    def best_rows(self, history: Rows, k: int) -> Rows:
        return self.engine.top_k(self.engine.encode(history)[0], k, history[0])[0]

    def rerank(self, before: Sequence[ItemId], last: ItemId, candidates: Sequence[ItemId], k: int) -> Call:
        user = self.ranker.user()
        user.observe(*before)

        def call() -> object:
            user.observe(last)
            return user.rerank(candidates, k=k)

        return call

    def recommend(self, before: Sequence[ItemId], last: ItemId, k: int) -> Call:
        user = self.ranker.user()
        user.observe(*before)

        def call() -> object:
            user.observe(last)
            return user.recommend(k=k)

        return call


class GraphContestant:
    """An ONNX graph of the catalogue, and perhaps one of candidates; onnxruntime with its defaults, on the CPU."""

    def __init__(
        self, catalogue: Path, candidates: Path | None, item_ids: ItemIds, max_length: int, threads: int
    ) -> None:
        self.item_ids = item_ids
        self.max_length = max_length
        self._catalogue = open_graph(catalogue, threads)
        self._candidates = None if candidates is None else open_graph(candidates, threads)
        self.takes_candidates = candidates is not None
        self._one_by_one = is_dynamic(catalogue)

    def scores(self, histories: Rows) -> NDArray[np.float32]:
        """One user a call where activations are rounded by call: in a batch, users would share a scale."""
        if not self._one_by_one:
            return self._score(histories)
        return np.concatenate([self._score(history[None]) for history in histories])

    def _score(self, histories: Rows) -> NDArray[np.float32]:
        return self._catalogue.run(None, {"history": histories})[0]  # type: ignore[return-value]

    def score_candidates(self, history: Rows, candidates: Rows) -> NDArray[np.float32]:
        assert self._candidates is not None  # see takes_candidates
        return self._candidates.run(None, {"history": history, "candidates": candidates})[0]  # type: ignore[return-value]

    def best_rows(self, history: Rows, k: int) -> Rows:
        scores = self._score(history)[0]
        scores[history[0]] = -np.inf
        return top_k(scores, k)

    def rerank(self, before: Sequence[ItemId], last: ItemId, candidates: Sequence[ItemId], k: int) -> Call:
        known = self.item_ids.rows(before)

        def call() -> object:
            history = np.concatenate([known, self.item_ids.rows([last])])[None, -self.max_length :]
            rows = self.item_ids.rows(candidates)
            scores = self.score_candidates(history, rows[None])[0]
            best = top_k(scores, k)
            return list(zip(self.item_ids.ids(rows[best]), scores[best].tolist(), strict=True))

        return call

    def recommend(self, before: Sequence[ItemId], last: ItemId, k: int) -> Call:
        known = self.item_ids.rows(before)

        def call() -> object:
            history = np.concatenate([known, self.item_ids.rows([last])])[None, -self.max_length :]
            return self.item_ids.ids(self.best_rows(history, k))

        return call


class ContestantScorer:
    """A contestant as `evaluate_ranks` wants it."""

    def __init__(self, contestant: Contestant, n_items: int) -> None:
        self.contestant = contestant
        self.n_items = n_items
        self.max_length = contestant.max_length

    def __call__(self, histories: Rows) -> NDArray[np.float32]:
        return self.contestant.scores(histories)


def open_graph(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """A session as an app would make it: the defaults, and so many threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def is_dynamic(path: Path) -> bool:
    """Whether a graph rounds activations with a scale a call; its operators' names stand in the file as they are."""
    return b"DynamicQuantize" in path.read_bytes()


def size_of(path: Path) -> int:
    """Bytes of a graph's file, and of the data files that tools write beside a large one."""
    beside = [other for other in path.parent.glob(f"{path.name}*") if other != path]
    return path.stat().st_size + sum(other.stat().st_size for other in beside)
