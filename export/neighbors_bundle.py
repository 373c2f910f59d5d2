"""Write item-item weights as a bundle, and open it again through the runtime before anybody may use it.

Such a bundle has no graph: the runtime multiplies in numpy (`runtime.neighbors`). It is checked against the same weights
spread out over the catalogue and summed in float64, for a few histories.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.bundle import write_bundle
from ..runtime.engine import Engine
from ..runtime.errors import GateError
from ..runtime.item_ids import ItemIds
from ..runtime.neighbors import Neighbors
from .bundle_writer import publish

TOLERANCE = 1e-4
"""Largest difference of a score, relative to the largest: float32 sums of at most a few hundred products."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NeighborsContent:
    """Item-item weights on their way into a bundle."""

    name: str
    neighbors: Neighbors
    item_ids: ItemIds
    prior_user: NDArray[np.float32]
    """float32 (N,): which items an unknown user would have met, as shares; stored in float16."""
    max_length: int
    """Events of a history that count."""
    manifest: Mapping[str, Any]
    """What else the manifest says: model, recipe, steps, metrics, provenance."""


def export_neighbors(
    path: Path, content: NeighborsContent, histories: Sequence[NDArray[np.int64]], *, overwrite: bool = False
) -> int:
    """Write `content` to `path`, verified on `histories` (item rows, oldest first); returns its size in bytes.

    Raises:
        GateError: the runtime does not agree with the weights; nothing is written, and a file that was there stays.
        FileExistsError, OSError: as `write_bundle`.
    """
    neighbors = content.neighbors
    manifest = {
        "name": content.name,
        "family": "item-item",
        "max_length": content.max_length,
        "items": {"count": neighbors.n_items, "ids": content.item_ids.describe()},
        "item_table": neighbors.weights.describe(),
        **content.manifest,
    }
    parts: dict[str, bytes | NDArray[Any]] = {
        **neighbors.parts(),
        "prior_user": content.prior_user.astype(np.float16),
    }
    if content.item_ids.kind != "range":
        parts["item_ids"] = content.item_ids.to_bytes()
    with tempfile.TemporaryDirectory(prefix=f".{path.name[:100]}.", dir=path.parent) as folder:
        draft = Path(folder) / "draft.pocket"
        size_bytes = write_bundle(draft, manifest, parts)
        verify_neighbors(draft, content, histories)
        publish(draft, path, overwrite=overwrite)
    return size_bytes


def verify_neighbors(
    path: Path, content: NeighborsContent, histories: Sequence[NDArray[np.int64]]
) -> dict[str, float]:
    """Run the bundle as a device would, and compare catalogue and candidate scores with sums of the weights.

    Raises:
        GateError: they differ by more than `TOLERANCE`.
    """
    engine = Engine.load(path)
    all_rows = np.arange(engine.n_items)
    errors = [0.0]
    for history in histories:
        expected = spread_scores(content.neighbors, history[-content.max_length :])
        user = engine.encode(history[None, -content.max_length :])
        largest = max(float(np.abs(expected).max()), 1e-12)
        found = np.stack([engine.score_all(user)[0], engine.score(user, all_rows[None])[0]])
        errors.append(float(np.abs(found - expected).max()) / largest)
    error = float(np.max(errors))
    if not error <= TOLERANCE:
        raise GateError(
            f"{content.name}: the bundle's scores differ from the weights' by {error:.1e}, at most {TOLERANCE:.0e} is rounding"
        )
    return {"score_error": error}


def spread_scores(neighbors: Neighbors, history: NDArray[np.int64]) -> NDArray[np.float64]:
    """Scores of the catalogue, float64 (N,), one item after the other: slow, and as the formula says it."""
    known = np.zeros(neighbors.n_items, bool)
    known[history] = True
    scores = np.zeros(neighbors.n_items)
    for item in range(neighbors.n_items):
        weights = neighbors.weights.lookup(np.array([item]))[0].astype(np.float64)
        met = known if neighbors.rows is None else known[neighbors.rows[item]]
        scores[item] = weights[met].sum()
    return scores
