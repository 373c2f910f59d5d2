"""Teach a small net to say of a title what the item table says of the item, as users would notice.

With v_i the net's vector of item i's title, e_i the item's row as it is deployed, and h users' vectors at moments of their
training histories, over the items S of a batch:

    loss = KL(softmax_S(h . e) || softmax_S(h . v))  +  ce * -log softmax_S(h . v)[next item]
         + mse * mean ((v - e) / deviation of e)^2

The first asks that users rank by v as they do by e, the second that what they chose next stays ahead (so the net is tuned
on the interactions, not on the teacher alone: Hinton et al. 2015, arXiv:1503.02531, section 2), the third keeps v in
the table's space where no user of the batch looks. A share of a title's tokens is left out at random, so that the net does
not learn titles by heart from their rarest token.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ...benchmarks.progress import Track, untracked
from ...runtime.errors import InputError

NO_TOKEN = -1
"""Fills up the token rows of a batch."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DistillTowerConfig:
    """How a text tower learns."""

    steps: int = 4000
    """Of the optimizer; the learning rate falls linearly to zero."""
    learning_rate: float = 3e-3
    """Adam's at the start."""
    moments: int = 384
    """Users' moments a step; the item chosen next is in the batch."""
    others: int = 640
    """Random items a step, beside those."""
    ce: float = 0.1
    """Weight of the interactions."""
    mse: float = 1.0
    """Weight of the distance to the table."""
    token_dropout: float = 0.2
    """Share of a title's tokens that a step leaves out: better than .1 for titles that were not taught."""

    def __post_init__(self) -> None:
        for name in ("steps", "moments", "others"):
            if getattr(self, name) < 1:
                raise InputError(f"text tower: {name} {getattr(self, name)}, expected at least 1")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"text tower: learning_rate {self.learning_rate}, expected more than 0")


class TowerNet(Protocol):
    """An `nn.Module` from token rows to item vectors."""

    def __call__(self, rows: Tensor) -> Tensor:
        """int64 (n, L), `NO_TOKEN` after the last token -> float32 (n, D)."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What a tower learns from."""

    tokens: Tensor
    """int64 (N, L): rows of the token table for each item's title, `NO_TOKEN` after the last."""
    table: Tensor
    """float32 (N, D): the items' rows as they are deployed."""
    users: Tensor
    """float32 (P, D): users' vectors at moments of their training histories."""
    chosen: Tensor
    """int64 (P,): the item that came next."""

    def some(self, items: Tensor) -> Tensor:
        """Token rows of some items, as long as the longest: (n, L')."""
        rows = self.tokens[items]
        return rows[:, : max(1, int((rows >= 0).sum(1).max()))]


def distill_tower_(
    net: nn.Module, lesson: Lesson, config: DistillTowerConfig, *, seed: int, track: Track = untracked
) -> list[float]:
    """Train `net`, a `TowerNet`, in place, and put it into evaluation mode; the loss at every tenth of the way.

    Raises:
        InputError: the loss diverges.
    """
    generator = np.random.default_rng(seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / config.steps)
    n_items, deviation = len(lesson.table), lesson.table.std() + 1e-12
    moments, losses, since = min(config.moments, len(lesson.users)), list[float](), list[float]()
    net.train()
    with torch.random.fork_rng(devices=[]), track("text tower", config.steps) as advance:
        torch.manual_seed(seed)
        for step in range(config.steps):
            at = torch.from_numpy(generator.choice(len(lesson.users), moments, replace=False, shuffle=False))
            others = torch.from_numpy(generator.integers(0, n_items, config.others))
            items, place = torch.unique(torch.cat([lesson.chosen[at], others]), return_inverse=True)  # (S,)
            vectors = net(_without_some(lesson.some(items), config.token_dropout))  # (S, D)
            rows, users = lesson.table[items], lesson.users[at]  # (S, D), (P, D)
            ours = (users @ vectors.T).log_softmax(1)  # (P, S)
            theirs = (users @ rows.T).log_softmax(1)
            loss = F.kl_div(ours, theirs, log_target=True, reduction="batchmean")
            loss = loss + config.ce * F.nll_loss(ours, place[:moments])
            loss = loss + config.mse * ((vectors - rows) / deviation).square().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            since.append(loss.item())
            if not math.isfinite(since[-1]):
                raise InputError(
                    f"text tower: the loss is {since[-1]} in step {step}; try a lower learning rate"
                )
            if len(since) * 10 >= config.steps or step + 1 == config.steps:
                losses.append(float(np.mean(since)))
                since.clear()
            advance(1)
    net.eval()
    return losses


def _without_some(rows: Tensor, share: float) -> Tensor:
    """Each token left out with the probability `share`, but never all of a title's."""
    out = torch.rand(rows.shape) < share
    out &= ((rows >= 0) & ~out).any(1, keepdim=True)
    return rows.masked_fill(out, NO_TOKEN)


def padded(encoded: list[NDArray[np.int64]]) -> Tensor:
    """Token rows of N titles as one int64 (N, L)."""
    length = max((len(rows) for rows in encoded), default=1)
    found = np.full((len(encoded), length), NO_TOKEN, np.int64)
    for n, rows in enumerate(encoded):
        found[n, : len(rows)] = rows
    return torch.from_numpy(found)
