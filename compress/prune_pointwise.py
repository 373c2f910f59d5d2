"""Structured pruning of pointwise models: hidden units of their MLPs are cut out of the weights.

An MLP is most of such a network (DCN V2 on MovieLens-100K: 677,000 of 700,000 weights outside the tables), and a unit of
it is a row of one matrix, a bias, and a column of the next. What to cut is decided as in `prune`: first-order Taylor
importance (Molchanov et al. 2019, arXiv:1906.10771, section 3), here of the log loss on rows with labels,

    importance(unit) = sum over its weights of |gradient * weight|

Each layer keeps its share of its own best units. Tables, cross layers and attention stay as they are.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..runtime.errors import InputError
from .models.mlp import MLP
from .models.pointwise_protocol import PointwiseModel
from .prune_units import Part, UnitGroup, importance, keep_units


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PrunePointwiseConfig:
    """How much of each layer stays."""

    keep_hidden: float = 0.5
    """Share of the hidden units of each MLP layer that stay."""
    multiple: int = 8
    """Widths are rounded up to a multiple of this: a register of float32. Layers that narrow stay whole."""

    def __post_init__(self) -> None:
        if not 0 < self.keep_hidden <= 1:
            raise ValueError(f"prune: keep_hidden {self.keep_hidden}; expected above 0, up to 1")
        if self.multiple < 1:
            raise ValueError(f"prune: multiple {self.multiple}; expected at least 1")


@dataclasses.dataclass(frozen=True, slots=True)
class LabelledRows:
    """One batch of rows of a model's tables with labels, B of them."""

    rows: Sequence[Tensor]
    """int64 for each lookup: (B,) of a token, (B, n) of a token_seq, padded with anything beyond its length."""
    lengths: Tensor
    """int64 (B, S): see `PointwiseModel.logits`."""
    numeric: Tensor
    """float32 (B, N)."""
    labels: Tensor
    """float32 (B,), 0 or 1."""


def prune_pointwise(
    model: PointwiseModel, batches: Iterable[LabelledRows], config: PrunePointwiseConfig
) -> tuple[PointwiseModel, dict[str, Any]]:
    """A smaller copy of the model, and how many units of each layer stayed, beside how many there were.

    Raises:
        InputError: there is no batch whose loss could decide.
    """
    working = copy.deepcopy(cast(nn.Module, model)).eval()
    accumulate_gradients(cast(PointwiseModel, working), batches)
    groups = mlp_groups(working)
    kept: dict[str, list[int]] = {}
    for group in groups:
        keep = math.ceil(group.n_units * config.keep_hidden / config.multiple) * config.multiple
        if keep < group.n_units:
            best = importance(working, group).topk(keep).indices
            kept[group.name] = sorted(best.tolist())
    working.zero_grad(set_to_none=True)
    smaller = keep_units(working, kept, groups)
    sizes = {group.name: [len(kept.get(group.name, range(group.n_units))), group.n_units] for group in groups}
    return cast(PointwiseModel, smaller), sizes


def accumulate_gradients(model: PointwiseModel, batches: Iterable[LabelledRows]) -> None:
    """Add the gradients of the log loss to the network's parameters; the tables get none."""
    seen = 0
    for batch in batches:
        logits = model.logits(look_up(model, batch), batch.lengths, batch.numeric)
        F.binary_cross_entropy_with_logits(logits, batch.labels).backward()
        seen += len(batch.labels)
    if not seen:
        raise InputError("prune: no rows with labels; expected some whose loss decides what is cut")


@torch.no_grad()
def look_up(model: PointwiseModel, batch: LabelledRows) -> list[Tensor]:
    """The vectors that the network gets: zeros beyond the length of a list."""
    vectors, column = list[Tensor](), 0
    for lookup, rows in zip(model.lookups, batch.rows, strict=True):
        found = model.tables[lookup.table][rows]
        if rows.dim() == 2:
            known = torch.arange(rows.shape[1]) < batch.lengths[:, column, None]  # (B, n)
            found, column = found * known[..., None], column + 1
        vectors.append(found)
    return vectors


def mlp_groups(model: nn.Module) -> tuple[UnitGroup, ...]:
    """The hidden units of every MLP of a pointwise model, layer by layer."""
    chains = [("mlp", "hidden_widths", "output"), ("attention", "attention_widths", "weigh")]
    return tuple(
        group
        for name, field, reader in chains
        if isinstance(getattr(model, name, None), MLP)
        for group in _chain(model.get_submodule(name), name, field, reader, model.get_submodule(reader))
    )


def _chain(mlp: nn.Module, name: str, field: str, reader: str, last: nn.Module) -> Iterator[UnitGroup]:
    layers = cast(list[nn.Linear], list(cast(MLP, mlp).layers))
    for i, layer in enumerate(layers):
        units = torch.arange(layer.out_features)[:, None]  # (units, 1)
        own = [Part(f"{name}.layers.{i}.{kind}", 0, units) for kind in ("weight", "bias")]
        if i + 1 < len(layers):
            reads = Part(f"{name}.layers.{i + 1}.weight", 1, units)
        else:  # what stands before the MLP's output in the last layer's input is not the MLP's
            start = cast(nn.Linear, last).in_features - layer.out_features
            reads = Part(f"{reader}.weight", 1, units + start)
        yield UnitGroup(f"{name}.layers.{i}", f"{field}.{i}", (*own, reads))
