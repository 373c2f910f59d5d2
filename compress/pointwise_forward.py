"""A pointwise model on encoded rows, in torch: what the runtime does, with gradients.

Tables may be others than the model's own, such as rounded ones. Where a list ends is where its rows become 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..benchmarks.labelled_rows import LabelledRows
from .models.pointwise_protocol import PointwiseModel
from .prune_pointwise import LabelledRows as LookedUp

BATCH = 1024
"""Rows at once where nothing is learned: their activations stay in the cache."""


def tensors(rows: LabelledRows) -> dict[str, Tensor]:
    """Columns by field."""
    return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in rows.columns.items()}


def logits(
    model: PointwiseModel, columns: Mapping[str, Tensor], tables: Mapping[str, Tensor] | None = None
) -> Tensor:
    """Logits of B rows, whose columns are by field: float32 (B,)."""
    tables = model.tables if tables is None else tables
    vectors, lengths = list[Tensor](), list[Tensor]()
    for lookup in model.lookups:
        rows = columns[lookup.field]
        found = F.embedding(rows, tables[lookup.table])
        if rows.dim() == 2:
            known = rows > 0
            found = found * known[..., None]
            lengths.append(known.sum(1))
        vectors.append(found)
    n_rows = len(next(iter(columns.values())))
    numeric = [columns[field.name] for field in model.schema.of("float")]
    return model.logits(
        vectors,
        torch.stack(lengths, 1) if lengths else torch.zeros(n_rows, 0, dtype=torch.int64),
        torch.stack(numeric, 1) if numeric else torch.zeros(n_rows, 0),
    )


def all_logits(
    model: PointwiseModel, rows: LabelledRows, tables: Mapping[str, Tensor] | None = None
) -> NDArray[np.float32]:
    """Logits of all rows, without gradients: float32 (n,)."""
    columns = tensors(rows)
    with torch.inference_mode():
        found = [
            logits(model, {name: values[start : start + BATCH] for name, values in columns.items()}, tables)
            for start in range(0, len(rows), BATCH)
        ]
    return torch.cat(found).numpy()


def looked_up(model: PointwiseModel, rows: LabelledRows) -> LookedUp:
    """Rows as pruning has them: by look-up instead of by field."""
    columns: dict[str, Any] = tensors(rows)
    by_lookup = [columns[lookup.field] for lookup in model.lookups]
    lengths = [(values > 0).sum(1) for values in by_lookup if values.dim() == 2]
    numeric = [columns[field.name] for field in model.schema.of("float")]
    return LookedUp(
        rows=by_lookup,
        lengths=torch.stack(lengths, 1) if lengths else torch.zeros(len(rows), 0, dtype=torch.int64),
        numeric=torch.stack(numeric, 1) if numeric else torch.zeros(len(rows), 0),
        labels=torch.from_numpy(rows.labels),
    )
