"""Tiny good checkpoints in each framework's own names: 30 items of width 8, and the rows that are no items.

Written down as shapes, independent of what the layouts read, so that a layout cannot agree with its own mistake. A new
layout is a new entry in `RECORDED`: without one the contract test fails.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

N_ITEMS, WIDTH, HIDDEN = 30, 8, 12
N_USERS = 40
"""Of models that keep a vector for each."""


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
    metadata: dict[str, Any] | None = None
    """The file is safetensors with this in its metadata, not a pickle."""
    spare: tuple[str, ...] = ()
    """Tensors that are checked, and that nothing is made from."""

    def state_dict(self, seed: int = 3) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return {key: torch.randn(*shape, generator=generator) * 0.3 for key, shape in self.shapes.items()}

    def file(self, state: dict[str, Tensor] | None = None, **settings: Any) -> Any:
        """What is pickled: the state dict alone, or with its settings; of a safetensors file, its bytes."""
        state = self.state_dict() if state is None else state
        if self.metadata is not None:
            return save(state, {key: json.dumps(value) for key, value in self.metadata.items()})
        settings = {**self.settings, **settings}
        if not settings:
            return state
        other = {key: tensor for key, tensor in state.items() if key.startswith("other_parameter.")}
        return {
            "config": {"final_config_dict": settings},
            "state_dict": {key: tensor for key, tensor in state.items() if key not in other},
            "other_parameter": {key.split(".", 1)[1]: tensor for key, tensor in other.items()},
        }


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

TRANSFORMER = {"position_embedding.weight": (6, WIDTH), **module("LayerNorm", NORM)}
for i in LAYERS:
    attention, feed_forward = (
        f"trm_encoder.layer.{i}.{name}" for name in ("multi_head_attention", "feed_forward")
    )
    for name in ("query", "key", "value", "dense"):
        TRANSFORMER |= module(f"{attention}.{name}", SQUARE)
    TRANSFORMER |= module(f"{attention}.LayerNorm", NORM) | module(f"{feed_forward}.LayerNorm", NORM)
    TRANSFORMER |= module(f"{feed_forward}.dense_1", {"weight": (20, WIDTH), "bias": (20,)})
    TRANSFORMER |= module(f"{feed_forward}.dense_2", {"weight": (WIDTH, 20), "bias": (WIDTH,)})
LIGHT = dict(TRANSFORMER)
for i in LAYERS:
    attention = f"trm_encoder.layer.{i}.multi_head_attention"
    LIGHT |= module(f"{attention}.pos_q_linear", SQUARE) | module(f"{attention}.pos_k_linear", SQUARE)
    LIGHT |= module(f"{attention}.pos_ln", NORM)
    LIGHT |= {f"{attention}.attpooling_{name}.theta": (WIDTH, 3) for name in ("key", "value")}
S3REC = {"position_embeddings.weight": (6, WIDTH), **module("LayerNorm", NORM)}
OURS = {"position_table": (6, WIDTH), **module("norm", NORM)}
for i in LAYERS:
    theirs, ours = f"item_encoder.layer.{i}", f"layers.{i}"
    for name, short in (("query", "q"), ("key", "k"), ("value", "v"), ("dense", "out")):
        S3REC |= module(f"{theirs}.attention.{name}", SQUARE)
        OURS |= module(f"{ours}.attention.{short}", SQUARE)
    S3REC |= module(f"{theirs}.attention.LayerNorm", NORM) | module(f"{theirs}.intermediate.LayerNorm", NORM)
    OURS |= module(f"{ours}.attention_norm", NORM) | module(f"{ours}.dense_norm", NORM)
    for name, shapes in (
        ("dense_1", {"weight": (20, WIDTH), "bias": (20,)}),
        ("dense_2", {"weight": (WIDTH, 20), "bias": (WIDTH,)}),
    ):
        S3REC |= module(f"{theirs}.intermediate.{name}", shapes)
        OURS |= module(f"{ours}.{name}", shapes)

TRANSFORMER_SETTINGS = {
    "n_heads": 4,
    "hidden_act": "relu",
    "layer_norm_eps": 1e-6,
    "hidden_dropout_prob": 0.1,
}

CASER: dict[str, tuple[int, ...]] = {
    "user_embedding.weight": (5, WIDTH),
    "conv_v.weight": (3, 1, 6, 1),
    "conv_v.bias": (3,),
    **module("fc1", {"weight": (WIDTH, 3 * WIDTH + 6 * 2), "bias": (WIDTH,)}),
    **module("fc2", {"weight": (WIDTH, 2 * WIDTH), "bias": (WIDTH,)}),
}
for i in range(6):
    CASER |= module(f"conv_h.{i}", {"weight": (2, 1, i + 1, WIDTH), "bias": (2,)})

FACTORS = {"user_embedding.weight": (N_USERS + 1, WIDTH), "item_embedding.weight": (N_ITEMS + 1, WIDTH)}

RECORDED: dict[str, Recorded] = {
    "pocketrec": Recorded(
        shapes={"item_table": (N_ITEMS, WIDTH), **OURS},
        items="item_table",
        first_row=0,
        metadata={
            "pocketrec": {
                "format_version": 1,
                "architecture": "sasrec",
                "config": {
                    "n_items": N_ITEMS,
                    "width": WIDTH,
                    "n_layers": 2,
                    "inner_widths": [20, 20],
                    "max_length": 6,
                },
                "item_ids": {"first": 1, "count": N_ITEMS},
            }
        },
    ),
    "s3-rec": Recorded(
        shapes={"item_embeddings.weight": (N_ITEMS + 2, WIDTH), **S3REC},
        items="item_embeddings.weight",
        extras_are_refused=False,
    ),
    "recbole-sasrec": Recorded(
        shapes={"item_embedding.weight": (N_ITEMS + 1, WIDTH), **TRANSFORMER},
        items="item_embedding.weight",
        settings={"model": "SASRec", **TRANSFORMER_SETTINGS},
    ),
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
    "recbole-bert4rec": Recorded(
        shapes={
            "item_embedding.weight": (N_ITEMS + 2, WIDTH),
            "output_bias": (N_ITEMS + 1,),
            **module("output_ffn", SQUARE),
            **module("output_ln", NORM),
            **TRANSFORMER,
        },
        items="item_embedding.weight",
        settings={"model": "BERT4Rec", **TRANSFORMER_SETTINGS},
    ),
    "recbole-narm": Recorded(
        shapes={
            "item_embedding.weight": (N_ITEMS + 1, WIDTH),
            "gru.weight_ih_l0": (3 * HIDDEN, WIDTH),
            "gru.weight_hh_l0": (3 * HIDDEN, HIDDEN),
            "a_1.weight": (HIDDEN, HIDDEN),
            "a_2.weight": (HIDDEN, HIDDEN),
            "v_t.weight": (1, HIDDEN),
            "b.weight": (WIDTH, 2 * HIDDEN),
        },
        items="item_embedding.weight",
        settings={"model": "NARM", "MAX_ITEM_LIST_LENGTH": 6, "dropout_probs": [0.1, 0.2]},
    ),
    "recbole-caser": Recorded(
        shapes={"item_embedding.weight": (N_ITEMS + 1, WIDTH), **CASER},
        items="item_embedding.weight",
        settings={"model": "Caser", "dropout_prob": 0.25},
    ),
    "recbole-bpr": Recorded(
        shapes=FACTORS,
        items="item_embedding.weight",
        settings={"model": "BPR"},
    ),
    "recbole-lightgcn": Recorded(
        shapes={
            **FACTORS,
            "other_parameter.restore_user_e": (N_USERS + 1, WIDTH),
            "other_parameter.restore_item_e": (N_ITEMS + 1, WIDTH),
        },
        items="other_parameter.restore_item_e",
        settings={"model": "LightGCN", "n_layers": 3},
        spare=tuple(FACTORS),
    ),
    "recbole-lightsans": Recorded(
        shapes={"item_embedding.weight": (N_ITEMS + 1, WIDTH), **LIGHT},
        items="item_embedding.weight",
        settings={"model": "LightSANs", **TRANSFORMER_SETTINGS},
    ),
}
