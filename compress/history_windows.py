"""Windows of histories, and user vectors at every position of them.

A causal encoder that counts positions from the first item of a history, or not at all, has as its state after an item what
`encode` says of the history up to there. One that pads on the left has not (`check_prefixes`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..runtime.errors import InputError
from .models.protocol import SequenceModel, innermost

TOLERANCE = 1e-3
"""Of `check_prefixes`, as a share of the longest vector: more than float32 sums in another order make of it."""
_CHECKED = (1, 2, 5, 9)  # lengths of prefixes


def states_of(model: SequenceModel, rows: Tensor, table: Tensor) -> Tensor:
    """User vectors after every item of rows int64 (B, L), right-padded with -1: (B, L, D)."""
    return model.hidden_states(F.embedding(rows.clamp(min=0), table), (rows >= 0).sum(1))


def window_count(sequences: Sequence[NDArray[np.int64]], max_length: int) -> int:
    """Windows of an epoch."""
    return sum(math.ceil(len(sequence) / max_length) for sequence in sequences)


def windows_of(
    sequences: Sequence[NDArray[np.int64]], max_length: int, generator: np.random.Generator
) -> Iterator[tuple[int, int, int]]:
    """(user, start, end): the last items of each sequence, and windows at random places of what is longer."""
    for user, sequence in enumerate(sequences):
        n = len(sequence)
        ends = [n, *generator.integers(max_length, n, size=math.ceil(n / max_length) - 1)] if n else []
        for end in ends:
            yield user, max(0, int(end) - max_length), int(end)


def check_prefixes(model: SequenceModel, name: str) -> None:
    """Whether the states of a model (`name` in the error) are what it says of prefixes.

    Raises:
        InputError: they are not.
    """
    table = model.item_table.detach()
    length = min(max(_CHECKED) + 1, model.max_length)
    rows = torch.arange(length) % len(table)
    was_training = cast(nn.Module, model).training
    cast(nn.Module, model).eval()
    with torch.no_grad():
        states = states_of(model, torch.cat([rows, torch.tensor([-1])])[None, : model.max_length], table)[0]
        for n in (n for n in _CHECKED if n <= length):
            alone = model.encode(F.embedding(rows[None, :n], table))[0]
            if not bool((states[n - 1] - alone).norm() <= TOLERANCE * states.norm(dim=1).max()):
                raise InputError(
                    f"distill: positions need an encoder that says the same of a history whatever comes after it, which the {name}, "
                    f"a {type(innermost(model)).__name__}, does not (it may count positions from the end); leave positions out"
                )
    cast(nn.Module, model).train(was_training)
