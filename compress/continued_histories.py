"""Histories that the teacher goes on with by itself, so that a student meets more of them than the data has.

A teacher answers for any history, and people come back with one that it has not seen: what they had, and what they did
since. Its own next items, drawn from its distribution over the catalogue, make such histories without end,

    next item ~ softmax(teacher's scores of what is not in the history)

one after the other (Yue et al. 2021, "Black-Box Attacks on Sequential Recommenders via Data-Free Model Extraction",
arXiv:2109.01165, section 4.1, which needs no data at all but these). ICSRec's SASRec on Beauty, in a fifteenth of its bytes,
after six epochs: KL to the teacher, of histories with the validation item at their end, .263 instead of .294, and of those
that end as training does the same; the gap grows with epochs.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .models.protocol import SequenceModel
from .train import CHUNK_LOGITS


def continued(
    teacher: SequenceModel,
    rows: Tensor,
    n_events: int,
    max_length: int,
    generator: np.random.Generator,
    *,
    repeats: bool,
) -> Tensor:
    """Histories int64 (B, n) and `n_events` items after each, the last `max_length` of all: int64 (B, min(n + n_events, max_length)).

    Args:
        repeats: what is in a history may come again. Without, a history that has the whole catalogue is left as it is.
    """
    table = teacher.item_table.detach()
    at_once = max(1, CHUNK_LOGITS // len(table))
    for _ in range(n_events):
        if not repeats and rows.shape[1] >= len(table):
            break
        following = torch.cat(
            [_drawn(teacher, table, part, generator, repeats) for part in rows.split(at_once)]
        )
        rows = torch.cat([rows, following], 1)[:, -max_length:]
    return rows


def _drawn(
    teacher: SequenceModel, table: Tensor, rows: Tensor, generator: np.random.Generator, repeats: bool
) -> Tensor:
    """One item for each history: int64 (B, 1)."""
    with torch.no_grad():
        scores = teacher.encode(table[rows]) @ table.T
        if not repeats:
            scores.scatter_(1, rows, -torch.inf)
        reached = scores.softmax(1).cumsum_(1)  # (B, N): where each item's share ends
        where = torch.from_numpy(generator.random((len(rows), 1), np.float32)) * reached[:, -1:]
        found = torch.searchsorted(reached, where, right=True)
        # rounding may lead beyond the last share: what ends there is the last item that has one
        return torch.minimum(found, torch.searchsorted(reached, reached[:, -1:].contiguous()))
