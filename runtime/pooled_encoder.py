"""An encoder of weighted means and a small network, in numpy: a history costs three small products.

    a_k  = softmax of filter_k over the last n places               K weights an item
    z    = [ sum_i a_1,i x_i ; ... ; sum_i a_K,i x_i ]
    y    = W_0 z + W_2 relu(W_1 z + b_1) + b_2
    user = gamma (y - mean y) / sqrt(var y + eps) + beta

For so few numbers a call into onnxruntime takes longer than the arithmetic (18 of the 40 us of a one-layer transformer),
so there is no graph. What does not depend on the history is done once, on loading: the weights of each length, W_0 and
W_1 as one matrix, and the subtraction of the mean, which is linear and goes into W_0, W_2 and b_2.

The part `encoder`, of the sizes that the manifest names, little endian, one after the other:

    vectors   filters (K, L), b_1 (H), b_2 (D), gamma (D), beta (D), then scales: a row of a matrix has one with int8 weights,
              a block one with int4
    matrices  W_0 (D, K D), W_1 (H, K D), W_2 (D, H)

float32 both, or float16 vectors and int8 matrices, or float16 vectors and matrices in blocks of four bits
(`weight_blocks`), which have a scale each: restored when they are loaded.

Shape letters: B batch, n history length, L longest history, D width, K means, H hidden width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle
from .errors import BundleError
from .weight_blocks import BLOCK, n_blocks, restored, round_blocks

Floats = NDArray[np.float32]
PART = "encoder"
_STORED_AS = {"float32": ("<f4", "<f4"), "int8": ("<f2", "i1"), "int4": ("<f2", "u1")}
"""Types of vectors and of matrices, by how weights are stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledWeights:
    """Its numbers, float32."""

    filters: Floats  # (K, L)
    linear: Floats  # (D, K D)
    dense_1: Floats  # (H, K D)
    bias_1: Floats  # (H,)
    dense_2: Floats  # (D, H)
    bias_2: Floats  # (D,)
    gamma: Floats  # (D,)
    beta: Floats  # (D,)
    eps: float

    def to_part(self, stored: str) -> tuple[bytes, dict[str, Any]]:
        """The part, and what the manifest says of it; `stored` is float32, int8 or int4."""
        vectors = [self.filters, self.bias_1, self.bias_2, self.gamma, self.beta]
        matrices = [self.linear, self.dense_1, self.dense_2]
        described = {
            "format": "pooled",
            "weights": stored,
            "products": "float32",
            "means": len(self.filters),
            "hidden_width": len(self.bias_1),
            "eps": self.eps,
        }
        if stored == "float32":
            return b"".join(a.astype("<f4").tobytes() for a in (*vectors, *matrices)), described
        if stored == "int4":
            blocks = [round_blocks(matrix) for matrix in matrices]
            halves = [*vectors, *(scales for _, scales in blocks)]
            content = [
                *(a.astype("<f2").tobytes() for a in halves),
                *(codes.tobytes() for codes, _ in blocks),
            ]
            return b"".join(content), described
        scales = [np.maximum(np.abs(m).max(1), 1e-30) / 127 for m in matrices]
        # rounded first, so that the codes are of the scales that are stored
        scales = [np.maximum(s.astype(np.float16), np.float16(6e-8)).astype(np.float32) for s in scales]
        codes = [np.clip(np.rint(m / s[:, None]), -127, 127) for m, s in zip(matrices, scales, strict=True)]
        content = [a.astype("<f2").tobytes() for a in (*vectors, *scales)]
        return b"".join([*content, *(c.astype(np.int8).tobytes() for c in codes)]), described


class PooledEncoder:
    """`encoder(vectors)`: float32 (B, n, D) -> (B, D), 1 <= n <= L; safe to share between threads."""

    def __init__(self, weights: PooledWeights) -> None:
        width = len(weights.bias_2)
        self._weights: list[Floats] = [  # of a history of n items at n - 1: (K, n)
            _softmax(weights.filters[:, weights.filters.shape[1] - n :])
            for n in range(1, weights.filters.shape[1] + 1)
        ]
        centred: Floats = np.eye(width, dtype=np.float32) - np.float32(1 / width)
        self._first: Floats = np.concatenate([centred @ weights.linear, weights.dense_1])  # (D + H, K D)
        self._bias_1 = weights.bias_1
        self._second: Floats = np.ascontiguousarray(centred @ weights.dense_2)  # (D, H)
        self._bias_2: Floats = centred @ weights.bias_2
        self._gamma: Floats = weights.gamma * np.float32(
            math.sqrt(width)
        )  # y / sqrt(y.y / D + eps) = y sqrt(D) / sqrt(y.y + D eps)
        self._beta = weights.beta
        self._eps = width * weights.eps
        self._width = width

    def __call__(self, vectors: Floats) -> Floats:
        if len(vectors) == 1:
            return self._one(vectors[0])[None]
        means = (self._weights[vectors.shape[1] - 1] @ vectors).reshape(len(vectors), -1)  # (B, K D)
        first = means @ self._first.T  # (B, D + H)
        hidden = np.maximum(first[:, self._width :] + self._bias_1, 0)
        users = first[:, : self._width] + hidden @ self._second.T + self._bias_2
        length = np.sqrt(np.square(users).sum(1, keepdims=True) + self._eps)
        made: Floats = (users * (self._gamma / length) + self._beta).astype(np.float32)
        return made

    def _one(self, vectors: Floats) -> Floats:
        """(n, D) -> (D,): the same in a third of the time, as matrices times one vector."""
        means: Floats = self._weights[len(vectors) - 1] @ vectors  # (K, D)
        first: Floats = self._first @ means.ravel()  # (D + H,)
        hidden = first[self._width :]
        hidden += self._bias_1
        np.maximum(hidden, 0, out=hidden)
        user = self._second @ hidden
        user += first[: self._width]
        user += self._bias_2
        user *= np.float32(1 / math.sqrt(float(user @ user) + self._eps))
        user *= self._gamma
        user += self._beta
        return user


def read_pooled_encoder(bundle: Bundle, width: int, max_length: int) -> PooledEncoder:
    """The encoder of a bundle; raises `BundleError` where manifest and part disagree."""
    described = bundle.manifest["encoder"]
    n_means, hidden, eps = described.get("means"), described.get("hidden_width"), described.get("eps")
    sizes_known = all(type(size) is int and size > 0 for size in (n_means, hidden))
    if not (
        sizes_known
        and type(eps) is float
        and 0 <= eps < 1
        and described.get("weights") in ("float32", "int8", "int4")
    ):
        raise BundleError(
            f"{bundle.path}: an encoder of {n_means!r} means, hidden width {hidden!r}, eps {eps!r} and "
            f"{described.get('weights')!r} weights; export the bundle again"
        )
    stored = described["weights"]
    matrices = [(width, n_means * width), (hidden, n_means * width), (width, hidden)]
    vectors: list[tuple[int, ...]] = [(n_means, max_length), (hidden,), (width,), (width,), (width,)]
    scales: list[tuple[int, ...]] = []
    codes: list[tuple[int, ...]] = list(matrices)
    if stored == "int8":
        scales = [(rows,) for rows, _ in matrices]
    elif stored == "int4":
        scales = [(rows, n_blocks(inputs)) for rows, inputs in matrices]
        codes = [(rows, n_blocks(inputs), BLOCK // 2) for rows, inputs in matrices]
    small, large = _STORED_AS[stored]
    raw = bundle.part(PART).tobytes()
    needed = sum(map(math.prod, vectors + scales)) * np.dtype(small).itemsize
    needed += sum(map(math.prod, codes)) * np.dtype(large).itemsize
    if len(raw) != needed:
        raise BundleError(
            f"{bundle.path}: part {PART!r} has {len(raw)} bytes, the manifest's sizes need {needed}; export the bundle again"
        )
    position = 0

    def take(shapes: list[tuple[int, ...]], dtype: str) -> list[NDArray[Any]]:
        nonlocal position
        taken: list[NDArray[Any]] = []
        for shape in shapes:
            values = np.frombuffer(raw, dtype, math.prod(shape), position).reshape(shape)
            position += values.nbytes
            taken.append(values)
        return taken

    filters, bias_1, bias_2, gamma, beta = (a.astype(np.float32) for a in take(vectors, small))
    scaled = take(scales, small)
    found: list[NDArray[Any]] = take(codes, large)
    if stored == "int4":
        found = [restored(c, s, shape[1]) for c, s, shape in zip(found, scaled, matrices, strict=True)]
    elif stored == "int8":
        found = [c * s[:, None].astype(np.float32) for c, s in zip(found, scaled, strict=True)]
    linear, dense_1, dense_2 = (matrix.astype(np.float32) for matrix in found)
    weights = PooledWeights(
        filters=filters, linear=linear, dense_1=dense_1, bias_1=bias_1, dense_2=dense_2, bias_2=bias_2,
        gamma=gamma, beta=beta, eps=eps,
    )  # fmt: skip
    if not all(
        np.isfinite(a).all() for a in (filters, linear, dense_1, bias_1, dense_2, bias_2, gamma, beta)
    ):
        raise BundleError(
            f"{bundle.path}: the encoder has weights that are not finite; export the bundle again"
        )
    return PooledEncoder(weights)


def _softmax(filters: Floats) -> Floats:
    """Shares of each row: float32 (K, n) -> (K, n)."""
    shares = np.exp(filters - filters.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)
