"""Structured pruning: whole attention heads, feed-forward and recurrent units, and kernels are cut out of the weights.

What is cut is really gone: the matrices are smaller, so the model is faster on any hardware, not just lighter. The
width of the residual stream, and so of items and users, stays. What to cut is decided by what a unit is worth, summed over
its weights and over everything that is cut together; with g_b the gradient of the next-item loss on batch b of the user's
own sequences,

    taylor      |sum_b g_b * weight|           (Molchanov et al. 2019, arXiv:1906.10771, section 3, without the square)
    fisher      sum_b (g_b * weight)^2         (Theis et al. 2018, arXiv:1801.05787, section 3.1, a batch for a point)
    magnitude   |weight|                       no data: what is usual, to compare with

In the transformers, torch-pruning's dependency graph finds that a head is
rows of q, k and v and columns of the output, and a feed-forward unit a row of one matrix and a column of the next (Fang et
al. 2023, arXiv:2301.12900); afterwards the attention's own book-keeping (`n_heads`) is updated, without which its forward
would be wrong. What that graph does not see is written down in `prune_units`. Each layer keeps its share of its own best
units, so no layer is starved.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, cast, get_args

import numpy as np
import torch
import torch.nn.functional as F
import torch_pruning as tp
from numpy.typing import NDArray
from torch import Tensor, nn

from ..runtime.errors import InputError
from .distill_config import DistillConfig
from .history_batches import prefix_batches
from .models.bert4rec import BERT4Rec
from .models.pmixer_sasrec import PmixerSASRec
from .models.protocol import SequenceModel, innermost
from .models.sasrec import SASRec
from .prune_units import importance, keep_units, unit_groups

Model = TypeVar("Model", bound=SequenceModel)


Importance = Literal["taylor", "fisher", "magnitude"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PruneConfig:
    """How much of each layer stays."""

    keep_heads: float = 0.5
    """Share of the attention heads of each layer that stay, at least one head."""
    keep_inner: float = 0.5
    """Share of the feed-forward units of each layer that stay."""
    keep_hidden: float = 0.75
    """Share of the units of each recurrent layer that stay. A state carries everything that is known of a history, so
    it has less to spare than a feed-forward layer, which is four times as wide as what it reads."""
    keep_kernels: float = 0.5
    """Share of the convolution kernels of each kind and height that stay, at least one."""
    importance: Importance = "taylor"
    """What a unit is worth: see above."""
    inner_multiple: int = 16
    """Feed-forward and recurrent widths are rounded up to a multiple of this: a register of float32 or a block of int8."""
    calibration_batches: int = 32
    """Batches of histories whose gradients decide."""
    rounds: int = 1
    """Parts in which it is cut; what each but the last leaves learns from the teacher for `round_epochs` (`prune_rounds`)."""
    round_epochs: int = 1
    """Passes of distillation after each round but the last, which the recipe's [distill] follows."""
    max_drop: float = 0.1
    """Where NDCG@10 on the validation items falls by more than this share, what was cut is put back: distillation makes
    good a few percent (2 to 5% on the SASRec and BERT4Rec checkpoints that were tried), not everything (of ICSRec's
    GRU4Rec a quarter of the state's units cost 14%, and four epochs did not bring it back). 1 never puts back."""

    def __post_init__(self) -> None:
        for name in ("keep_heads", "keep_inner", "keep_hidden", "keep_kernels"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"prune: {name} {getattr(self, name)}; expected above 0, up to 1")
        if self.importance not in get_args(Importance):
            raise ValueError(f"prune: importance {self.importance!r}; expected taylor, fisher or magnitude")
        if not 0 <= self.max_drop <= 1:
            raise ValueError(f"prune: max_drop {self.max_drop}; expected 0 to 1")
        if self.inner_multiple < 1 or self.calibration_batches < 1:
            raise ValueError("prune: inner_multiple and calibration_batches must be at least 1")
        if min(self.rounds, self.round_epochs) < 1:
            raise ValueError(
                f"prune: {self.rounds} rounds with {self.round_epochs} epochs between them; expected at least 1 of both"
            )


@dataclasses.dataclass(frozen=True, slots=True)
class _Root:
    """A linear layer whose outputs come in `n_units` units of equal size, `keep` of which stay."""

    name: str
    linear: nn.Linear
    n_units: int
    keep: int


TRANSFORMERS = (SASRec, BERT4Rec, PmixerSASRec)
"""Models of `sasrec.Attention` and two dense layers, whose slices torch-pruning finds."""


def can_prune(model: SequenceModel) -> bool:
    """Whether it is known which parts of this architecture can be cut."""
    inner = innermost(model)
    return isinstance(inner, TRANSFORMERS) or bool(unit_groups(inner))


def prune(
    model: Model,
    sequences: Sequence[NDArray[np.int64]],
    config: PruneConfig,
    *,
    seed: int,
    whole: SequenceModel | None = None,
) -> tuple[Model, dict[str, Any]]:
    """A smaller copy of a model that `can_prune`, and which units stayed where; sequences are training sequences of
    item rows.

    Args:
        whole: the model whose units the shares are of, where `model` has lost some of them already; None is `model`.

    Raises:
        InputError: no sequence has two items, so there is no next item whose loss could decide.
    """
    model = copy.deepcopy(model).eval()  # type: ignore[attr-defined]
    _accumulate_gradients(model, sequences, config, seed)
    inner, uncut = innermost(model), innermost(whole or model)
    if isinstance(inner, TRANSFORMERS):
        detail = _prune_transformer_(inner, config, [_units_of(layer) for layer in cast(Any, uncut).layers])
    else:
        smaller, detail = _prune_units(
            inner, config, {group.name: group.n_units for group in unit_groups(uncut)}
        )
        model = _with_innermost(model, smaller)
    cast(nn.Module, model).zero_grad(set_to_none=True)
    return model, detail


def _with_innermost(model: Model, inner: nn.Module) -> Model:
    """`model` around another architecture."""
    if not hasattr(model, "inner"):
        return cast(Model, inner)
    model.inner = _with_innermost(model.inner, inner)  # type: ignore[attr-defined]
    return model


def _prune_units(
    model: nn.Module, config: PruneConfig, uncut: Mapping[str, int]
) -> tuple[nn.Module, dict[str, Any]]:
    """Cut what `prune_units` knows, shares being of `uncut`; the detail has before -> after of each number that shrank."""
    kept: dict[str, list[int]] = {}
    for group in unit_groups(model):
        n_units = _kept_of(group.field, uncut[group.name], config)
        if n_units < group.n_units:
            best = importance(model, group).argsort(descending=True)[:n_units]
            kept[group.name] = sorted(best.tolist())
    smaller = keep_units(model, kept)
    sizes = {
        field: [getattr(model.config, field), getattr(smaller.config, field)]
        for field in dict.fromkeys(group.field for group in unit_groups(model))
    }
    return smaller, {**sizes, "heads_kept": {n: u for n, u in kept.items() if n.endswith(".heads")}}


def _kept_of(field: str, n_units: int, config: PruneConfig) -> int:
    match field:
        case "n_heads":
            return _share(n_units, config.keep_heads)
        case "n_vertical" | "n_horizontal":
            return _share(n_units, config.keep_kernels)
        case "inner_width":
            return _in_multiples(n_units, config.keep_inner, config.inner_multiple)
        case "hidden_width":
            return _in_multiples(n_units, config.keep_hidden, config.inner_multiple)
        case _:
            raise ValueError(f"prune: no share is known for {field}")


def _prune_transformer_(
    model: SASRec | BERT4Rec | PmixerSASRec, config: PruneConfig, uncut: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    """Cut heads and feed-forward units in place, shares being of `uncut`, a layer each; gradients are there."""
    tables = [
        p for name, p in model.named_parameters() if "." not in name
    ]  # items, positions, pads and masks
    example = torch.zeros(2, min(model.max_length, 4), model.width)
    kept: dict[str, list[int]] = {}
    taylor = tp.importance.GroupTaylorImportance(group_reduction="sum", normalizer=None)  # type: ignore[arg-type]
    for root in list(_roots(model, config, uncut)):
        if root.keep >= root.n_units:
            continue
        graph = tp.DependencyGraph().build_dependency(
            model,
            example_inputs=example,
            forward_fn=_all_positions,
            ignored_params=tables,
            verbose=False,  # it would warn of the tables, ignored or not
        )
        channels = list(range(root.linear.out_features))
        group = graph.get_pruning_group(root.linear, tp.prune_linear_out_channels, idxs=channels)
        per_channel = taylor(group)
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
    model.refresh_config_()
    return {
        "heads": [layer.attention.n_heads for layer in model.layers],
        "inner_widths": [layer.dense_1.out_features for layer in model.layers],
        "heads_kept": {name: units for name, units in kept.items() if name.endswith(".heads")},
    }


def _units_of(layer: Any) -> tuple[int, int]:
    """Heads and feed-forward units."""
    return layer.attention.n_heads, layer.dense_1.out_features


def _roots(
    model: SASRec | BERT4Rec | PmixerSASRec, config: PruneConfig, uncut: Sequence[tuple[int, int]]
) -> Iterator[_Root]:
    """What can be cut. A head is cut through `v`; its partners q, k and out follow through the dependency graph."""
    for index, layer in enumerate(model.layers):
        n_heads, inner = _units_of(layer)
        yield _Root(
            f"layers.{index}.heads",
            layer.attention.v,
            n_heads,
            _share(uncut[index][0], config.keep_heads),
        )
        keep = _in_multiples(uncut[index][1], config.keep_inner, config.inner_multiple)
        yield _Root(f"layers.{index}.inner", layer.dense_1, inner, keep)


def _in_multiples(n: int, keep: float, multiple: int) -> int:
    """A share of n units, rounded up to a multiple, at most all of them."""
    return min(n, math.ceil(_share(n, keep) / multiple) * multiple)


def _share(n: int, keep: float) -> int:
    """A share of n units, rounded up; 55% of 100 are 55, whatever floating point makes of it."""
    return max(1, math.ceil(n * keep - 1e-9))


def _all_positions(model: nn.Module, example: Tensor | Sequence[Any]) -> Tensor:
    """The forward that the dependency graph traces: all positions, so that no layer is special."""
    assert isinstance(example, Tensor)
    if isinstance(
        model, BERT4Rec
    ):  # has no pass over all positions, and its layers hide nothing from anybody
        return model.encode(example)
    lengths = torch.full((example.shape[0],), example.shape[1])
    return model.hidden_states(example, lengths)  # type: ignore[operator]


def _accumulate_gradients(
    model: SequenceModel, sequences: Sequence[NDArray[np.int64]], config: PruneConfig, seed: int
) -> None:
    """Leaves in every `grad` what makes |grad * weight| the weight's importance.

    That is what torch-pruning and `prune_units.importance` add up: the gradient itself for Taylor's; sum g_b^2 * weight
    for Fisher's; ones for the magnitude.
    """
    parameters = [p for p in cast(nn.Module, model).parameters() if p.requires_grad]
    if config.importance == "magnitude":
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        return
    cast(nn.Module, model).zero_grad(set_to_none=True)
    squares = [torch.zeros_like(parameter) for parameter in parameters]
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
        if config.importance == "fisher":
            for parameter, square in zip(parameters, squares, strict=True):
                if parameter.grad is not None:
                    square += parameter.grad.square()
            cast(nn.Module, model).zero_grad(set_to_none=True)
        if used == config.calibration_batches:
            break
    if used == 0:
        raise InputError(
            f"prune: none of the {len(sequences):,} training sequences has two items, so nothing says what to cut; "
            "use a recipe without [prune]"
        )
    if config.importance == "fisher":
        for parameter, square in zip(parameters, squares, strict=True):
            parameter.grad = square * parameter.detach()
