"""Another bundle, or another user: what of a state goes over, by item id.

History and dismissals are ids and go over as they are. Vectors mean something to their own bundle only. With both
bundles at hand they are mapped: of the items that both know, old vectors E and new ones F, both centered,

    M = (F'F + r I)^-1 F'E          the least-squares regression of the old table on the new one, r = .001 mean diag F'F

and for a user vector u of the old space, F M u is as near to E u as a vector of the new space can make it: the shared
items are ranked as before. Vectors are kept in units of their space's radius, so u' = (rho' / rho) M u. Then, of the
same experts, the weights' deltas and their covariance keep what they say of logits: delta' = delta sqrt(v / v') for
the variances v of the experts' scores. What the learning rates have seen, G - G_0, is spread evenly over the new space.

Without the old bundle, or with too few shared items, the kept history is replayed: each event is learned against the new
catalogue, in order.

A warm start takes history and what was learned, but neither dismissals nor logs: these are one person's own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .candidates import item_rows
from .item_ids import ItemIds
from .item_space import ItemSpace
from .residual_user import FIRST_GRADIENT_SQUARED
from .user_state import UserState

if TYPE_CHECKING:
    from .reranker import Reranker
    from .user import User

SHARED_ITEMS = 8192
"""Shared items that a map is fitted on, at most; evenly spaced over the old table."""
ITEMS_PER_DIMENSION = 2
"""Shared items a dimension that a map needs; with fewer it would fit noise."""
_RIDGE = 1e-3


def warm_started(ranker: Reranker, other: User | UserState) -> UserState:
    """The state that a new user of `ranker` starts with, after another user or a state, of this bundle or another."""
    if isinstance(other, UserState):
        state, old = other, None
    else:
        state, old = other.state, other.ranker
    moved = migrate(state, ranker, old)
    return replace(moved, dismissed=(), extra={})


def migrate(state: UserState, new: Reranker, old: Reranker | None = None) -> UserState:
    """The state for another bundle: the same person goes on with it.

    Args:
        new: the bundle to go on with.
        old: the bundle that the state was learned with; without it, or another one, the history is replayed.
    """
    if state.bundle == new.engine.bundle.fingerprint:
        return state
    if old is not None and state.bundle == old.engine.bundle.fingerprint:
        learned = _mapped(state, old, new)
        if learned is not None:
            return replace(state, bundle=new.engine.bundle.fingerprint, learned=learned)
    return _replayed(state, new)


def space_map(
    old: ItemSpace, old_ids: ItemIds, new: ItemSpace, new_ids: ItemIds
) -> NDArray[np.float64] | None:
    """M, float64 (D', D): user vectors of the old space to the new one; None where too few items are shared."""
    old_rows = np.arange(old.table.n_items)
    if len(old_rows) > 4 * SHARED_ITEMS:
        old_rows = np.linspace(0, old.table.n_items - 1, 4 * SHARED_ITEMS).astype(np.int64)
    new_rows = item_rows(new_ids, old_ids.ids(old_rows.tolist()))
    shared = np.flatnonzero(new_rows >= 0)
    if len(shared) < ITEMS_PER_DIMENSION * max(old.width, new.width):
        return None
    shared = shared[np.linspace(0, len(shared) - 1, min(len(shared), SHARED_ITEMS)).astype(np.int64)]
    before = old.table.lookup(old_rows[shared]).astype(np.float64)
    after = new.table.lookup(new_rows[shared]).astype(np.float64)
    before -= before.mean(axis=0)
    after -= after.mean(axis=0)
    gram = after.T @ after
    gram[np.diag_indices_from(gram)] += _RIDGE * max(float(np.trace(gram)) / new.width, 1e-12)
    return np.linalg.solve(gram, after.T @ before)


def _mapped(state: UserState, old: Reranker, new: Reranker) -> dict[str, NDArray[Any]] | None:
    """What the new bundle's user would have learned; None where it cannot be told."""
    arrays = dict(new.user().state.learned)
    before, is_mapped = state.learned, False
    for n, space in enumerate(new.spaces):
        vector, squared = before.get(f"user_vector_{n}"), before.get(f"gradient_squared_{n}")
        if vector is None or squared is None or n >= len(old.spaces):
            continue  # a space that the old bundle has not: it begins
        was = old.spaces[n]
        to_new = space_map(was, old.engine.item_ids, space, new.engine.item_ids)
        if to_new is None:
            return None
        moved = to_new @ vector * (space.radius / was.radius)
        arrays[f"user_vector_{n}"] = moved.astype(np.float32)
        arrays[f"gradient_squared_{n}"] = _spread_evenly(squared, space.width)
        is_mapped = True
    if not is_mapped:
        return None
    if old.prior is not None and new.prior is not None and old.prior.experts == new.prior.experts:
        scale = np.sqrt(old.prior.variances / new.prior.variances)
        delta, covariance = before.get("weights_delta"), before.get("weights_covariance")
        if delta is not None and covariance is not None and delta.shape == scale.shape:
            arrays["weights_delta"] = delta * scale
            arrays["weights_covariance"] = covariance * (scale[:, None] * scale)
    if "advantage" in before:
        arrays["advantage"] = before["advantage"]
    return arrays


def _spread_evenly(squared: NDArray[Any], width: int) -> NDArray[np.float32]:
    """G_0, and an equal share of the sum of what came on top."""
    seen = max(float(np.sum(squared - FIRST_GRADIENT_SQUARED)), 0.0)
    return np.full(width, FIRST_GRADIENT_SQUARED + seen / width, np.float32)


def _replayed(state: UserState, new: Reranker) -> UserState:
    """Learned anew, event by event."""
    user = new.user()
    for item_id in state.history:
        user.feedback(item_id)
    relearned = user.state
    return replace(
        state,
        bundle=relearned.bundle,
        learned=relearned.learned,
        counters={**state.counters, **relearned.counters},
    )
