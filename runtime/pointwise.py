"""Rank with a pointwise bundle: candidates are scored by features of the user, the item and the moment.

    ranker = PointwiseRanker.load("ctr.pocket")
    ranker.rerank([318, 50, 1], user={"user_id": 7, "age": 24}, context={"hour": 9}, k=10)

    user = ranker.user({"user_id": 7, "age": 24}, "state.bin")     # a person whose history the model reads (DIN)
    user.feedback(318)                                             # the history grows, the next ranking knows it
    user.rerank([50, 1]); user.save()

What holds:

- A candidate is an item's id, whose features the bundle knows, or a mapping of features, which count before the bundle's.
- Scores are probabilities where they are asked for (`score`), logits in a ranking: their order is the same, and large
  ones do not become equal. Ties go to the earlier candidate.
- Unknown tokens have a row of their own; a feature that is missing has a defined outcome (`features`).
- Without a history in the model, feedback is remembered and changes nothing, but that a dismissed item goes last.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .candidates import listed_ids, plain_id
from .devices import Device
from .errors import InputError
from .item_ids import ItemId
from .pointwise_engine import PointwiseEngine
from .ranking import RankedItem, Ranking
from .state_file import SavedState, StateFile
from .user_state import DISMISSED_KEPT, HISTORY_KEPT, UserState

Features = Mapping[str, Any]
Candidate = ItemId | Features
NO_FEATURES: Features = MappingProxyType({})


class PointwiseRanker:
    """A loaded bundle, ready to rank for anybody."""

    def __init__(self, engine: PointwiseEngine):
        self.engine = engine
        self.schema = engine.schema

    @classmethod
    def load(cls, path: str | os.PathLike[str], threads: int = 1, device: Device = "cpu") -> PointwiseRanker:
        """Open a bundle.

        Raises:
            FileNotFoundError: there is no such file.
            BundleError: not a bundle, truncated, edited, of a newer version, or of another family.
            InputError: the device is not there.
        """
        return cls(PointwiseEngine.load(path, threads=threads, device=device))

    def score(self, rows: Sequence[Features]) -> NDArray[np.float32]:
        """The probability of a positive label for each row of features: float32 (n,).

        Features of items that the bundle knows may be left out. Raises `InputError` for a name that is no field's.
        """
        rows = list(rows)
        for row in rows:
            if not isinstance(row, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InputError(f"rows: got {row!r:.60}, expected mappings from names of features to values")
            self.schema.check_names(row)
        encoded = self._encode(rows, NO_FEATURES)
        logits = self.engine.logits(encoded, len(rows))
        return (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)

    def rerank(
        self,
        candidates: Iterable[Candidate],
        *,
        user: Features = NO_FEATURES,
        context: Features = NO_FEATURES,
        k: int | None = None,
    ) -> Ranking:
        """The k best candidates (None: all), best first, with their logits.

        A candidate without an id, where the model or the mapping has none, is called by its position.

        Raises:
            InputError: k below 1, no list of candidates, or features that the model does not have.
        """
        if k is not None and (type(k) is not int or k < 1):
            raise InputError(f"k: got {k!r}, expected at least 1")
        if isinstance(candidates, Mapping):
            raise InputError("candidates: got one mapping, expected a list of them")
        ids, rows = self._candidates(listed_ids(candidates))
        if not ids:
            return Ranking()
        self.schema.check_names([*user, *context])
        encoded = self._encode(rows, {**context, **user})
        logits = self.engine.logits(encoded, len(ids))
        order = np.argsort(-logits, kind="stable")[:k]
        unknown = self._unknown(encoded, ids)
        ranking = Ranking(RankedItem(ids[n], float(logits[n])) for n in order.tolist())
        ranking.unknown = frozenset(item.item_id for item in ranking if item.item_id in unknown)
        return ranking

    def user(
        self, features: Features = NO_FEATURES, state: str | os.PathLike[str] | SavedState | None = None
    ) -> PointwiseUser:
        """One person: who goes on where the saved state stopped, or a new one where there is none yet.

        Raises:
            StateError: the state cannot be trusted.
            InputError: features that the model does not have.
        """
        self.schema.check_names(features)
        return PointwiseUser(
            self, features, StateFile(state) if isinstance(state, str | os.PathLike) else state
        )

    def _candidates(self, candidates: Sequence[Candidate]) -> tuple[list[ItemId], list[Features]]:
        """Ids, the first of equal ones only, and the features given of each."""
        item, ids, rows = self.engine.item, dict[ItemId, None](), list[Features]()
        for position, candidate in enumerate(candidates):
            if isinstance(candidate, Mapping):
                self.schema.check_names(candidate)
                named = candidate.get(item) if item is not None else None
                item_id, row = position if named is None else plain_id(named), candidate
            elif item is None:
                raise InputError(
                    f"candidates: got {candidate!r:.60}, but the bundle does not know which field is the item's; give a mapping of features"
                )
            else:
                item_id, row = plain_id(candidate), {item: candidate}
            if item_id not in ids:
                ids[item_id] = None
                rows.append(row)
        return list(ids), rows

    def _encode(self, rows: Sequence[Features], shared: Features) -> dict[str, NDArray[Any]]:
        """What each row says of a feature; else what is `shared` by all of them; else what the bundle knows of the item."""
        engine, encoded = self.engine, dict[str, NDArray[Any]]()
        for name in (field.name for field in self.schema.fields):
            if any(name in row for row in rows):
                default = shared.get(name)
                encoded[name] = engine.encode(name, [row.get(name, default) for row in rows])
            elif name in shared:
                encoded[name] = engine.encode(name, [shared[name]])
        if engine.item is None or engine.item not in encoded:
            return encoded
        for name, known in engine.features_of(encoded[engine.item]).items():
            if name not in encoded:
                encoded[name] = known
            elif name != engine.item:
                missing = np.array([row.get(name, shared.get(name)) is None for row in rows], bool)
                encoded[name] = _filled(encoded[name], known, missing)
        return encoded

    def _unknown(self, encoded: Mapping[str, NDArray[Any]], ids: Sequence[ItemId]) -> set[ItemId]:
        if self.engine.item is None:
            return set()
        return {
            item_id for item_id, row in zip(ids, encoded[self.engine.item].tolist(), strict=True) if row == 0
        }


class PointwiseUser:
    """One person: features, and what was chosen and dismissed. Made by `PointwiseRanker.user`; safe between threads."""

    def __init__(self, ranker: PointwiseRanker, features: Features, place: SavedState | None):
        self.ranker = ranker
        self.features = dict(features)
        self._place = place
        self._lock = threading.Lock()
        saved = None if place is None else place.load()
        given = self.features.pop(ranker.engine.history, ()) if ranker.engine.history else ()
        self._history: list[ItemId] = (
            list(saved.history) if saved else [plain_id(item) for item in given or ()]
        )
        self._dismissed: list[ItemId] = list(saved.dismissed) if saved else []

    @property
    def history(self) -> list[ItemId]:
        """Chosen items, oldest first."""
        with self._lock:
            return list(self._history)

    def observe(self, *item_ids: ItemId) -> None:
        """What the person chose before, oldest first."""
        with self._lock:
            for item_id in map(plain_id, item_ids):
                if item_id in self._dismissed:
                    self._dismissed.remove(item_id)
                self._history.append(item_id)
            del self._history[:-HISTORY_KEPT]

    def feedback(self, item_id: ItemId, clicked: bool = True) -> None:
        """A click joins the history, and the next ranking knows it; a dismissal sends the item behind all others."""
        if clicked:
            self.observe(item_id)
            return
        with self._lock:
            self._dismissed = [*(one for one in self._dismissed if one != item_id), plain_id(item_id)]
            del self._dismissed[:-DISMISSED_KEPT]

    def rerank(
        self, candidates: Iterable[Candidate], *, context: Features = NO_FEATURES, k: int | None = None
    ) -> Ranking:
        """As `PointwiseRanker.rerank`, with this person's features and history; dismissed items come last."""
        with self._lock:
            features, dismissed = dict(self.features), set(self._dismissed)
            if (name := self.ranker.engine.history) is not None:
                features[name] = list(self._history)
        ranking = self.ranker.rerank(candidates, user=features, context=context)
        kept = [item for item in ranking if item.item_id not in dismissed]
        last = [item for item in ranking if item.item_id in dismissed]
        if k is not None and (type(k) is not int or k < 1):
            raise InputError(f"k: got {k!r}, expected at least 1")
        return Ranking([*kept, *last][:k], unknown=ranking.unknown)

    def save(self) -> int:
        """Write history and dismissals where the state was loaded from; returns the size in bytes.

        Features are the app's to keep. Raises `InputError` where no place was given, `OSError` if it cannot be written.
        """
        if self._place is None:
            raise InputError("state: no place to save to; give a path to PointwiseRanker.user")
        with self._lock:
            state = UserState(
                history=list(self._history),
                dismissed=list(self._dismissed),
                bundle=self.ranker.engine.bundle.fingerprint,
            )
        return self._place.save(state)


def _filled(given: NDArray[Any], known: NDArray[Any], missing: NDArray[np.bool_]) -> NDArray[Any]:
    """`given` (n or 1, ...), where it is `missing` (n,) as `known` (n or 1, ...); lists are padded to the longer one."""
    if given.ndim == 1:
        return np.where(missing, known, given)
    width = max(given.shape[1], known.shape[1])
    given, known = (np.pad(rows, ((0, 0), (0, width - rows.shape[1]))) for rows in (given, known))
    return np.where(missing[:, None], known, given)
