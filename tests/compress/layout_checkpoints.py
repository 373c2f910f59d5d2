"""Tiny good checkpoints in each framework's own names: 30 items of width 8, and the rows that are no items.

Written down as shapes, independent of what the layouts read, so that a layout cannot agree with its own mistake.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

N_ITEMS, WIDTH, HIDDEN = 30, 8, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A framework's file of one model."""

    shapes: dict[str, tuple[int, ...]]
    items: str
    """Key of the item table."""
    first_row: int = 1
    """Rows of the item table before the first item."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What RecBole pickles beside the weights."""
    extras_are_refused: bool = True
    """Tensors that the layout does not know are an error, not a note."""

    def state_dict(self, seed: int = 3) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return {key: torch.randn(*shape, generator=generator) * 0.3 for key, shape in self.shapes.items()}

    def file(self, state: dict[str, Tensor] | None = None, **settings: Any) -> Any:
        """What is pickled: the state dict alone, or with its settings."""
        state = self.state_dict() if state is None else state
        settings = {**self.settings, **settings}
        return {"config": {"final_config_dict": settings}, "state_dict": state} if settings else state


GRU = {
    "gru_layers.weight_ih_l0": (3 * HIDDEN, WIDTH),
    "gru_layers.weight_hh_l0": (3 * HIDDEN, HIDDEN),
    "dense.weight": (WIDTH, HIDDEN),
    "dense.bias": (WIDTH,),
}

LAYERS = range(2)
NORM = {"weight": (WIDTH,), "bias": (WIDTH,)}
SQUARE = {"weight": (WIDTH, WIDTH), "bias": (WIDTH,)}


def module(prefix: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


PMIXER = module("last_layernorm", NORM)
for i in LAYERS:
    PMIXER |= module(f"attention_layernorms.{i}", NORM) | module(f"forward_layernorms.{i}", NORM)
    PMIXER |= {
        f"attention_layers.{i}.in_proj_weight": (3 * WIDTH, WIDTH),
        f"attention_layers.{i}.in_proj_bias": (3 * WIDTH,),
        **module(f"attention_layers.{i}.out_proj", SQUARE),
        **module(f"forward_layers.{i}.conv1", {"weight": (WIDTH, WIDTH, 1), "bias": (WIDTH,)}),
        **module(f"forward_layers.{i}.conv2", {"weight": (WIDTH, WIDTH, 1), "bias": (WIDTH,)}),
    }

RECORDED: dict[str, Recorded] = {
    "icsrec-gru4rec": Recorded(
        shapes={"item_embeddings.weight": (N_ITEMS + 2, WIDTH), **GRU},
        items="item_embeddings.weight",
        extras_are_refused=False,
    ),
    "pmixer-sasrec": Recorded(
        shapes={"item_emb.weight": (N_ITEMS + 1, WIDTH), "pos_emb.weight": (7, WIDTH), **PMIXER},
        items="item_emb.weight",
    ),
    "recbole-gru4rec": Recorded(
        shapes={"item_embedding.weight": (N_ITEMS + 1, WIDTH), **GRU},
        items="item_embedding.weight",
        settings={"model": "GRU4Rec", "MAX_ITEM_LIST_LENGTH": 6, "dropout_prob": 0.25},
    ),
}
