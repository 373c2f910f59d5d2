"""Structured pruning: whole attention heads and whole feed-forward units are cut out of the weight matrices.

What is cut is really gone: the matrices are smaller, so the model is faster on any hardware, not just lighter. The
width of the residual stream, and so of items and users, stays. What to cut is decided by first-order Taylor importance
(Molchanov et al. 2019, arXiv:1906.10771, section 3; absolute values in place of squares) of the next-item loss on the user's own sequences,

    importance(unit) = sum over its weights of |gradient * weight|

gathered over everything that is cut together: torch-pruning's dependency graph finds that a head is rows of q, k and v
and columns of the output, and a feed-forward unit a row of one matrix and a column of the next (Fang et al. 2023,
arXiv:2301.12900). Each layer keeps its share of its own best units, so no layer is starved.

Afterwards the attention's own book-keeping (`n_heads`) is updated, without which its forward would be wrong.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torch_pruning as tp
from numpy.typing import NDArray
from torch import Tensor, nn

from ..runtime.errors import InputError
from .distill import DistillConfig, prefix_batches
from .models.sasrec import SASRec


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PruneConfig:
    """How much of each layer stays."""

    keep_heads: float = 0.5
    """Share of the attention heads of each layer that stay, at least one head."""
    keep_inner: float = 0.5
    """Share of the feed-forward units of each layer that stay."""
    inner_multiple: int = 16
    """Feed-forward widths are rounded up to a multiple of this: a register of float32 or a block of int8."""
    calibration_batches: int = 32
    """Batches of histories whose gradients decide."""

    def __post_init__(self) -> None:
        if not (0 < self.keep_heads <= 1 and 0 < self.keep_inner <= 1):
            raise ValueError(
                f"prune: keep_heads {self.keep_heads}, keep_inner {self.keep_inner}; expected above 0, up to 1"
            )
        if self.inner_multiple < 1 or self.calibration_batches < 1:
            raise ValueError("prune: inner_multiple and calibration_batches must be at least 1")


@dataclasses.dataclass(frozen=True, slots=True)
class _Root:
    """A linear layer whose outputs come in `n_units` units of equal size, `keep` of which stay."""

    name: str
    linear: nn.Linear
    n_units: int
    keep: int


def prune(
    model: SASRec, sequences: Sequence[NDArray[np.int64]], config: PruneConfig, *, seed: int
) -> tuple[SASRec, dict[str, Any]]:
    """A smaller copy of `model`, and which units stayed where; sequences are training sequences of item rows.

    Raises:
        InputError: no sequence has two items, so there is no next item whose loss could decide.
    """
    model = copy.deepcopy(model).eval()
    _accumulate_gradients(model, sequences, config, seed)
    example = torch.zeros(2, min(model.max_length, 4), model.width)
    kept: dict[str, list[int]] = {}
    importance = tp.importance.GroupTaylorImportance(group_reduction="sum", normalizer=None)  # type: ignore[arg-type]
    for root in list(_roots(model, config)):
        if root.keep == root.n_units:
            continue
        graph = tp.DependencyGraph().build_dependency(
            model,
            example_inputs=example,
            forward_fn=_all_positions,
            ignored_params=[model.item_table, model.position_table],
            verbose=False,  # it would warn of the tables, ignored or not
        )
        channels = list(range(root.linear.out_features))
        group = graph.get_pruning_group(root.linear, tp.prune_linear_out_channels, idxs=channels)
        per_channel = importance(group)
        assert per_channel is not None  # only without gradients
        per_unit = per_channel.reshape(root.n_units, -1).sum(1)
        best = per_unit.argsort(descending=True)[: root.keep].tolist()
        cut = sorted(set(range(root.n_units)) - set(best))
        size = root.linear.out_features // root.n_units
        idxs = [unit * size + i for unit in cut for i in range(size)]
        graph.get_pruning_group(root.linear, tp.prune_linear_out_channels, idxs=idxs).prune()
        kept[root.name] = sorted(best)
        for layer in model.layers:
            layer.attention.n_heads = layer.attention.q.out_features // layer.attention.head_width
    model.zero_grad(set_to_none=True)
    model.refresh_config_()
    return model, {
        "heads": list(model.config.n_heads),  # type: ignore[arg-type]
        "inner_widths": list(model.config.inner_widths),  # type: ignore[arg-type]
        "heads_kept": {name: units for name, units in kept.items() if name.endswith(".heads")},
    }


def _roots(model: SASRec, config: PruneConfig) -> Iterator[_Root]:
    """What can be cut. A head is cut through `v`; its partners q, k and out follow through the dependency graph."""
    for index, layer in enumerate(model.layers):
        n_heads = layer.attention.n_heads
        yield _Root(
            f"layers.{index}.heads",
            layer.attention.v,
            n_heads,
            _share(n_heads, config.keep_heads),
        )
        inner = layer.dense_1.out_features
        keep = math.ceil(_share(inner, config.keep_inner) / config.inner_multiple) * config.inner_multiple
        yield _Root(f"layers.{index}.inner", layer.dense_1, inner, min(inner, keep))


def _share(n: int, keep: float) -> int:
    """A share of n units, rounded up; 55% of 100 are 55, whatever floating point makes of it."""
    return max(1, math.ceil(n * keep - 1e-9))


def _all_positions(model: nn.Module, example: Tensor | Sequence[Any]) -> Tensor:
    """The forward that the dependency graph traces: all positions, so that no layer is special."""
    assert isinstance(example, Tensor)
    lengths = torch.full((example.shape[0],), example.shape[1])
    return model.hidden_states(example, lengths)  # type: ignore[operator]


def _accumulate_gradients(
    model: SASRec, sequences: Sequence[NDArray[np.int64]], config: PruneConfig, seed: int
) -> None:
    """Gradients of the next-item cross-entropy, summed over calibration batches."""
    model.zero_grad(set_to_none=True)
    batches = prefix_batches(
        sequences,
        DistillConfig(prefixes_per_user=1, least_histories=1),
        model.max_length,
        np.random.default_rng(seed),
    )
    used = 0
    for rows, targets in batches:
        known = targets >= 0
        if not bool(known.any()):
            continue
        scores = model.encode(F.embedding(rows[known], model.item_table)) @ model.item_table.T
        F.cross_entropy(scores, targets[known], reduction="sum").backward()
        used += 1
        if used == config.calibration_batches:
            return
    if used == 0:
        raise InputError(
            f"prune: none of the {len(sequences):,} training sequences has two items, so nothing says what to cut; "
            "use a recipe without [prune]"
        )
