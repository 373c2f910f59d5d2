"""A sequence model as one torch module, item rows in and scores out: what other tools take a model to be.

Torch and nothing else is imported: a tool's own environment loads these modules too (`benchmarks/peers/torch_worker.py`).
"""

from __future__ import annotations

from torch import Tensor, nn


class Catalogue(nn.Module):
    """History -> scores of all items."""

    def __init__(self, encoder: nn.Module, table: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.items = nn.Embedding.from_pretrained(table, freeze=False)

    def forward(self, history: Tensor) -> Tensor:
        return self.encoder(self.items(history)) @ self.items.weight.T  # (B, N)


class Candidates(nn.Module):
    """History and candidates -> scores of the candidates."""

    def __init__(self, encoder: nn.Module, table: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.items = nn.Embedding.from_pretrained(table, freeze=False)

    def forward(self, history: Tensor, candidates: Tensor) -> Tensor:
        user = self.encoder(self.items(history))  # (B, D)
        return (self.items(candidates) @ user[:, :, None])[:, :, 0]  # (B, C)
