"""The weights of a model that nobody has trained yet, the same for the same seed."""

from __future__ import annotations

import torch
from torch import nn

STANDARD_DEVIATION = 0.02
"""Of BERT, and of the recommenders that follow it."""


def reset_parameters_(module: nn.Module, seed: int) -> None:
    """Normal matrices, zero vectors, ones for the weights of norms. On the meta device, where a loader wants only
    the shapes, nothing happens."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if parameter.is_meta:
            continue
        if parameter.dim() >= 2:
            nn.init.normal_(parameter, std=STANDARD_DEVIATION, generator=generator)
        else:
            nn.init.constant_(parameter, 1.0 if name.endswith("norm.weight") else 0.0)
