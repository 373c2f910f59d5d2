"""A recommender that pocketrec has never heard of: the newer an item of the history, the more it counts.

    user vector = W (sum over t of decay^(n - t) item_t) + b

The training loop saved it with torch's usual names: an `nn.Embedding` called `items`, whose row 0 pads.

    pocketrec compress weights.pt --model own_model:make --data ratings.tsv -o own.pocket
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class DecayConfig:
    """Plain values; they go into the bundle's manifest."""

    n_items: int
    width: int
    max_length: int = 20


class Decay(nn.Module):
    item_bias = None  # or an nn.Parameter of shape (n_items,)

    def __init__(self, config: DecayConfig) -> None:
        super().__init__()
        self.config = config
        self.item_table = nn.Parameter(torch.zeros(config.n_items, config.width))  # items and nothing else
        self.decay = nn.Parameter(torch.tensor(0.0))  # before a sigmoid
        self.dense = nn.Linear(config.width, config.width)
        self.register_load_state_dict_pre_hook(rename)

    @property
    def max_length(self) -> int:
        return self.config.max_length

    @property
    def width(self) -> int:
        return self.config.width

    def hidden_states(self, item_vectors: Tensor, lengths: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D): the user vector after every item; padding comes last, so nothing sees it."""
        sums = [item_vectors[:, 0]]
        for t in range(1, item_vectors.shape[1]):
            sums.append(self.decay.sigmoid() * sums[-1] + item_vectors[:, t])
        return self.dense(torch.stack(sums, 1))

    def encode(self, item_vectors: Tensor) -> Tensor:
        """(B, n, D) -> (B, D): what is exported, so no Python loop over n."""
        n = item_vectors.shape[1]
        age = torch.arange(n - 1, -1, -1, dtype=item_vectors.dtype)  # (n,)
        weights = self.decay.sigmoid() ** age  # (n,)
        return self.dense((weights[:, None] * item_vectors).sum(1))

    def forward(self, item_vectors: Tensor) -> Tensor:
        return self.encode(item_vectors)


def rename(module: nn.Module, state: dict[str, Tensor], *_: object) -> None:
    """From the training loop's names to the protocol's: torch calls this before it loads."""
    if "items.weight" in state:
        state["item_table"] = state.pop("items.weight")[1:]


def make(shapes: dict[str, tuple[int, ...]]) -> Decay:
    """What `--model own_model:make` calls, with the shapes of the checkpoint's tensors."""
    rows, width = shapes["items.weight"]
    return Decay(DecayConfig(n_items=rows - 1, width=width))
