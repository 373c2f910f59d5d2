"""The bag of tokens as it learns, and as it is stored: see `runtime/text_tower.py` for the formula.

It begins as what a linear map can make of the encoder's own word vectors: with w_t the word vector of token t,

    e_t = w_t R + r,     R, r = argmin sum over items |mean of w over the title R + r - item vector|^2 + ridge |R|^2

so a token that no title has, and that a later title brings, has a sensible vector, too. Pairs begin at zero, with a weight
so low that they hardly count until they have learned something.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...runtime.errors import InputError
from ...runtime.item_table import ROW_BITS, quantize_rows
from ...runtime.text_tower import bag_rows
from .tower_distill import Lesson, padded

RIDGE = 0.05
"""Share of the mean diagonal that is added to the normal equations: 384 word-vector dimensions from thousands of titles."""

PAIR_WEIGHT = -2.0
"""a of a pair at first: a seventh of a token's share."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BagConfig:
    """What a bag of tokens is made of."""

    pairs: int = 32_768
    """Rows for hashed pairs of neighbouring tokens; 0 for none."""
    inner: int = 512
    """Inner width of the second term; 0 for none."""
    bits: int = 4
    """Bits a value of the token table, with a scale a row."""

    def __post_init__(self) -> None:
        if self.pairs < 0 or self.inner < 0 or self.bits not in ROW_BITS:
            raise InputError(
                f"text bag: pairs {self.pairs}, inner {self.inner}, bits {self.bits}; expected at least 0, at least 0, "
                f"one of {', '.join(map(str, ROW_BITS))}"
            )


class BagNet(nn.Module):
    """A `TowerNet`. `vectors` float32 (V, D) are the token vectors to begin with."""

    def __init__(self, vectors: Tensor, config: BagConfig) -> None:
        super().__init__()
        self.n_tokens, width = vectors.shape
        self.pairs = config.pairs
        self.table = nn.Parameter(torch.cat([vectors, vectors.new_zeros(config.pairs, width)]))
        self.weights = nn.Parameter(torch.zeros(len(self.table)))
        with torch.no_grad():
            self.weights[self.n_tokens :] = PAIR_WEIGHT
        self.inner = nn.Linear(width, config.inner) if config.inner else None
        self.outer = nn.Linear(config.inner, width) if config.inner else None
        if self.outer is not None:
            nn.init.zeros_(self.outer.weight)
            nn.init.zeros_(self.outer.bias)

    def forward(self, rows: Tensor) -> Tensor:
        mask = rows >= 0  # (n, L)
        rows = rows.clamp(min=0)
        shares = self.weights[rows].masked_fill(~mask, float("-inf")).softmax(1)  # (n, L)
        sums = (shares[:, :, None] * nn.functional.embedding(rows, self.table)).sum(1)  # (n, D)
        if self.inner is None or self.outer is None:
            return sums
        return sums + self.outer(self.inner(sums).relu())

    def move_(self, scale: float, shift: NDArray[np.float32]) -> None:
        """From now on every vector v is scale * v + shift: shares sum to 1, so the token vectors carry both."""
        offset = torch.from_numpy(shift)
        with torch.no_grad():
            self.table.mul_(scale).add_(offset)
            if self.inner is not None and self.outer is not None:
                self.inner.bias.sub_(self.inner.weight @ (offset / scale))  # the head sees what it saw before
                self.inner.weight.div_(scale)
                self.outer.weight.mul_(scale)
                self.outer.bias.mul_(scale)

    def stored(
        self, tokenizer: bytes, *, bits: int, max_tokens: int
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The manifest's `text`, and the parts, as `read_text_tower` wants them."""
        table = quantize_rows(self.table.detach().numpy(), bits)
        inner = 0 if self.inner is None else self.inner.out_features
        described = {
            "form": "bag", "tokens": self.n_tokens, "pairs": self.pairs, "inner": inner, "bits": bits,
            "scale_unit": table.scale_unit, "max_tokens": max_tokens,
        }  # fmt: skip
        parts: dict[str, Any] = {
            "tokenizer.json": tokenizer,
            "token_codes": table.codes,
            "token_scales": table.scales,
            "token_weights": self.weights.detach().numpy().astype(np.float16),
        }
        if self.inner is not None and self.outer is not None:
            flat = [
                self.inner.weight.T,
                self.inner.bias,
                self.outer.weight.T,
                self.outer.bias,
            ]  # x W, not W x
            joined = torch.cat([tensor.detach().reshape(-1) for tensor in flat])
            parts["text_head"] = joined.numpy().astype(np.float16)
        return described, parts


def bag_tokens(encoded: list[list[int]], n_tokens: int, pairs: int) -> Tensor:
    """What the bag sees of each title: int64 (N, L)."""
    return padded([bag_rows(ids, n_tokens, pairs) for ids in encoded])


def fresh_bag(word_vectors: NDArray[np.float32], lesson: Lesson, config: BagConfig, *, seed: int) -> BagNet:
    """A bag that begins with the linear map; `word_vectors` float32 (V, H') are of its tokens."""
    words = torch.from_numpy(word_vectors)
    rows = lesson.tokens.masked_fill(lesson.tokens >= len(words), -1)  # without the pairs
    mask = (rows >= 0).float()  # (N, L)
    means = torch.stack(
        [words[some.clamp(min=0)].mul(m[:, None]).sum(0) for some, m in zip(rows, mask, strict=True)]
    ) / mask.sum(1, keepdim=True).clamp(min=1)  # (N, H')
    center, target = means.mean(0), lesson.table.mean(0)
    centered = (means - center).double()
    gram = centered.T @ centered
    gram.diagonal().add_(RIDGE * gram.diagonal().mean() + 1e-9)
    linear = torch.linalg.solve(gram, centered.T @ (lesson.table - target).double()).float()  # (H', D)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BagNet((words - center) @ linear + target, config)
