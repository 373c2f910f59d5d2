"""What the compression steps know of a sequence model.

A sequence model turns a history of items into one user vector, and scores an item by the dot product
with its row of the item table (plus a bias where the model has one):

    score(user, item) = encode(item_table[history]) @ item_table[item] + item_bias[item]

Rows of the table are items and nothing else: no padding row, no mask row (the layouts strip them).
The encoder takes item *vectors*, not rows, so that the table can be stored and quantized on its own.
"""

from __future__ import annotations

from typing import Any, Protocol, cast, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class SequenceModel(Protocol):
    """A `torch.nn.Module` of the sequence family. B batch, L history length, D width, N items."""

    @property
    def config(self) -> Any:
        """A frozen dataclass that rebuilds the architecture: `type(model)(model.config)`."""
        ...

    @property
    def max_length(self) -> int:
        """The longest history that the encoder takes; callers keep the last `max_length` items."""
        ...

    @property
    def width(self) -> int:
        """D, the length of an item's and of a user's vector."""
        ...

    @property
    def item_table(self) -> Tensor:
        """float32 (N, D), an `nn.Parameter`."""
        ...

    @property
    def item_bias(self) -> Tensor | None:
        """float32 (N,), an `nn.Parameter`, or None. Compression folds it into the table: see `item_bias.py`."""
        ...

    def hidden_states(self, item_vectors: Tensor, lengths: Tensor) -> Tensor:
        """User vectors after every item: float32 (B, L, D) to (B, L, D), for training.

        Args:
            item_vectors: float32 (B, L, D), right-padded with anything finite, L <= max_length.
            lengths: int64 (B,), how many of the L are valid, at least 1.

        Returns:
            float32 (B, L, D). Rows beyond `lengths` mean nothing.
        """
        ...

    def encode(self, item_vectors: Tensor) -> Tensor:
        """The user vector after the last item: float32 (B, n, D) to (B, D), 1 <= n <= max_length.

        All histories have the same length and no padding. This is what is exported.
        """
        ...


def innermost(model: SequenceModel) -> nn.Module:
    """The architecture inside what is wrapped around it: an item bias as a dimension, a table of low rank."""
    inner: Any = model
    while hasattr(inner, "inner"):
        inner = inner.inner
    return cast(nn.Module, inner)
