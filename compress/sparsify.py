"""Zeros in the encoder's matrices: unstructured, or N of every M, by magnitude (Mishra et al. 2021, arXiv:2104.08378, section 3).

    unstructured   the smallest `share` of each matrix are zero
    2:4, 4:8       of every M numbers that are multiplied with neighbouring inputs, the N smallest are zero

What this does not do is make a recommender faster or smaller here: onnxruntime's kernels and numpy multiply zeros like any
other number, and a bundle stores them. It is for whoever exports to a device that skips them, and to know what they cost.
The step says what it measured: the time of the encoder before and after. To be faster, cut whole heads and units (`prune`)
or take a smaller student (`student`).
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor, nn

from .models.protocol import SequenceModel

Pattern = Literal["unstructured", "2:4", "4:8"]
Model = TypeVar("Model", bound=SequenceModel)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SparsifyConfig:
    """How many zeros, and where."""

    pattern: Pattern = "2:4"
    """`2:4` is what accelerators with sparse kernels read."""
    share: float = 0.5
    """Of each matrix, where the pattern is `unstructured`; above 0, below 1."""

    def __post_init__(self) -> None:
        if self.pattern not in get_args(Pattern):
            raise ValueError(f"sparsify: pattern {self.pattern!r}, expected unstructured, 2:4 or 4:8")
        if not 0 < self.share < 1:
            raise ValueError(f"sparsify: share {self.share}, expected above 0 and below 1")


def sparsify(model: Model, config: SparsifyConfig) -> tuple[Model, dict[str, Any]]:
    """A copy whose encoder's linear layers have zeros, and the share of the encoder's numbers that are zero; the item
    table, which is looked up and not multiplied, stays. Layers whose width M does not divide stay whole."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for module in model.modules():  # type: ignore[attr-defined]
            if isinstance(module, nn.Linear):
                module.weight.mul_(kept(module.weight, config))
    encoder = [p for name, p in model.named_parameters() if name != "item_table"]  # type: ignore[attr-defined]
    zeros = sum(int((p == 0).sum()) for p in encoder)
    total = sum(p.numel() for p in encoder)
    return model, {"pattern": config.pattern, "zeros": round(zeros / max(total, 1), 4)}


def kept(weight: Tensor, config: SparsifyConfig) -> Tensor:
    """1 where a number stays and 0 where it goes: (out, in) -> (out, in).

    >>> kept(torch.tensor([[0.1, -3.0, 2.0, 0.2]]), SparsifyConfig(pattern="2:4"))
    tensor([[0., 1., 1., 0.]])
    """
    if config.pattern == "unstructured":
        n_zeros, grouped = int(config.share * weight.numel()), weight.reshape(1, -1)
    else:
        n_zeros, size = map(int, config.pattern.split(":"))
        if weight.shape[1] % size:
            return torch.ones_like(weight)
        grouped = weight.reshape(-1, size)
    smallest = grouped.abs().topk(n_zeros, 1, largest=False).indices
    return torch.ones_like(grouped).scatter(1, smallest, 0.0).reshape(weight.shape)
