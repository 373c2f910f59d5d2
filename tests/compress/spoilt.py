"""Models with noise on every parameter: a student that has something to learn, or a teacher that has something to say."""

from __future__ import annotations

import copy

import torch

from pocketrec.compress.models.sasrec import SASRec


def spoilt(model: SASRec, std: float, seed: int) -> SASRec:
    """A copy with normal noise of deviation `std` on all its numbers."""
    model = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.empty_like(parameter).normal_(std=std, generator=generator)
    return model
