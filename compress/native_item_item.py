"""Item-item weights in pocketrec's own checkpoint: `native_checkpoint`, with two tensors.

    neighbor_weights   float32 (N, K)
    neighbor_rows      int32 (N, K), beside them; left out where all N items are neighbours, in their order

The architecture is `item-item`; the config says how the weights were solved for, and loading needs nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.atomic_file import write_atomically
from ..runtime.errors import InputError
from ..runtime.item_ids import ItemIds
from ..runtime.neighbors import Neighbors
from .native_checkpoint import metadata_of

ARCHITECTURE = "item-item"
WEIGHTS, ROWS = "neighbor_weights", "neighbor_rows"


def save_item_item(
    path: str | PathLike[str],
    neighbors: Neighbors,
    item_ids: ItemIds,
    *,
    config: Mapping[str, Any],
    training: Mapping[str, Any] | None = None,
    overwrite: bool = True,
) -> int:
    """Writes the weights, atomically; returns the file's size in bytes. `load_ranking_teacher` reads it.

    Raises:
        InputError: another number of items than ids.
        OSError: the path cannot be written.
    """
    from safetensors.numpy import save

    if len(item_ids) != neighbors.n_items:
        raise InputError(
            f"{path}: {len(item_ids)} item ids for {neighbors.n_items} items; expected one for each"
        )
    tensors: dict[str, NDArray[Any]] = {
        WEIGHTS: np.ascontiguousarray(neighbors.weights.lookup(np.arange(neighbors.n_items)))
    }
    if neighbors.rows is not None:
        tensors[ROWS] = np.ascontiguousarray(neighbors.rows.astype(np.int32))
    metadata = metadata_of(ARCHITECTURE, config, item_ids, training)
    return write_atomically(Path(path), [save(tensors, metadata)], overwrite=overwrite)
