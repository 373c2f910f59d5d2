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
from .models.din import DIN
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
    groups = list[UnitGroup]()
    if isinstance(getattr(model, "mlp", None), MLP):
        layers = [
            [f"mlp.layers.{i}.{kind}" for kind in ("weight", "bias")] for i in range(_n_layers(model, "mlp"))
        ]
        groups += _chain(model, "mlp", "hidden_widths", layers, "output")
    if isinstance(model, DIN):
        layers = [["of_candidate.weight", "of_candidate.bias", "of_history.weight", "of_product.weight"]]
        layers += [
            [f"attention.layers.{i}.{kind}" for kind in ("weight", "bias")]
            for i in range(_n_layers(model, "attention"))
        ]
        groups += _chain(model, "attention", "attention_widths", layers, "weigh")
    return tuple(groups)


def _n_layers(model: nn.Module, name: str) -> int:
    return len(cast(MLP, model.get_submodule(name)).layers)


def _chain(
    model: nn.Module, name: str, field: str, layers: Sequence[Sequence[str]], output: str
) -> Iterator[UnitGroup]:
    """Units of layers that follow each other; of each layer the parameters whose rows they are, its weight first."""
    widths = [len(model.get_parameter(parameters[0])) for parameters in layers]
    readers = [*(parameters[0] for parameters in layers[1:]), f"{output}.weight"]
    for i, (parameters, width, reader) in enumerate(zip(layers, widths, readers, strict=True)):
        units = torch.arange(width)[:, None]  # (units, 1)
        # what stands before an MLP's units in the input of the layer that reads them is not the MLP's
        start = model.get_parameter(reader).shape[1] - width
        parts = (*(Part(parameter, 0, units) for parameter in parameters), Part(reader, 1, units + start))
        yield UnitGroup(f"{name}.{i}", f"{field}.{i}", parts)
