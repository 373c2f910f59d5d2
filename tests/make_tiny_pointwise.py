"""Make the tiny pointwise bundles that the runtime's tests run on: `python tests/make_tiny_pointwise.py [FOLDER]`.

Beside `make_tiny_bundle`, for the same reason. `tiny-deepfm` has fields of every kind and side and the features of its
items; `tiny-din` reads a history. NAME.json holds rows as an app gives them, and the logits that torch found for them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pocketrec.compress.models.deepfm import DeepFM, DeepFMConfig
from pocketrec.compress.models.din import DIN, DINConfig
from pocketrec.compress.pointwise_meter import layout_of, stored_tables
from pocketrec.export.pointwise_bundle import PointwiseContent, export_pointwise_bundle, reference_logits
from pocketrec.runtime.features import FeatureSchema, Field
from pocketrec.runtime.item_features import ItemFeatures
from pocketrec.runtime.item_ids import ItemIds

FOLDER = Path(__file__).parent / "runtime" / "data"
N_ROWS = 24
GENRES, HOURS = ["comedy", "war", "drama"], ["morning", "noon", "night"]
DEEPFM = FeatureSchema(
    label="click",
    fields=(
        Field(name="user_id", kind="token", side="user", size=8),
        Field(name="age", kind="float", side="user", low=10.0, high=90.0),
        Field(name="item_id", kind="token", side="item", size=13),
        Field(name="genres", kind="token_seq", side="item", size=4, max_length=3),
        Field(name="price", kind="float", side="item", low=0.0, high=4.0),
        Field(name="hour", kind="token", side="context", size=4),
    ),
)
HISTORY = FeatureSchema(
    label="click",
    fields=(
        Field(name="item_id", kind="token", side="item", size=21),
        Field(name="item_id_list", kind="token_seq", side="user", size=21, max_length=5),
    ),
)


def make_deepfm(path: Path, seed: int = 0) -> None:
    """Users 101..107, items item-01..item-12, a three-bit table."""
    rng = np.random.default_rng(seed)
    model = DeepFM(DeepFMConfig(schema=DEEPFM, width=6, hidden_widths=(8, 5)), seed=seed).eval()
    tokens: dict[str, list[Any]] = {
        "user_id": list(range(101, 108)),
        "item_id": [f"item-{n:02}" for n in range(1, 13)],
        "genres": list(GENRES),
        "hour": list(HOURS),
    }
    lists = np.zeros((13, 3), np.int64)
    for row in range(1, 13):
        lists[row, : row % 4] = rng.permutation(3)[: row % 4] + 1
    known = {"genres": lists, "price": rng.random(13).astype(np.float32)}
    items = rng.integers(0, 13, N_ROWS)
    rows: dict[str, NDArray[Any]] = {
        "user_id": rng.integers(0, 8, N_ROWS),
        "age": rng.random(N_ROWS).astype(np.float32),
        "item_id": items,
        "genres": lists[items],
        "price": known["price"][items],
        "hour": rng.integers(0, 4, N_ROWS),
    }
    _write(path, model, tokens, rows, bits=3, user="user_id", item_features=ItemFeatures(known))


def make_din(path: Path, seed: int = 0) -> None:
    """Items 1..20."""
    rng = np.random.default_rng(seed)
    config = DINConfig(schema=HISTORY, width=6, attention_widths=(7, 5), hidden_widths=(8, 5))
    ends = np.arange(N_ROWS)[:, None] % 6
    rows: dict[str, NDArray[Any]] = {
        "item_id": rng.integers(0, 21, N_ROWS),
        "item_id_list": np.where(np.arange(5) < ends, rng.integers(1, 21, (N_ROWS, 5)), 0),
    }
    ids = list(range(1, 21))
    model = DIN(config, seed=seed).eval()
    with torch.no_grad():  # fresh weights are so small that all rows would score alike
        for weights in model.parameters():
            weights.copy_(torch.from_numpy(rng.standard_normal(weights.shape).astype(np.float32)))
    _write(path, model, {"item_id": ids, "item_id_list": ids}, rows, bits=8, user=None)


def _write(
    path: Path,
    model: Any,
    tokens: dict[str, list[Any]],
    rows: dict[str, NDArray[Any]],
    *,
    bits: int,
    user: str | None,
    item_features: ItemFeatures | None = None,
) -> None:
    layout = layout_of(model)
    of = {tuple(map(str, values)): ItemIds.from_sequence(values) for values in tokens.values()}
    content = PointwiseContent(
        name=path.stem, network=model, schema=model.schema, layout=layout, tables=stored_tables(model, layout, bits),
        vocabularies={name: of[tuple(map(str, values))] for name, values in tokens.items()}, threshold=4.0,
        rows_in_data=False, item="item_id", user=user, item_features=item_features, form="float32", manifest={},
    )  # fmt: skip
    export_pointwise_bundle(path, content, rows, N_ROWS, overwrite=True)
    raw = [
        {
            field.name: _raw(field, tokens.get(field.name), rows[field.name][n])
            for field in model.schema.fields
        }
        for n in range(N_ROWS)
    ]
    logits = [round(float(logit), 6) for logit in reference_logits(content, rows, N_ROWS)]
    path.with_suffix(".json").write_text(json.dumps({"rows": raw, "logits": logits}, indent=1) + "\n")


def _raw(field: Field, tokens: list[Any] | None, value: Any) -> Any:
    """As an app would say it; None for an unknown token."""
    if field.kind == "float":
        return round(float(field.low + value * (field.high - field.low)), 7)
    assert tokens is not None
    if field.kind == "token":
        return tokens[value - 1] if value else None
    return [tokens[row - 1] for row in value.tolist() if row]


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    target.mkdir(parents=True, exist_ok=True)
    make_deepfm(target / "tiny-deepfm.pocket")
    make_din(target / "tiny-din.pocket")
