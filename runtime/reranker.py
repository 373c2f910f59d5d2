"""Rank for one user, and learn from what the user does: the whole of what an app calls.

    ranker = Reranker.load("model.pocket")
    user = ranker.user("state.bin")            # goes on where it stopped; starts anew where there is no such file
    user.observe(item_id, ...)                 # what the person did before
    user.rerank(candidate_ids, k=10)           # ids and scores, best first
    user.feedback(item_id, clicked=True)       # learns at once
    user.save()

What holds:

- Without feedback the ranking is exactly the model's: the order of `Engine.score`, ties towards the earlier candidate.
- A click is learned against the list it was made on (`shown_list`) and joins the history. A dismissal sends the item
  behind all others, until it is clicked, and out of `recommend`. What was shown and neither clicked nor dismissed
  teaches nothing.
- Candidates that the bundle does not know come last, in the order given, with the score -inf; with a server score they
  are ranked by that, as if the model thought of them as average.
- With `scores` from a server, both opinions count alike: the model's score plus the server's, standardized over the list.
- Every user has a lock; a ranker and its engine are shared by threads.
"""

from __future__ import annotations

import os
import threading
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .adaptation import SOURCES, read_prior
from .engine import Device, Engine
from .errors import BundleError, InputError
from .item_space import ItemSpace
from .item_table import ItemTable
from .recency import Recency
from .state_file import Cipher, SavedState, StateFile
from .state_transfer import warm_started
from .taste_space import TasteScorer, read_taste_table
from .top_k import top_k
from .user import User
from .user_state import UserState


class Reranker:
    """A loaded bundle, ready to rank for any number of users."""

    def __init__(self, engine: Engine, *, threads: int = 1, candidates: str = "catalogue"):
        if candidates not in SOURCES:
            raise InputError(f"candidates: got {candidates!r}, expected one of {', '.join(SOURCES)}")
        self.engine = engine
        self.candidates = candidates
        self.prior = read_prior(engine.manifest, engine.bundle.path)
        self.taste_table = (
            read_taste_table(engine.bundle) if self.prior is not None and self.prior.has_taste else None
        )
        if self.prior is not None and self.prior.has_taste and self.taste_table is None:
            raise BundleError(
                f"{engine.bundle.path}: experts of taste without a taste table; export the bundle again"
            )
        self.tables: tuple[ItemTable, ...] = (
            (engine.table,) if self.taste_table is None else (engine.table, self.taste_table)
        )
        """The model's table and, where the bundle has one, the taste table: what each space is made of."""
        self._taste_scorer = (
            None if self.taste_table is None else TasteScorer(engine.bundle, self.taste_table, threads)
        )
        self._spaces: tuple[ItemSpace, ...] | None = None
        self._recency: tuple[Recency, ...] = ()
        self._spaces_lock = threading.Lock()

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        threads: int = 1,
        device: Device = "cpu",
        candidates: Literal["catalogue", "popularity"] = "catalogue",
    ) -> Reranker:
        """Open a bundle.

        Args:
            candidates: how the lists for `User.rerank` are made, which says what popularity is worth in them:
                "popularity" where they were drawn by it, else "catalogue". Of a bundle without a prior no matter.

        Raises:
            FileNotFoundError: there is no such file.
            BundleError: not a bundle, truncated, edited, or of a newer version.
            InputError: the device is not there.
        """
        return cls(Engine.load(path, threads=threads, device=device), threads=threads, candidates=candidates)

    def user(
        self,
        state: str | os.PathLike[str] | SavedState | None = None,
        *,
        cipher: Cipher | None = None,
        warm_start: User | UserState | None = None,
    ) -> User:
        """One user: who goes on where the saved state stopped, or a new one where there is none yet.

        Args:
            state: a path, or another place that holds a state (`UserStore.user`).
            cipher: how the file at that path is encrypted.
            warm_start: whom a new user resembles at first (`state_transfer`): another user, of this bundle or of another,
                or such a user's state. Of no matter where there is a saved state.

        Raises:
            StateError: the state is truncated, edited, of another version, no state at all, or cannot be decrypted.
            InputError: a cipher for a place that is no path.
        """
        place = StateFile(state, cipher) if isinstance(state, str | os.PathLike) else state
        if cipher is not None and not isinstance(place, StateFile):
            raise InputError("cipher: it belongs to a path; give it to the store that the state is in")
        saved = None if place is None else place.load()
        if saved is None:
            saved = UserState() if warm_start is None else warm_started(self, warm_start)
        return User(self, saved, place, cipher)

    @property
    def spaces(self) -> tuple[ItemSpace, ...]:
        """What users learn in: the model's own space and, where the bundle has one, the taste space."""
        if self._spaces is None:
            with self._spaces_lock:
                if self._spaces is None:
                    spaces = tuple(ItemSpace.of(table) for table in self.tables)
                    self._recency = tuple(Recency(space) for space in spaces)
                    self._spaces = spaces
        return self._spaces

    def recent_means(self, recent: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """`Recency.means` of the last events' vectors in each space, float32 (n, D)."""
        if self.prior is None or len(recent[0]) == 0:  # nobody asks, or there is nothing to say
            return [np.zeros((3, space.width), np.float32) for space in self.spaces]
        return [recency.means(vectors) for recency, vectors in zip(self._recency, recent, strict=True)]

    @property
    def spaces(self) -> tuple[ItemSpace, ...]:
        """What users learn in: the model's own space and, where the bundle has one, the taste space."""
        if self._spaces is None:
            with self._spaces_lock:
                if self._spaces is None:
                    spaces = tuple(ItemSpace.of(table) for table in self.tables)
                    self._recency = tuple(Recency(space) for space in spaces)
                    self._spaces = spaces
        return self._spaces

    def recent_means(self, recent: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """`Recency.means` of the last events' vectors in each space, float32 (n, D)."""
        if self.prior is None or len(recent[0]) == 0:  # nobody asks, or there is nothing to say
            return [np.zeros((3, space.width), np.float32) for space in self.spaces]
        return [recency.means(vectors) for recency, vectors in zip(self._recency, recent, strict=True)]

    def score(self, users: tuple[NDArray[np.float32], ...], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores of candidates, int64 (C,) -> float32 (C,); `users` holds a vector for each space."""
        scores = self.engine.score(users[0][None], rows[None])[0]
        if self.taste_table is not None:
            scores += self.taste_table.score(users[1][None], rows[None])[0]
        return scores

    def top_k(
        self, users: tuple[NDArray[np.float32], ...], k: int, exclude: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The k best of the catalogue: rows int64 (K,) and scores float32 (K,); as `Engine.top_k`."""
        if self._taste_scorer is None:
            return self.engine.top_k(users[0], k, exclude)
        scores = self.engine.score_all(users[0][None])[0] + self._taste_scorer.score_all(users[1])
        scores[exclude] = -np.inf
        rows = top_k(scores, min(k, len(scores) - len(np.unique(exclude))))
        return rows, scores[rows]
