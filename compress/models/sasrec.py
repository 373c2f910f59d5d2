"""SASRec: a causal transformer over the items of a history (Kang & McAuley, arXiv:1808.09781).

The post-norm form that S3-Rec, ICLRec, ICSRec and RecBole share:

    x = LayerNorm(item vectors + position rows)
    for each layer:  x = LayerNorm(attention(x) W_out + x)
                     x = LayerNorm(activation(x W_1) W_2 + x)
    user vector = x at the last item;   score = user vector @ item table

Where they differ is the position row of an item, since one pads on the left, the other on the right:
with `positions="end"` the last item takes the last row, with `"start"` the first item takes the first.

Layers may differ in heads and in inner width, so that a structurally pruned model is the same class.

Shape letters: B batch, L history length, D width, N items, H heads, W head width, F inner width.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,  # the exact one, with erf: S3-Rec's and RecBole's
    "relu": F.relu,
    "swish": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SASRecConfig:
    """The architecture. A number where there is one per layer means the same in every layer;
    after construction these fields are always tuples."""

    n_items: int
    """Rows of the item table, N."""
    width: int = 64
    """Length of an item's vector, D."""
    n_layers: int = 2
    n_heads: int | tuple[int, ...] = 2
    """Attention heads of each layer."""
    head_width: int | tuple[int, ...] | None = None
    """Width of one head; None: width / heads of the first layer. Stays as it is when heads are pruned."""
    inner_widths: int | tuple[int, ...] | None = None
    """Inner width of each layer's feed-forward; None: 4 x width, as in the papers."""
    max_length: int = 50
    """Rows of the position table: the longest history."""
    norm: Literal["post"] = "post"
    """LayerNorm after each residual sum."""
    positions: Literal["end", "start"] = "end"
    """`end`: the last item takes the last row (S3-Rec). `start`: the first item takes row 0 (RecBole)."""
    activation: str = "gelu"
    """Of the feed-forward: one of `ACTIVATIONS`."""
    eps: float = 1e-12
    """Of every LayerNorm."""
    dropout: float = 0.2
    """Probability, in training only: on the input, the attention, and what each residual sum adds."""

    def __post_init__(self) -> None:
        if self.norm != "post" or self.positions not in ("end", "start"):
            raise ValueError(
                f"SASRecConfig: norm {self.norm!r}, positions {self.positions!r}; expected post, end or start"
            )
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"SASRecConfig: activation {self.activation!r}; expected one of {', '.join(ACTIVATIONS)}"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"SASRecConfig: dropout {self.dropout}; expected 0 <= dropout < 1")
        if not 0.0 <= self.eps < 1.0:
            raise ValueError(f"SASRecConfig: eps {self.eps}; expected 0 <= eps < 1")
        for name in ("n_items", "width", "n_layers", "max_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"SASRecConfig: {name} {getattr(self, name)}; expected at least 1")
        n_heads = self._per_layer("n_heads", self.n_heads)
        if self.head_width is None and self.width % n_heads[0]:
            raise ValueError(f"SASRecConfig: {n_heads[0]} heads do not divide the width {self.width}")
        head_width = self.width // n_heads[0] if self.head_width is None else self.head_width
        inner_widths = 4 * self.width if self.inner_widths is None else self.inner_widths
        object.__setattr__(self, "n_heads", n_heads)
        object.__setattr__(self, "head_width", self._per_layer("head_width", head_width))
        object.__setattr__(self, "inner_widths", self._per_layer("inner_widths", inner_widths))

    def _per_layer(self, name: str, value: int | tuple[int, ...] | list[int]) -> tuple[int, ...]:
        values = (value,) * self.n_layers if isinstance(value, int) else tuple(value)
        if len(values) != self.n_layers or min(values) < 1:
            raise ValueError(
                f"SASRecConfig: {name} {value}; expected {self.n_layers} numbers, each at least 1"
            )
        return values

    @property
    def layers(self) -> tuple[tuple[int, int, int], ...]:
        """(heads, head width, inner width) of each layer."""
        names = ("n_heads", "head_width", "inner_widths")
        heads, head_width, inner = (self._per_layer(name, getattr(self, name)) for name in names)
        return tuple(zip(heads, head_width, inner, strict=True))


class Attention(nn.Module):
    """Multi-head attention. `n_heads` and `head_width` say how the rows of q, k, v split into heads:
    whoever slices these linear layers updates them."""

    def __init__(self, width: int, n_heads: int, head_width: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.head_width = head_width
        self.q = nn.Linear(width, n_heads * head_width)
        self.k = nn.Linear(width, n_heads * head_width)
        self.v = nn.Linear(width, n_heads * head_width)
        self.out = nn.Linear(n_heads * head_width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
        q = self._heads(self.q(queries)) * (1.0 / math.sqrt(self.head_width))  # (B, H, Q, W)
        k, v = self._heads(self.k(x)), self._heads(self.v(x))  # (B, H, L, W)
        scores = q @ k.transpose(-1, -2)  # (B, H, Q, L)
        if mask is not None:
            scores = scores + mask
        mixed = self.dropout(scores.softmax(-1)) @ v  # (B, H, Q, W)
        return self.out(mixed if self.n_heads == 1 else mixed.transpose(1, 2).flatten(2))  # (B, Q, D)

    def _heads(self, x: Tensor) -> Tensor:
        """(B, L, H * W) -> (B, H, L, W); one head stays (B, L, W), which spares a short history a third of its time."""
        return x if self.n_heads == 1 else x.unflatten(-1, (self.n_heads, self.head_width)).transpose(1, 2)


class MergedHead(nn.Module):
    """One-head attention with its matrices multiplied together: the same function, in half the products.

        scores = (x W_q + b_q) (x W_k + b_k)' / sqrt(W)  =  (x W_q W_k' + b_q W_k') x' / sqrt(W) + a constant a query
        out    = softmax(scores) (x W_v + b_v) W_o + b_o  =  softmax(scores) x (W_v W_o) + (b_v W_o + b_o)

    A constant does not change a softmax, and its shares sum to 1. Keys and values are the inputs themselves, so where
    only the last position is asked for, nothing but two products with x depends on the length of the history. With
    W at least half the width it has no more weights than the four matrices, with W the width half as many.
    """

    n_heads = 1

    def __init__(self, head: Attention) -> None:
        super().__init__()
        width = head.q.in_features
        scale = 1.0 / math.sqrt(head.head_width)
        self.query = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        with torch.no_grad():
            self.query.weight.copy_(head.k.weight.T @ head.q.weight * scale)
            self.query.bias.copy_(head.k.weight.T @ head.q.bias * scale)
            self.out.weight.copy_(head.out.weight @ head.v.weight)
            self.out.bias.copy_(head.out.weight @ head.v.bias + head.out.bias)

    def forward(self, queries: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
        scores = self.query(queries) @ x.transpose(-1, -2)  # (B, Q, L)
        if mask is not None:
            scores = scores + mask
        return self.out(scores.softmax(-1) @ x)  # (B, Q, D)


class Layer(nn.Module):
    def __init__(self, config: SASRecConfig, index: int) -> None:
        super().__init__()
        n_heads, head_width, inner_width = config.layers[index]
        self.attention = Attention(config.width, n_heads, head_width, config.dropout)
        self.attention_norm = nn.LayerNorm(config.width, config.eps)
        self.dense_1 = nn.Linear(config.width, inner_width)
        self.dense_2 = nn.Linear(inner_width, config.width)
        self.dense_norm = nn.LayerNorm(config.width, config.eps)
        self.dropout = nn.Dropout(config.dropout)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, queries: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
        """`queries` (B, Q, D) are the positions to compute; they look at `x` (B, L, D)."""
        return self.feed_forward(self.attention(queries, x, mask), queries)  # (B, Q, D)

    def feed_forward(self, attended: Tensor, queries: Tensor) -> Tensor:
        """What follows attention, position by position: (..., D)."""
        h = self.attention_norm(self.dropout(attended) + queries)  # (..., D)
        inner = self.activation(self.dense_1(h))  # (..., F)
        return self.dense_norm(self.dropout(self.dense_2(inner)) + h)  # (..., D)


class SASRec(nn.Module):
    """`SASRec(config, seed=0)` is a fresh model: normal weights of deviation 0.02, zero biases.

    Example:
        >>> model = SASRec(SASRecConfig(n_items=50, width=8, max_length=5), seed=0).eval()
        >>> history = torch.tensor([[3, 7, 1]])
        >>> (model.encode(model.item_table[history]) @ model.item_table.T).shape
        torch.Size([1, 50])
    """

    item_bias: None = None

    def __init__(self, config: SASRecConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.item_table = nn.Parameter(torch.empty(config.n_items, config.width))
        self.position_table = nn.Parameter(torch.empty(config.max_length, config.width))
        self.norm = nn.LayerNorm(config.width, config.eps)
        self.dropout = nn.Dropout(config.dropout)
        layers = nn.ModuleList(Layer(config, i) for i in range(config.n_layers))
        self.layers = cast(Sequence[Layer], layers)  # type checkers see a ModuleList of anything
        if not self.item_table.is_meta:  # a loader wants the shapes only
            self.reset_parameters_(seed)

    def reset_parameters_(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02, generator=generator)
            else:
                nn.init.constant_(parameter, 1.0 if name.endswith("norm.weight") else 0.0)

    @property
    def max_length(self) -> int:
        return self.config.max_length

    @property
    def width(self) -> int:
        return self.config.width

    def hidden_states(self, item_vectors: Tensor, lengths: Tensor) -> Tensor:
        """User vectors after every item of a right-padded batch; see `SequenceModel.hidden_states`.

        No valid position sees a pad: pads come later, and the mask hides what is later.
        """
        length = item_vectors.shape[1]
        rows = torch.arange(length, device=item_vectors.device).expand(len(lengths), -1)  # (B, L)
        if self.config.positions == "end":
            rows = (rows + self.max_length - lengths[:, None]).clamp(max=self.max_length - 1)  # (B, L)
        x = self.dropout(self.norm(item_vectors + F.embedding(rows, self.position_table)))  # (B, L, D)
        mask = causal_mask(length, x)  # (L, L)
        for layer in self.layers:
            x = layer(x, x, mask)
        return x  # (B, L, D)

    def encode(self, item_vectors: Tensor) -> Tensor:
        """The user vector after the last item; see `SequenceModel.encode`.

        The last layer computes the last position only, which sees all others: it needs no mask.
        """
        n = item_vectors.shape[1]
        if self.config.positions == "end":
            rows = self.position_table[self.max_length - n :]  # (n, D)
        else:
            rows = self.position_table[:n]  # (n, D)
        x = self.dropout(self.norm(item_vectors + rows))  # (B, n, D)
        mask = causal_mask(n, x) if len(self.layers) > 1 else None  # (n, n)
        for layer in self.layers[:-1]:
            x = layer(x, x, mask)
        last = self.layers[-1]
        attended = last.attention(x[:, -1:], x, None)[:, 0]  # (B, D)
        return last.feed_forward(attended, x[:, -1])  # (B, D)

    def forward(self, item_vectors: Tensor) -> Tensor:
        """`encode`: calling the model, and exporting it, is encoding."""
        return self.encode(item_vectors)

    def refresh_config_(self) -> SASRecConfig:
        """Reads heads and widths back from the modules into `config`, after somebody sliced them.

        Raises:
            ValueError: a slice left an attention whose q, k, v, out do not agree with its heads.
        """
        for i, layer in enumerate(self.layers):
            attention = layer.attention
            shapes = [tuple(linear.weight.shape) for linear in (attention.q, attention.k, attention.v)]
            expected = (attention.n_heads * attention.head_width, self.width)
            if shapes != [expected] * 3 or tuple(attention.out.weight.shape) != expected[::-1]:
                raise ValueError(
                    f"layers.{i}.attention: q, k, v {shapes} and out {tuple(attention.out.weight.shape)}; "
                    f"expected {expected} for {attention.n_heads} heads of {attention.head_width}"
                )
        self.config = dataclasses.replace(
            self.config,
            n_layers=len(self.layers),
            n_heads=tuple(layer.attention.n_heads for layer in self.layers),
            head_width=tuple(layer.attention.head_width for layer in self.layers),
            inner_widths=tuple(layer.dense_1.weight.shape[0] for layer in self.layers),
        )
        return self.config


def with_merged_heads(model: nn.Module) -> nn.Module:
    """A model to be exported, in eval mode: every one-head attention of at least half the width is a `MergedHead`.

    Itself where it has none, else a copy; whatever is wrapped around the layers stays.
    """

    def pays(module: nn.Module) -> bool:
        head: object = getattr(module, "attention", None)
        return isinstance(head, Attention) and head.n_heads == 1 and 2 * head.head_width >= head.q.in_features

    if not any(map(pays, model.modules())):
        return model
    copied = copy.deepcopy(model).eval()
    for module in filter(pays, list(copied.modules())):
        module.attention = MergedHead(cast(Attention, module.attention))
    return copied


def shared_widths(layers: Sequence[Any]) -> dict[str, int]:
    """`n_heads`, `head_width` and `inner_width` of layers that are all alike, read from their modules.

    Raises:
        ValueError: they are not alike.
    """
    found = {
        (layer.attention.n_heads, layer.attention.head_width, layer.dense_1.out_features) for layer in layers
    }
    if len(found) != 1:
        raise ValueError(
            f"layers of {sorted(found)} heads, head widths and inner widths; expected one for all"
        )
    return dict(zip(("n_heads", "head_width", "inner_width"), found.pop(), strict=True))


def causal_mask(length: int, like: Tensor) -> Tensor:
    """Minus infinity where a key is later than its query: float32 (L, L), added to attention scores."""
    return torch.full((length, length), float("-inf"), dtype=like.dtype, device=like.device).triu(1)
