"""Several bundles, or anything else that scores, as one ranker.

    ensemble = Ensemble({"sequence": Reranker.load("sasrec.pocket"), "taste": Reranker.load("bpr.pocket"), "shop": scorer},
                        how="stack")
    user = ensemble.user("folder")
    user.rerank(candidate_ids);  user.feedback(item_id);  user.save()

Each bundle has a `User` of its own, which learns from every event as it would alone. A member's scores of a list are one
column z_m, and

    average   sum_m w_m z_m, standardized           borda, rrf   sum_m w_m votes_m (`votes`)
    stack     sum_m w_m z_m, standardized, where each choice moves w as in the mixture (`choice_step`):
              the members are the experts

The weights of a stack begin at 2 in sum, the temperature that the mixture gives to a base without a prior, in the
proportions given, and move as if the start had seen `STACK_PRIOR` events.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .ensemble_user import EnsembleUser
from .errors import InputError
from .item_ids import ItemId
from .mixture import TEMPERATURE
from .reranker import Reranker
from .votes import borda, reciprocal_ranks, standardized

Scorer = Callable[[Sequence[ItemId], Sequence[ItemId]], Sequence[float]]
"""(candidates, history, oldest first) -> a score for each candidate; NaN or None where it knows nothing."""
How = Literal["average", "borda", "rrf", "stack"]
HOWS: tuple[str, ...] = get_args(How)


class Ensemble:
    """Members under one name each; shared by threads like a `Reranker`."""

    def __init__(
        self,
        members: Mapping[str, Reranker | Scorer],
        how: How = "average",
        weights: Mapping[str, float] | None = None,
    ) -> None:
        """An ensemble of at least one member.

        Args:
            members: at least one; a scorer is called for every list, under the user's lock.
            how: see above.
            weights: by name, at least 0; 1 for those that are missing.

        Raises:
            InputError: no member, an unknown way, or weights that are no weights.
        """
        if how not in HOWS:
            raise InputError(f"ensemble: how {how!r}, expected one of {', '.join(HOWS)}")
        if not members:
            raise InputError("ensemble: no members; give at least one ranker or scorer by name")
        given = dict(weights or {})
        odd = [name for name in given if name not in members]
        if odd:
            raise InputError(f"ensemble: a weight for {odd[0]!r}; the members are {', '.join(members)}")
        values = np.array([given.get(name, 1.0) for name in members], np.float64)
        if not np.isfinite(values).all() or (values < 0).any() or values.sum() == 0:
            raise InputError(
                f"ensemble: weights {values.tolist()}, expected numbers from 0 on, not all of them 0"
            )
        self.members = dict(members)
        self.how = how
        self.weights: NDArray[np.float64] = values / values.sum() * (TEMPERATURE if how == "stack" else 1.0)
        """float64 (M,), in the order of the members."""

    def user(self, folder: str | os.PathLike[str] | None = None) -> EnsembleUser:
        """One user, who goes on where the folder's files stopped: one a bundle, named after it, and `ensemble.bin`.

        Raises:
            InputError: a member's name is no file name.
            StateError: a file is damaged, or of another kind.
        """
        return EnsembleUser(self, None if folder is None else Path(folder))

    def column(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """What one member's scores of a list, float64 (C,), give to the sum: float64 (C,)."""
        match self.how:
            case "borda":
                return borda(scores)
            case "rrf":
                return reciprocal_ranks(scores)
            case _:
                return standardized(scores)
