"""What is replayed: a bundle that ranks once, that follows the history, that is calibrated, and that learns.

stale       the bundle, its scores computed once, before the user's first event here: a list from a server
live        the bundle, frozen: the model sees the history up to now, and learns nothing
calibrated  where the bundle has a prior: the live model and popularity, weighted as fitted; all that the mixture
            gains over it, it owes to its other experts and to learning
adaptive    the history and the prior's mixture of experts, learning from each choice: `User.feedback`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..runtime.adaptation import freshness
from ..runtime.recency import RECENT
from .replay import Rows, Start, Stream

if TYPE_CHECKING:
    from ..runtime.reranker import Reranker
    from ..runtime.user import User

BASELINES = ("live", "calibrated", "stale")
"""What `adaptive` is compared with."""


class StaleList:
    """The bundle's scores at the cut: a list from a server."""

    def __init__(self, ranker: Reranker, stream: Stream) -> None:
        engine = ranker.engine
        history = stream.history[-engine.max_length :]
        user = engine.encode(history[None]) if len(history) else engine.prior()[None]
        self._scores = engine.score(user, np.arange(engine.n_items)[None])[0]

    def score(self, candidates: Rows) -> NDArray[np.float32]:
        return self._scores[candidates]

    def chosen(self, row: int) -> None:
        pass


class LiveModel:
    """The bundle's model on the history up to now; `calibrated`, with popularity weighted as the bundle's prior has it."""

    def __init__(self, ranker: Reranker, stream: Stream, *, calibrated: bool = False) -> None:
        self._engine = ranker.engine
        self._prior = ranker.prior if calibrated else None
        self._source = ranker.candidates
        self._history = stream.history.tolist()
        self._n_new = 0

    def score(self, candidates: Rows) -> NDArray[np.float32]:
        engine = self._engine
        user = engine.prior()
        if self._history:  # with none, popularity is all that the model has to say
            history = np.array([self._history[-engine.max_length :]], np.int64)
            base = engine.encode(history)[0]
            if self._prior is None:
                user = base
            else:
                fresh = freshness(self._n_new, min(len(self._history), RECENT))
                weights = self._prior.calibrated_at(self._source, fresh).astype(np.float32)
                user = weights @ np.stack([base, user])
        return engine.score(user[None], candidates[None])[0]

    def chosen(self, row: int) -> None:
        self._history.append(row)
        self._n_new += 1


class AdaptiveUser:
    """The bundle as an app uses it: the user's scores of the candidates, then `feedback`."""

    def __init__(self, ranker: Reranker, stream: Stream) -> None:
        self._item_ids = ranker.engine.item_ids
        self.user: User = ranker.user()
        self.user.observe(*self._item_ids.ids(stream.history))

    def score(self, candidates: Rows) -> NDArray[np.float32]:
        _, scores = self.user.score(self._item_ids.ids(candidates))
        return scores

    def chosen(self, row: int) -> None:
        (item_id,) = self._item_ids.ids([row])
        self.user.feedback(item_id, clicked=True)


def standard_systems(ranker: Reranker) -> dict[str, Start]:
    """Those of the module's docstring."""
    systems: dict[str, Start] = {
        "stale": lambda stream: StaleList(ranker, stream),
        "live": lambda stream: LiveModel(ranker, stream),
    }
    if ranker.prior is not None:
        systems["calibrated"] = lambda stream: LiveModel(ranker, stream, calibrated=True)
    return systems | {"adaptive": lambda stream: AdaptiveUser(ranker, stream)}
