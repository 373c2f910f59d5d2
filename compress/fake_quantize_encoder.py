"""Rounding in the loop, of the encoder: its matrices in four bits while it learns, as the bundle will store them.

Before a step each matrix is replaced by its rounded self, a scale for each block of 32 inputs
(`runtime.weight_blocks`); after it the gradients that the rounded ones got move the exact ones (straight-through
estimator, Bengio et al. 2013, arXiv:1308.3432). Clipping is chosen anew every few steps, as for the item table.

What is rounded is what `export.encoder_int4` stores in four bits: matrices of at least 512 numbers, half a block of inputs
or more. A kernel, or what the exporter multiplies together, is rounded by the writer alone. One-head attention is
exported with its matrices merged, so it should learn merged (`merged_for_rounding`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..export.weight_products import LEAST_SIZE
from ..runtime.weight_blocks import BLOCK
from .fake_quantize import RowQuantizer, best_clip, round_rows
from .models.protocol import SequenceModel
from .models.sasrec import with_merged_heads

ENCODER_BITS = 4
"""With 8 there is nothing to learn around: ICSRec's SASRec on Beauty keeps 99.9% of its NDCG@10 when it is rounded afterwards."""


class EncoderRounding:
    """Of the encoder of one model; with `bits` other than 4 it leaves it alone."""

    def __init__(self, model: SequenceModel, bits: int | None) -> None:
        self._matrices = matrices_of(model) if bits == ENCODER_BITS else {}
        self._quantizers = {
            name: RowQuantizer(len(in_blocks(matrix)), ENCODER_BITS)
            for name, matrix in self._matrices.items()
        }

    @contextlib.contextmanager
    def applied(self) -> Generator[None]:
        """Inside, the matrices are rounded: go forward and back, and step outside."""
        exact = {name: matrix.data for name, matrix in self._matrices.items()}
        try:
            for name, matrix in self._matrices.items():
                rounded = self._quantizers[name].rounded(in_blocks(exact[name]))
                matrix.data = out_of_blocks(rounded, matrix.shape)
            yield
        finally:
            for name, matrix in self._matrices.items():
                matrix.data = exact[name]

    def settle_(self, model: SequenceModel) -> None:
        """Round the matrices of a copy for good: the writer finds the same levels again."""
        with torch.no_grad():
            for matrix in matrices_of(model).values() if self._matrices else ():
                blocks = in_blocks(matrix)
                rounded = round_rows(blocks, best_clip(blocks, ENCODER_BITS), ENCODER_BITS)
                matrix.copy_(out_of_blocks(rounded, matrix.shape))


def merged_for_rounding(model: SequenceModel) -> SequenceModel:
    """The model with the matrices that will be stored; itself where those are its own."""
    return cast(SequenceModel, with_merged_heads(cast(nn.Module, model)))


def matrices_of(model: SequenceModel) -> dict[str, nn.Parameter]:
    """The encoder's matrices that are stored in four bits, by name: (outputs, inputs) all."""
    return {
        name: parameter
        for name, parameter in cast(nn.Module, model).named_parameters()
        if parameter is not model.item_table
        and parameter.dim() == 2
        and parameter.numel() >= LEAST_SIZE
        and parameter.shape[1] >= BLOCK // 2
    }


def in_blocks(matrix: Tensor) -> Tensor:
    """(outputs, inputs) -> (outputs * blocks, 32) without a gradient, the last block of an output padded with zeros."""
    return F.pad(matrix.detach(), (0, -matrix.shape[1] % BLOCK)).reshape(-1, BLOCK)


def out_of_blocks(blocks: Tensor, shape: torch.Size) -> Tensor:
    """The matrix (outputs, inputs) that was cut into blocks."""
    return blocks.reshape(shape[0], -1)[:, : shape[1]].contiguous()
