"""Tiny good checkpoints of pointwise models in each framework's own names, and the tiny data they were 'trained' on.

Written down as shapes, independent of what the layouts read, so that a layout cannot agree with its own mistake.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

WIDTH = 4
INTER = """\
user_id:token\titem_id:token\trating:float\ttimestamp:float
u2\ti7\t5\t10
u1\ti3\t2\t11
u2\ti3\t4\t12
u5\ti1\t3\t13
u9\ti1\t5\t14
u1\ti7\t1\t15
u2\t\t1\t16
"""
USER = "user_id:token\tage:token\nu1\t30\nu5\t24\nu2\t30\nu8\t51\nu9\t\n"
ITEM = """\
item_id:token\tclass:token_seq\tprice:float
i1\tcomedy war\t3
i3\t\t9
i5\twar\t6
i7\tdrama comedy\t
"""
TOKENS = {
    "class": ["comedy", "war", "drama"],
    "user_id": ["u2", "u1", "u5", "u9", "u8"],
    "item_id": ["i7", "i3", "i1", "i5"],
    "age": [30, 24, 51],
}
"""As RecBole numbers them, from 1: ids first as interactions have them, then as the other file does."""
SIZES = {name: len(tokens) + 1 for name, tokens in TOKENS.items()}
N_FIELDS = 5
"""class, user_id, item_id, age, price."""
N_PACKED = SIZES["user_id"] + SIZES["item_id"] + SIZES["age"]
SETTINGS: dict[str, Any] = {
    "embedding_size": WIDTH,
    "threshold": {"rating": 4},
    "numerical_features": ["price"],
    "normalize_all": True,
    "load_col": {
        "inter": ["user_id", "item_id", "rating", "timestamp"],
        "user": ["user_id", "age"],
        "item": ["item_id", "class", "price"],
    },
}

FEATURES: list[dict[str, Any]] = [
    {"site": {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": 5}},
    {"price": {"source": "item", "type": "numeric"}},
    {
        "tags": {
            "source": "item",
            "type": "sequence",
            "padding_idx": 0,
            "max_len": 3,
            "vocab_size": 4,
            "feature_encoder": "layers.MaskedAveragePooling()",
        }
    },
    {"user": {"source": "user", "type": "categorical", "padding_idx": 0, "vocab_size": 6}},
    {"group": {"type": "meta"}},
]
FEATURE_MAP: dict[str, Any] = {"dataset_id": "tiny", "labels": ["click"], "features": FEATURES}
FEATURE_VOCAB: dict[str, dict[str, int]] = {
    "site": {"__PAD__": 0, "x": 1, "y": 2, "z": 3, "__OOV__": 4},
    "tags": {"__PAD__": 0, "new": 1, "old": 2, "__OOV__": 3},
    "user": {"__PAD__": 0, "7": 1, "8": 2, "3": 3, "1": 4, "__OOV__": 5},
}


def write_recbole_data(folder: Path) -> Path:
    """NAME.inter, with .user and .item beside it."""
    for suffix, text in (("inter", INTER), ("user", USER), ("item", ITEM)):
        (folder / f"tiny.{suffix}").write_text(text)
    return folder / "tiny.inter"


def write_fuxictr_data(folder: Path) -> Path:
    """feature_map.json and feature_vocab.json; the path is of data that would lie beside them."""
    (folder / "feature_map.json").write_text(json.dumps(FEATURE_MAP))
    (folder / "feature_vocab.json").write_text(json.dumps(FEATURE_VOCAB))
    return folder / "train.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class PointwiseRecorded:
    """A framework's file of one model."""

    shapes: dict[str, tuple[int, ...]]
    table: str
    """Key of a table whose rows are tokens."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What RecBole pickles beside the weights."""
    idle: tuple[str, ...] = ()
    """Beginnings of keys that the framework saves and the model does not use."""
    write_data: Callable[[Path], Path] = write_recbole_data

    def state_dict(self, seed: int = 3) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        state = {key: torch.randn(shape, generator=generator) * 0.5 for key, shape in self.shapes.items()}
        for key in state:
            if key.endswith("running_var"):
                state[key] = state[key].abs() + 0.1
            if key.endswith("num_batches_tracked"):
                state[key] = torch.tensor(7)
        return state

    def file(self, state: dict[str, Tensor] | None = None, **settings: Any) -> Any:
        """What is pickled: the state dict alone, or with its settings."""
        state = self.state_dict() if state is None else state
        settings = {**self.settings, **settings}
        return {"config": {"final_config_dict": settings}, "state_dict": state} if settings else state


def linear(prefix: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.weight": (outputs, inputs), f"{prefix}.bias": (outputs,)}


def batch_norm(prefix: str, width: int) -> dict[str, tuple[int, ...]]:
    kinds = ("weight", "bias", "running_mean", "running_var")
    return {f"{prefix}.{kind}": (width,) for kind in kinds} | {f"{prefix}.num_batches_tracked": ()}


def tables(width: int, prefix: str = "") -> dict[str, tuple[int, ...]]:
    return {
        f"{prefix}token_embedding_table.embedding.weight": (N_PACKED, width),
        f"{prefix}float_embedding_table.embedding.weight": (2, width),
        f"{prefix}token_seq_embedding_table.0.weight": (SIZES["class"], width),
    }


CONTEXT = tables(WIDTH) | {"first_order_linear.bias": (1,)} | tables(1, "first_order_linear.")
MLP = linear("mlp_layers.mlp_layers.1", N_FIELDS * WIDTH, 6) | linear("mlp_layers.mlp_layers.4", 6, 5)
DEEP = CONTEXT | MLP | linear("deep_predict_layer", 5, 1)
PACKED = "token_embedding_table.embedding.weight"
X = N_FIELDS * WIDTH
CROSS: dict[str, tuple[int, ...]] = {}
ATTENTION: dict[str, tuple[int, ...]] = linear("att_embedding", WIDTH, 6) | linear("attn_fc", N_FIELDS * 6, 1)
for i in range(2):
    CROSS |= {f"cross_layer_w.{i}": (X, X), f"bias.{i}": (X, 1)}
    ATTENTION |= {f"self_attns.{i}.in_proj_weight": (18, 6), f"self_attns.{i}.in_proj_bias": (18,)}
    ATTENTION |= linear(f"self_attns.{i}.out_proj", 6, 6)
NORMED = {
    **linear("mlp_layers.mlp_layers.1", X, 6),
    **batch_norm("mlp_layers.mlp_layers.2", 6),
    **linear("mlp_layers.mlp_layers.5", 6, 5),
    **batch_norm("mlp_layers.mlp_layers.6", 5),
}
ITEM_WIDTH = 3 * WIDTH  # item_id, class, price
EMBEDDING = "embedding_layer."
DIN = {
    **linear("attention.att_mlp_layers.mlp_layers.1", 4 * ITEM_WIDTH, 6),
    **linear("attention.att_mlp_layers.mlp_layers.4", 6, 5),
    **linear("attention.dense", 5, 1),
    **linear("dnn_mlp_layers.mlp_layers.1", 3 * ITEM_WIDTH, 6),
    **batch_norm("dnn_mlp_layers.mlp_layers.2", 6),
    **linear("dnn_mlp_layers.mlp_layers.5", 6, 5),
    **batch_norm("dnn_mlp_layers.mlp_layers.6", 5),
    f"{EMBEDDING}token_embedding_table.user.embedding.weight": (SIZES["user_id"] + SIZES["age"], WIDTH),
    f"{EMBEDDING}token_embedding_table.item.embedding.weight": (SIZES["item_id"], WIDTH),
    f"{EMBEDDING}float_embedding_table.item.embedding.weight": (2, WIDTH),
    f"{EMBEDDING}token_seq_embedding_table.item.0.weight": (SIZES["class"], WIDTH),
    **linear("dnn_predict_layers", 5, 1),
}

VECTORS = "embedding_layer.embedding_layer.embedding_layers."


def fuxictr_tables(width: int, prefix: str = "") -> dict[str, tuple[int, ...]]:
    shapes = {"site": (5, width), "price": (width, 1), "tags": (4, width), "user": (6, width)}
    return {f"{prefix}{VECTORS}{name}.weight": shape for name, shape in shapes.items()}


LR = fuxictr_tables(1, "fm.lr_layer.") | {"fm.lr_layer.bias": (1,)}
SELF_ATTENTION = {
    f"self_attention.{i}.W_{part}.weight": (6, 6 if i else WIDTH) for i in range(2) for part in "qkv"
} | {"self_attention.0.W_res.weight": (6, WIDTH)}


def recbole(model: str, shapes: dict[str, tuple[int, ...]], **options: Any) -> PointwiseRecorded:
    settings = {"model": model, **SETTINGS, **options.pop("settings", {})}
    return PointwiseRecorded(shapes=shapes, settings=settings, **{"table": PACKED, **options})


def fuxictr(shapes: dict[str, tuple[int, ...]]) -> PointwiseRecorded:
    return PointwiseRecorded(shapes=shapes, table=f"{VECTORS}user.weight", write_data=write_fuxictr_data)


POINTWISE: dict[str, PointwiseRecorded] = {
    "recbole-neumf": recbole(
        "NeuMF",
        {
            "user_mf_embedding.weight": (SIZES["user_id"], WIDTH),
            "item_mf_embedding.weight": (SIZES["item_id"], WIDTH),
            "user_mlp_embedding.weight": (SIZES["user_id"], 3),
            "item_mlp_embedding.weight": (SIZES["item_id"], 3),
            **linear("mlp_layers.mlp_layers.1", 6, 6),
            **linear("mlp_layers.mlp_layers.4", 6, 5),
            **linear("predict_layer", WIDTH + 5, 1),
        },
        table="item_mlp_embedding.weight",
    ),
    "recbole-fm": recbole("FM", CONTEXT),
    "recbole-deepfm": recbole("DeepFM", DEEP, settings={"dropout_prob": 0.1}),
    "recbole-wide-deep": recbole("WideDeep", DEEP),
    "recbole-dcnv2": recbole(
        "DCNV2", CONTEXT | CROSS | NORMED | linear("predict_layer", 5, 1), idle=("first_order_linear.",)
    ),
    "recbole-autoint": recbole(
        "AutoInt",
        DEEP | ATTENTION | linear("v_res_embedding", WIDTH, 6),
        settings={"num_heads": 3, "dropout_probs": [0.2, 0.1, 0.0]},
    ),
    "recbole-din": recbole(
        "DIN",
        DIN,
        settings={"MAX_ITEM_LIST_LENGTH": 4, "pooling_mode": "mean"},
        table=f"{EMBEDDING}token_embedding_table.item.embedding.weight",
        idle=(f"{EMBEDDING}token_embedding_table.user.",),
    ),
    "fuxictr-fm": fuxictr(fuxictr_tables(WIDTH) | LR),
    "fuxictr-deepfm": fuxictr(
        fuxictr_tables(WIDTH)
        | LR
        | linear("mlp.mlp.0", 4 * WIDTH, 6)
        | batch_norm("mlp.mlp.1", 6)
        | linear("mlp.mlp.4", 6, 5)
        | batch_norm("mlp.mlp.5", 5)
        | linear("mlp.mlp.8", 5, 1)
    ),
    "fuxictr-wide-deep": fuxictr(
        fuxictr_tables(WIDTH)
        | fuxictr_tables(1, "lr_layer.")
        | linear("dnn.mlp.0", 4 * WIDTH, 6)
        | linear("dnn.mlp.3", 6, 5)
        | linear("dnn.mlp.6", 5, 1)
    ),
    "fuxictr-dcnv2": fuxictr(
        fuxictr_tables(WIDTH)
        | linear("crossnet.cross_layers.0", 4 * WIDTH, 4 * WIDTH)
        | linear("crossnet.cross_layers.1", 4 * WIDTH, 4 * WIDTH)
        | linear("parallel_dnn.mlp.0", 4 * WIDTH, 6)
        | linear("parallel_dnn.mlp.2", 6, 5)
        | linear("fc", 4 * WIDTH + 5, 1)
    ),
    "fuxictr-autoint": fuxictr(
        fuxictr_tables(WIDTH)
        | SELF_ATTENTION
        | linear("fc", 4 * 6, 1)
        | linear("dnn.mlp.0", 4 * WIDTH, 6)
        | linear("dnn.mlp.2", 6, 1)
        | fuxictr_tables(1, "lr_layer.")
    ),
}
