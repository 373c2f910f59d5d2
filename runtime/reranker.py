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
- With `scores` from a server, both opinions count alike at first: the model's score plus the server's, standardized over
  the list; each choice from such a list moves what the server's counts (`server_weight`).
- Every user has a lock; a ranker and its engine are shared by threads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .adaptation import SOURCES, read_prior
from .candidates import Candidates, item_rows, plain_id, read_candidates
from .devices import Device
from .engine import Engine
from .errors import BundleError, InputError
from .examination import read_examination
from .gathered_rows import GatheredRows
from .item_categories import PART, read_categories
from .item_ids import ItemId
from .item_overlay import ItemOverlay
from .item_space import ItemSpace
from .item_spaces import UNPACKED_BYTES, ItemSpaces
from .item_table import ItemTable, QuantizedRows
from .list_items import ListItems
from .rank_options import Categories
from .state_file import Cipher, SavedState, StateFile
from .state_transfer import warm_started
from .taste_space import read_taste_table, taste_scorer
from .text_tower import TextTower, read_text_tower
from .top_k import exact_top_k
from .user import User
from .user_state import UserState


class Reranker:
    """A loaded bundle, ready to rank for any number of users."""

    def __init__(
        self,
        engine: Engine,
        *,
        threads: int = 1,
        candidates: str = "catalogue",
        examination: Sequence[float] | None = None,
        unpacked_bytes: int = UNPACKED_BYTES,
    ):
        if candidates not in SOURCES:
            raise InputError(f"candidates: got {candidates!r}, expected one of {', '.join(SOURCES)}")
        self.engine = engine
        self.candidates = candidates
        self.examination = read_examination(examination)
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
        """The model's table and, where the bundle has one, the taste table: what each space is made of. None for item-item
        weights: their items have no vectors."""
        if engine.neighbors is not None:
            self.tables = ()
        self._taste_scorer = (
            None if self.taste_table is None else taste_scorer(engine.bundle, self.taste_table, threads)
        )
        self._overlay = ItemOverlay(engine.n_items, np.empty((0, engine.width), np.float32))
        self._categories: Categories | None = None
        self._text_tower: TextTower | None = None
        self._spaces: ItemSpaces | None = None
        self._unpacked_bytes = unpacked_bytes
        self._spaces_lock = threading.Lock()
        self._overlay_lock = threading.Lock()

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        threads: int = 1,
        device: Device = "cpu",
        candidates: Literal["catalogue", "popularity"] = "catalogue",
        examination: Sequence[float] | None = None,
        unpacked_bytes: int = UNPACKED_BYTES,
    ) -> Reranker:
        """Open a bundle.

        Args:
            candidates: how the lists for `User.rerank` are made, which says what popularity is worth in them:
                "popularity" where they were drawn by it, else "catalogue". Of a bundle without a prior no matter.
            examination: for each position from the first, the probability that it is seen, for learning from lists
                with position bias (`examination`). None, unless you measured that it helps: all of a list counts alike.
            unpacked_bytes: memory for the items' vectors, which rank and learn faster than packed rows; where they need
                more, or with 0, rows are unpacked for each list.

        Raises:
            FileNotFoundError: there is no such file.
            BundleError: not a bundle, truncated, edited, or of a newer version.
            InputError: the device is not there.
        """
        engine = Engine.load(path, threads=threads, device=device)
        return cls(
            engine,
            threads=threads,
            candidates=candidates,
            examination=examination,
            unpacked_bytes=unpacked_bytes,
        )

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
    def spaces(self) -> ItemSpaces:
        """What users learn in: the model's own space and, where the bundle has one, the taste space."""
        if self._spaces is None:
            with self._spaces_lock:
                if self._spaces is None:
                    self._spaces = ItemSpaces(
                        [ItemSpace.of(table) for table in self.tables], unpacked_bytes=self._unpacked_bytes
                    )
        return self._spaces

    @property
    def categories(self) -> Categories | None:
        """Those that ship with the bundle, by item id; None without any."""
        if self._categories is None and PART in self.engine.bundle:
            self._categories = read_categories(self.engine.bundle, self.engine.item_ids)
        return self._categories

    def add_items(self, item_ids: Iterable[ItemId], vectors: NDArray[np.float32]) -> None:
        """Items that the bundle was not made with, from now on ranked, recommended and learned from as its own.

        For users that are made afterwards they count in the history, too. They are not saved: add them after loading.

        Args:
            vectors: float (n, D), in the model's item space: where their like lies, for instance by their text.

        Raises:
            InputError: no ids, ids that the bundle has, or vectors that do not fit.
        """
        if not self.tables:
            raise InputError(
                "items: the bundle has item-item weights and no item vectors; nothing can be added"
            )
        ids = [plain_id(item_id) for item_id in item_ids]
        known = [ids[n] for n in np.flatnonzero(item_rows(self.engine.item_ids, ids) >= 0).tolist()]
        if known:
            raise InputError(f"items: the bundle has {known[0]!r} already; add only what it does not know")
        with self._overlay_lock:
            self._overlay = self._overlay.with_items(ids, np.asarray(vectors, np.float32))

    def embed(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """Vectors of titles in the model's item space, by the bundle's text tower: n texts -> float32 (n, D).

        Raises:
            MissingExtraError: the extra `embed` is not installed.
            InputError: the bundle has no text tower, or something is not a string.
        """
        if self._text_tower is None:
            self._text_tower = read_text_tower(self.engine.bundle)
        if self._text_tower is None:
            raise InputError(
                f"{self.engine.bundle.path}: has no text tower, so it cannot embed titles; give vectors to add_items"
            )
        return self._text_tower.embed(texts)

    def add_titles(self, title_of: Mapping[ItemId, str]) -> None:
        """`add_items` by their titles: items that the bundle was not made with, ranked from now on by what they are called.

        Raises:
            As `embed` and `add_items`.
        """
        self.add_items(title_of, self.embed(title_of.values()))

    def rows(self, ids: Sequence[Any]) -> NDArray[np.int64]:
        """Rows of ids, int64 (n,), -1 where unknown; of added items, behind the catalogue's."""
        return self._overlay.fill(item_rows(self.engine.item_ids, ids), ids)

    def row(self, item_id: ItemId) -> int:
        """Row of one id, as `rows`."""
        row = self.engine.item_ids.row(item_id)
        return row if row >= 0 else self._overlay.row_of.get(item_id, -1)

    def ids(self, rows: list[int]) -> list[ItemId]:
        """The inverse of `rows`."""
        n_items = self.engine.n_items
        if not self._overlay.row_of:
            return self.engine.item_ids.ids(rows)
        added = self._overlay.ids
        return [added[r - n_items] if r >= n_items else self.engine.item_ids.ids([r])[0] for r in rows]

    def read_candidates(
        self, candidate_ids: Iterable[ItemId], scores: Iterable[float] | None = None
    ) -> Candidates:
        """As `candidates.read_candidates`, with the rows of added items."""
        candidates = read_candidates(self.engine.item_ids, candidate_ids, scores)
        if candidates.known is None or not self._overlay.row_of:
            return candidates
        rows = self._overlay.fill(candidates.rows, candidates.ids)
        return replace(candidates, rows=rows, known=None if rows.min() >= 0 else rows >= 0)

    def lookup(self, space: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors in a space, int64 (n,) -> float32 (n, D); the center of the space for -1, of which nothing is known."""
        return self._gathered(space, rows).vectors()

    def gather(self, rows: NDArray[np.int64]) -> ListItems:
        """Items in all spaces, int64 (C,), as `lookup` says; of a bundle that has item vectors."""
        return ListItems(None, [self._gathered(space, rows) for space in range(len(self.tables))])

    def gather_known(self, rows: NDArray[np.int64]) -> ListItems:
        """`gather` of items that the bundle has, or that were added: int64 (C,), none of them -1."""
        catalogue = self._unpacked()
        if catalogue is None or self._overlay.row_of:
            return self.gather(rows)
        return ListItems(catalogue.take(rows, axis=0))

    def _unpacked(self) -> NDArray[np.float32] | None:
        """The catalogue's vectors, float32 (N, D), where there is room for them; the engine reads them from then on, too."""
        self.engine.unpacked = self.spaces.catalogue
        return self.engine.unpacked

    def _gathered(self, space: int, rows: NDArray[np.int64]) -> GatheredRows:
        table, n_items = self.tables[space], self.engine.n_items
        if len(rows) == 0 or rows.view(np.uint64).max() < n_items:  # a negative one is huge
            return table.gather(rows)
        inside = (rows >= 0) & (rows < n_items)
        vectors = np.tile(self.spaces[space].center, (len(rows), 1))
        vectors[inside] = table.lookup(rows[inside])
        if space == 0:
            vectors[rows >= n_items] = self._overlay.vectors[rows[rows >= n_items] - n_items]
        return GatheredRows(vectors, table.width)

    def score_by_model(self, user: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """As `Engine.score`, to the last bit, and of added items: float32 (D,), int64 (C,) -> float32 (C,).

        Rows of one quantized format are scored by their levels, which takes no longer than their unpacked vectors would.
        """
        if not self.tables:
            return self.engine.score(user[None], rows[None])[0]
        catalogue = None if isinstance(self.engine.table, QuantizedRows) else self._unpacked()
        if catalogue is None or self._overlay.row_of:
            return self._gathered(0, rows).scores(user)
        return catalogue.take(rows, axis=0)[:, : self.engine.width].dot(user)

    def top_k(
        self, user: NDArray[np.float32], k: int, exclude: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The k best of the catalogue: rows int64 (K,) and scores float32 (K,); as `Engine.top_k`.

        Args:
            user: float32, of all spaces, or of the model's own only.
        """
        is_mixed = bool(self.tables) and len(user) > self.engine.width
        users: Sequence[NDArray[np.float32]] = self.spaces.split(user) if is_mixed else (user,)

        def exact(rows: NDArray[np.int64]) -> NDArray[np.float32]:
            return (
                self.score_by_model(user, rows) if len(users) == 1 else self.gather_known(rows).scores(user)
            )

        scores = self.engine.score_all(users[0][None])[0]
        rounding = self.engine.rounding(users[0])
        if len(users) > 1 and self._taste_scorer is not None:
            scores += self._taste_scorer.score_all(users[1][None])[0]
            rounding += self._taste_scorer.rounding(users[1])
        if self._overlay.row_of:
            added = np.arange(self.engine.n_items, self.engine.n_items + len(self._overlay.row_of))
            scores = np.concatenate([scores, exact(added)])
        n_left = len(scores)
        if len(exclude):
            scores[exclude] = -np.inf
            n_left -= len(np.unique(exclude))
        return exact_top_k(scores, min(k, n_left), rounding, exact)
