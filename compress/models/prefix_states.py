"""User vectors after every item, for encoders that look at a history as a whole: one prefix after the other.

An encoder in which early positions see later ones, or whose sums run over the padded length, has no single pass that
gives the user vector after every item. By definition they are the encodings of the prefixes: exact, and as many passes
as there are items.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def prefix_states(encode: Callable[[Tensor], Tensor], item_vectors: Tensor) -> Tensor:
    """float32 (B, L, D) -> (B, L, D): row t is `encode` of the first t + 1 items."""
    prefixes = range(1, item_vectors.shape[1] + 1)
    return torch.stack([encode(item_vectors[:, :n]) for n in prefixes], 1)
