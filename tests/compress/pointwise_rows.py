"""A pointwise model on rows of its tables, as the runtime will look them up: zeros beyond the end of a list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def logits(model: Any, rows: Mapping[str, NDArray[Any]]) -> torch.Tensor:
    """float32 (B,) of rows by the name of their field: (B,) a token, (B, n) a token_seq padded with 0, (B,) a float."""
    kinds = {field.name: field.kind for field in model.schema.fields}
    vectors = []
    lengths = []
    for lookup in model.lookups:
        index = torch.from_numpy(np.asarray(rows[lookup.field], np.int64))
        found = model.tables[lookup.table][index]
        if kinds[lookup.field] == "token_seq":
            known = index > 0
            found = found * known[..., None]
            lengths.append(known.sum(1))
        vectors.append(found)
    n_rows = len(vectors[0])
    numeric = [
        torch.from_numpy(np.asarray(rows[name], np.float32))
        for name, kind in kinds.items()
        if kind == "float"
    ]
    return model.logits(
        vectors,
        torch.stack(lengths, 1) if lengths else torch.zeros(n_rows, 0, dtype=torch.int64),
        torch.stack(numeric, 1) if numeric else torch.zeros(n_rows, 0),
    )


def probabilities(model: Any, rows: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """The sigmoid of `logits`, without gradients, a few rows at a time so that they stay in the cache."""
    n_rows = min(map(len, rows.values()))
    with torch.inference_mode():
        found = [
            logits(model, {name: values[start : start + 256] for name, values in rows.items()}).sigmoid()
            for start in range(0, n_rows, 256)
        ]
    return torch.cat(found).numpy()
