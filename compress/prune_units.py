"""What is cut together, family by family, where torch-pruning's graph does not see it.

Its dependency graph follows torch's own layers. Gates of a recurrent network, which lie one below the other in one
parameter, sums over interests, and kernels whose outputs are joined, are written down here instead: a group of units,
and the rows or columns of each parameter that belong to each unit. Cutting is then an index, and the smaller model is
made from its config and filled with what stayed, so a shape that does not fit cannot be left behind.

A recurrent unit is its row in each of the three gates, its column in the hidden weights, and whatever reads it. A
kernel of Caser is its weights, its bias, and its columns of the first dense layer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .models.caser import Caser, CaserConfig
from .models.gru4rec import GRU4Rec
from .models.lightsans import LightSANs, LightSANsConfig
from .models.narm import NARM, NARMConfig

GATES = 3
"""Reset, update, candidate."""


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """Where the units of a group lie in one parameter."""

    parameter: str
    axis: int
    rows: Tensor
    """int64 (units, any): the indices along the axis that belong to each unit."""


@dataclasses.dataclass(frozen=True, slots=True)
class UnitGroup:
    """Units of one layer of which some stay."""

    name: str
    field: str
    """Of the config: how many units there are, alike in all groups of the same field; `name.i` is one of a tuple."""
    parts: tuple[Part, ...]

    @property
    def n_units(self) -> int:
        return len(self.parts[0].rows)


def unit_groups(model: nn.Module) -> tuple[UnitGroup, ...]:
    """Everything that can be cut out of a model; empty for a family that nobody wrote down."""
    match model:
        case GRU4Rec():
            hidden = model.config.hidden_width
            readers = [Part("dense.weight", 1, _rows(hidden))]
            return tuple(_recurrent(model.config.n_layers, hidden, readers))
        case NARM():
            return tuple(_narm(model.config))
        case Caser():
            return tuple(_kernels(model.config))
        case LightSANs():
            return tuple(_light_attention(model.config))
        case _:
            return ()


def importance(model: nn.Module, group: UnitGroup) -> Tensor:
    """First-order Taylor importance of each unit, the sum of |gradient * weight| over all of its numbers: (units,).

    Parameters without a gradient count as zero.
    """
    total = torch.zeros(group.n_units)
    for part in group.parts:
        parameter = model.get_parameter(part.parameter)
        if parameter.grad is None:
            continue
        effect = (parameter.grad * parameter).detach().abs().movedim(part.axis, 0)
        effect = effect.reshape(len(effect), -1).sum(1)  # of each row along the axis
        total += effect[part.rows].sum(1)
    return total


def keep_units(
    model: nn.Module, kept: dict[str, list[int]], groups: Sequence[UnitGroup] | None = None
) -> nn.Module:
    """A new model with the listed units of each group, by the group's name; groups that are not listed stay whole.

    `groups` are those of the model, None for `unit_groups`.
    """
    sizes: dict[str, int] = {}
    cut: dict[tuple[str, int], list[Tensor]] = {}
    for group in unit_groups(model) if groups is None else groups:
        if group.name not in kept:
            continue
        sizes[group.field] = len(kept[group.name])
        gone = sorted(set(range(group.n_units)) - set(kept[group.name]))
        for part in group.parts:
            cut.setdefault((part.parameter, part.axis), []).append(part.rows[gone].flatten())
    state = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for (name, axis), rows in cut.items():  # once for each axis, since several groups may share one
        stays = torch.ones(state[name].shape[axis], dtype=torch.bool)
        stays[torch.cat(rows)] = False
        state[name] = state[name].index_select(axis, stays.nonzero()[:, 0])
    config: Any = model.config
    if "n_heads" in sizes:  # fewer heads, not wider ones
        sizes["head_width"] = config.head_width or config.width // config.n_heads
    config = _resized(config, sizes)
    with torch.device("meta"):
        smaller = type(model)(config)
    if (
        hasattr(smaller, "item_table") and "item_table" not in state
    ):  # what is wrapped around a model may have taken its table
        del smaller.item_table
    smaller.load_state_dict(state, strict=True, assign=True)
    return smaller.eval()


def _resized(config: Any, sizes: dict[str, int]) -> Any:
    """The config with other sizes; `hidden_widths.1` is the second of a tuple."""
    changes: dict[str, Any] = {}
    for field, size in sizes.items():
        name, _, index = field.partition(".")
        if index:
            listed = list(changes.get(name, getattr(config, name)))
            listed[int(index)] = size
            changes[name] = tuple(listed)
        else:
            changes[name] = size
    return dataclasses.replace(config, **changes)


def _rows(n_units: int, *, each: int = 1, copies: int = 1, start: int = 0) -> Tensor:
    """Units of `each` rows side by side, all of them `copies` times one after the other: (units, each * copies).

    >>> _rows(2, each=2).tolist()
    [[0, 1], [2, 3]]
    >>> _rows(2, copies=3).tolist()
    [[0, 2, 4], [1, 3, 5]]
    """
    rows = torch.arange(start, start + n_units * each * copies).view(copies, n_units, each)
    return rows.transpose(0, 1).flatten(1)


def _recurrent(n_layers: int, hidden: int, readers: list[Part]) -> Iterator[UnitGroup]:
    """Hidden units of stacked recurrent layers; `readers` read the last one's states."""
    gates, columns = _rows(hidden, copies=GATES), _rows(hidden)
    for i in range(n_layers):
        layer = f"layers.{i}"
        last = i == n_layers - 1
        above = readers if last else [Part(f"layers.{i + 1}.input_weight", 1, columns)]
        own = (
            Part(f"{layer}.input_weight", 0, gates),
            Part(f"{layer}.hidden_weight", 0, gates),
            Part(f"{layer}.hidden_weight", 1, columns),
        )
        yield UnitGroup(f"{layer}.hidden", "hidden_width", (*own, *above))


def _narm(config: NARMConfig) -> Iterator[UnitGroup]:
    """Recurrent units, and the units that the attention over states is computed in."""
    hidden = config.hidden_width
    units = _rows(hidden)
    readers = [
        Part("of_each.weight", 1, units),
        Part("of_last.weight", 1, units),
        Part("dense.weight", 1, _rows(hidden, copies=2)),  # reads [weighted sum of states ; last state]
    ]
    yield from _recurrent(config.n_layers, hidden, readers)
    of_attention = (
        Part("of_each.weight", 0, units),
        Part("of_last.weight", 0, units),
        Part("weigh.weight", 1, units),
    )
    yield UnitGroup("attention.hidden", "hidden_width", of_attention)


def _kernels(config: CaserConfig) -> Iterator[UnitGroup]:
    """Caser's vertical kernels, whose output is a whole vector each, and its horizontal ones, a number each."""
    joined = "dense_1.weight"  # reads [vertical kernels ; horizontal kernels, height by height]
    yield UnitGroup(
        "vertical",
        "n_vertical",
        (
            Part("vertical.weight", 0, _rows(config.n_vertical)),
            Part("vertical.bias", 0, _rows(config.n_vertical)),
            Part(joined, 1, _rows(config.n_vertical, each=config.width)),
        ),
    )
    for i in range(config.max_length):
        start = config.n_vertical * config.width + i * config.n_horizontal
        own = _rows(config.n_horizontal)
        columns = _rows(config.n_horizontal, start=start)
        parts = (
            Part(f"horizontal.{i}.weight", 0, own),
            Part(f"horizontal.{i}.bias", 0, own),
            Part(joined, 1, columns),
        )
        yield UnitGroup(f"horizontal.{i}", "n_horizontal", parts)


def _light_attention(config: LightSANsConfig) -> Iterator[UnitGroup]:
    """LightSANs' heads, with the rows of its interests that weigh them, and its feed-forward units."""
    heads = _rows(config.n_heads, each=config.head_width or config.width // config.n_heads)
    inner = _rows(config.inner_width)
    for i in range(config.n_layers):
        attention = f"layers.{i}.attention"
        of_heads = [
            Part(f"{attention}.{name}.{kind}", 0, heads)
            for name in ("q", "k", "v", "position_q", "position_k")
            for kind in ("weight", "bias")
        ]
        of_heads += [Part(f"{attention}.{name}_interests.theta", 0, heads) for name in ("key", "value")]
        yield UnitGroup(
            f"layers.{i}.heads", "n_heads", (*of_heads, Part(f"{attention}.out.weight", 1, heads))
        )
        of_inner = (
            Part(f"layers.{i}.dense_1.weight", 0, inner),
            Part(f"layers.{i}.dense_1.bias", 0, inner),
            Part(f"layers.{i}.dense_2.weight", 1, inner),
        )
        yield UnitGroup(f"layers.{i}.inner", "inner_width", of_inner)
