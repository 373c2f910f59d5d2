"""A pointwise world small enough for the whole road: RecBole's DeepFM with drawn weights, and people who rate by it.

The teacher need not be trained: the ratings are drawn from its own probabilities, so that it is right about them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pocketrec.benchmarks.labelled_rows import read_labelled
from pocketrec.benchmarks.recbole_splits import random_split
from pocketrec.compress.layouts import load_pointwise_teacher
from pocketrec.compress.pointwise_forward import all_logits
from pocketrec.compress.pointwise_spec import spec_of

from .hostile_checkpoints import saved

N_USERS, N_ITEMS, WIDTH, HIDDEN = 60, 40, 8, 24
GENRES = ["comedy", "war", "drama", "western"]
SETTINGS: dict[str, Any] = {
    "model": "DeepFM",
    "embedding_size": WIDTH,
    "threshold": {"rating": 4},
    "numerical_features": ["price"],
    "normalize_all": True,
    "load_col": {
        "inter": ["user_id", "item_id", "rating", "timestamp"],
        "user": ["user_id", "gender"],
        "item": ["item_id", "class", "price"],
    },
}


@dataclass(frozen=True, slots=True)
class TinyPointwise:
    """Its files."""

    checkpoint: Path
    data: Path


def make_tiny_pointwise(folder: Path, seed: int = 0) -> TinyPointwise:
    """Write checkpoint and data into `folder`."""
    random = np.random.default_rng(seed)
    pairs = [(u, i) for u in range(1, N_USERS + 1) for i in random.permutation(N_ITEMS)[:25] + 1]
    genders = ["f", "m"]
    users = "".join(f"{u}\t{genders[u % 2]}\n" for u in range(1, N_USERS + 1))
    items = "".join(f"{i}\t{' '.join(GENRES[: i % 5])}\t{i % 7}\n" for i in range(1, N_ITEMS + 1))
    (folder / "tiny.user").write_text("user_id:token\tgender:token\n" + users)
    (folder / "tiny.item").write_text("item_id:token\tclass:token_seq\tprice:float\n" + items)
    tiny = TinyPointwise(folder / "tiny.pth", folder / "tiny.inter")
    _write_ratings(tiny.data, pairs, random.integers(1, 6, len(pairs)))
    tiny.checkpoint.write_bytes(saved(_checkpoint(seed)))
    teacher = load_pointwise_teacher(tiny.checkpoint, data=tiny.data)
    data = read_labelled(tiny.data, spec_of(teacher), seed=0)
    places = np.concatenate(random_split(len(pairs), 0))
    logits = np.empty(len(pairs))
    logits[places] = np.concatenate(
        [all_logits(teacher.model, part) for part in (data.train, data.valid, data.test)]
    )
    logits = 3 * (logits - logits.mean()) / logits.std()
    positive = random.random(len(pairs)) < 1 / (1 + np.exp(-logits))
    _write_ratings(tiny.data, pairs, np.where(positive, 5, 2))
    return tiny


def _write_ratings(path: Path, pairs: list[tuple[int, int]], ratings: np.ndarray) -> None:
    lines = "".join(f"{u}\t{i}\t{r}\t{t}\n" for t, ((u, i), r) in enumerate(zip(pairs, ratings, strict=True)))
    path.write_text("user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + lines)


def _checkpoint(seed: int) -> dict[str, Any]:
    """As RecBole saves it; fields are class, user_id, item_id, gender, price."""
    n_packed = N_USERS + 1 + N_ITEMS + 1 + 3
    shapes: dict[str, tuple[int, ...]] = {"first_order_linear.bias": (1,)}
    for prefix, width in (("", WIDTH), ("first_order_linear.", 1)):
        shapes[f"{prefix}token_embedding_table.embedding.weight"] = (n_packed, width)
        shapes[f"{prefix}float_embedding_table.embedding.weight"] = (2, width)
        shapes[f"{prefix}token_seq_embedding_table.0.weight"] = (len(GENRES) + 1, width)
    for number, (before, after) in ((1, (5 * WIDTH, HIDDEN)), (4, (HIDDEN, HIDDEN))):
        shapes[f"mlp_layers.mlp_layers.{number}.weight"] = (after, before)
        shapes[f"mlp_layers.mlp_layers.{number}.bias"] = (after,)
    shapes |= {"deep_predict_layer.weight": (1, HIDDEN), "deep_predict_layer.bias": (1,)}
    generator = torch.Generator().manual_seed(seed)
    state = {key: torch.randn(shape, generator=generator) * 0.3 for key, shape in shapes.items()}
    return {"config": {"final_config_dict": SETTINGS}, "state_dict": state}
