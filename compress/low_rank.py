"""Fewer dimensions for lookup and scoring: an item table of rank r around an encoder of width D.

    item vector = factors[item] @ expand        (r) -> (D)
    user vector = encoder(item vectors) @ project      (D) -> (r)
    score       = user vector . factors[item]

The table, which is most of the bytes, shrinks by r / D, and so does the time to score the catalogue; the encoder
keeps its width, its weights and its LayerNorms. Factors start as the truncated singular value decomposition of the
teacher's table, E ~ (U S) V^T with expand = V^T and project = V: the best approximation of that rank in the least
squares sense (Eckart and Young 1936), so that distillation starts close by. A random rotation in the space of the
factors spreads each row's length over all its dimensions: scores do not change, and one scale a row then fits them all
(measured on Beauty: in the singular basis 3 bits cost twice what they cost in a rotated one).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from .models.protocol import SequenceModel


class LowRank(nn.Module):
    """A sequence model of width r around the encoder of another one; the table of the other is dropped."""

    item_bias: None = None

    def __init__(self, inner: nn.Module, item_table: Tensor, expand: Tensor, project: Tensor) -> None:
        """item_table: float32 (N, r); expand: (r, D); project: (D, r)."""
        super().__init__()
        self.inner = inner
        self.item_table = nn.Parameter(item_table)
        self.expand = nn.Linear(*expand.shape, bias=False)
        self.project = nn.Linear(*project.shape, bias=False)
        self.expand.weight = nn.Parameter(expand.T.contiguous())
        self.project.weight = nn.Parameter(project.T.contiguous())

    @property
    def config(self) -> object:
        return self.inner.config

    @property
    def max_length(self) -> int:
        return int(self.inner.max_length)  # type: ignore[arg-type]

    @property
    def width(self) -> int:
        return self.item_table.shape[1]

    def hidden_states(self, item_vectors: Tensor, lengths: Tensor) -> Tensor:
        """See `SequenceModel.hidden_states`: (B, L, r) -> (B, L, r)."""
        return self.project(self.inner.hidden_states(self.expand(item_vectors), lengths))  # type: ignore[operator]

    def encode(self, item_vectors: Tensor) -> Tensor:
        """See `SequenceModel.encode`: (B, n, r) -> (B, r)."""
        return self.project(self.inner.encode(self.expand(item_vectors)))  # type: ignore[operator]

    def forward(self, item_vectors: Tensor) -> Tensor:
        """`encode`: calling the model, and exporting it, is encoding."""
        return self.encode(item_vectors)


def low_rank(model: SequenceModel, width: int, *, seed: int) -> LowRank:
    """A copy of `model` whose item table has rank `width`, at most its own width.

    Raises:
        ValueError: `width` is not between 1 and the model's width.
    """
    if not 1 <= width <= model.width:
        raise ValueError(f"low rank: width {width}, expected 1 to {model.width}, the model's own")
    table = model.item_table.detach()
    expand = principal_directions(table, width, seed=seed)
    inner = copy.deepcopy(model)
    del inner.item_table  # type: ignore[misc]
    return LowRank(inner, table @ expand.T, expand, expand.T.contiguous())  # type: ignore[arg-type]


def principal_directions(table: Tensor, width: int, *, seed: int) -> Tensor:
    """Orthonormal rows (r, D) that span the r first right singular vectors of a table (N, D), in a rotated basis."""
    _, _, basis = torch.linalg.svd(table.T @ table)  # rows: right singular vectors, (D, D)
    rotation, _ = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(seed)))
    return rotation @ basis[:width]
