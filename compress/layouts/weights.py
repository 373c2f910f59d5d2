"""Takes tensors out of a checkpoint one by one, each checked, and remembers which were left."""

from __future__ import annotations

import torch
from torch import Tensor

from ...runtime.errors import InputError
from ..checkpoint import Checkpoint


class Weights:
    """The tensors of a checkpoint that a layout has not used yet."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.path = checkpoint.path
        self._tensors = checkpoint.tensors
        self._left = dict.fromkeys(checkpoint.tensors)

    def take(self, key: str, shape: tuple[int | None, ...]) -> Tensor:
        """float32 of this shape, where None is any size of at least 1.

        Raises:
            InputError: missing, of another shape, not of floating point, or with values that are not finite.
        """
        tensor = self._tensors.get(key)
        expected = f"({', '.join('any' if n is None else str(n) for n in shape)})"
        if tensor is None:
            raise InputError(f"{self.path}: {key} {expected} is missing; is the checkpoint complete?")
        got = tuple(tensor.shape)
        fits = len(got) == len(shape) and all(
            n >= 1 and want in (None, n) for n, want in zip(got, shape, strict=False)
        )
        if not fits:
            hint = " (transposed?)" if len(got) == 2 and len(shape) == 2 and got[::-1] == shape else ""
            if len(got) == 2 and shape[0] is None and got[0] == shape[-1]:
                hint = " (transposed?)"
            raise InputError(f"{self.path}: {key} has shape {got}, expected {expected}{hint}")
        if not tensor.is_floating_point():
            raise InputError(
                f"{self.path}: {key} is {tensor.dtype}; expected floating point (is it already quantized?)"
            )
        values = tensor.to(torch.float32)
        n_bad = int(values.numel() - values.isfinite().sum())
        if n_bad:
            raise InputError(
                f"{self.path}: {key} has {n_bad} of {values.numel()} values that are NaN or infinite; "
                "the training diverged, use an earlier checkpoint"
            )
        self._left.pop(key, None)
        return values.contiguous()

    def take_integers(self, key: str, shape: tuple[int | None, ...]) -> Tensor:
        """int64 of this shape, where None is any size; raises `InputError` where it is missing, or is something else."""
        tensor = self._tensors.get(key)
        if tensor is None:
            raise InputError(f"{self.path}: {key} is missing; is the checkpoint complete?")
        fits = tensor.dim() == len(shape) and all(
            want in (None, n) for n, want in zip(tensor.shape, shape, strict=True)
        )
        if not fits or tensor.is_floating_point() or tensor.dtype == torch.bool:
            raise InputError(
                f"{self.path}: {key} is {tensor.dtype} of shape {tuple(tensor.shape)}; expected {len(shape)} axis of integers"
            )
        self._left.pop(key, None)
        return tensor.to(torch.int64)

    def size(self, key: str, axis: int) -> int:
        """Length of one axis of a tensor that says how large others are."""
        tensor = self._tensors.get(key)
        if tensor is None or tensor.dim() <= axis:
            got = "missing" if tensor is None else f"of shape {tuple(tensor.shape)}"
            raise InputError(f"{self.path}: {key} is {got}; expected at least {axis + 1} axes")
        return int(tensor.shape[axis])

    def leave(self, *keys: str) -> None:
        """These are known, and no part of the model."""
        for key in keys:
            self._left.pop(key, None)

    @property
    def unused(self) -> tuple[str, ...]:
        """Keys that nothing was taken from, in the order of the file."""
        return tuple(self._left)
