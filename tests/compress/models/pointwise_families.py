"""Every family of pointwise models, small, made lively so that every parameter matters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pocketrec.compress.models.autoint import AutoInt, AutoIntConfig
from pocketrec.compress.models.dcnv2 import DCNv2, DCNv2Config
from pocketrec.compress.models.deepfm import DeepFM, DeepFMConfig
from pocketrec.compress.models.din import DIN, DINConfig
from pocketrec.compress.models.fm import FM, FMConfig
from pocketrec.compress.models.neumf import NeuMF, NeuMFConfig
from pocketrec.compress.models.wide_deep import WideDeep, WideDeepConfig
from pocketrec.runtime.features import FeatureSchema, Field

USER = Field(name="user", kind="token", side="user", size=9)
ITEM = Field(name="item", kind="token", side="item", size=12)
AGE = Field(name="age", kind="float", side="user", low=0.0, high=90.0)
GENRES = Field(name="genres", kind="token_seq", side="item", size=6, max_length=3)
HOUR = Field(name="hour", kind="float", side="context", low=0.0, high=24.0)
HISTORY = Field(name="item_list", kind="token_seq", side="user", size=12, max_length=5)

ALL = FeatureSchema(fields=(AGE, USER, GENRES, HOUR, ITEM), label="click")
PAIR = FeatureSchema(fields=(USER, ITEM), label="click")
CANDIDATE_AND_HISTORY = FeatureSchema(fields=(ITEM, HISTORY), label="click")
SIZES: dict[str, Any] = {"schema": ALL, "width": 4}

POINTWISE_FAMILIES: dict[str, Callable[[int], Any]] = {
    "neumf": lambda seed: NeuMF(
        NeuMFConfig(schema=PAIR, product_width=5, width=4, hidden_widths=(6, 3)), seed
    ),
    "fm": lambda seed: FM(FMConfig(**SIZES), seed),
    "deepfm": lambda seed: DeepFM(DeepFMConfig(**SIZES, hidden_widths=(7, 5)), seed),
    "wide & deep": lambda seed: WideDeep(WideDeepConfig(**SIZES, hidden_widths=(7, 5)), seed),
    "dcnv2": lambda seed: DCNv2(DCNv2Config(**SIZES, n_cross_layers=2, hidden_widths=(7, 5)), seed),
    "dcnv2, parallel": lambda seed: DCNv2(
        DCNv2Config(**SIZES, n_cross_layers=2, structure="parallel", hidden_widths=(7,)), seed
    ),
    "autoint": lambda seed: AutoInt(AutoIntConfig(**SIZES, attention_width=6, hidden_widths=(7,)), seed),
    "autoint, residual at the end": lambda seed: AutoInt(
        AutoIntConfig(**SIZES, attention_width=6, final_residual=True, hidden_widths=(7,)), seed
    ),
    "autoint, residual layers": lambda seed: AutoInt(
        AutoIntConfig(
            **SIZES,
            attention_width=6,
            residual_layers=True,
            scaled=False,
            first_order=False,
            hidden_widths=(7,),
        ),
        seed,
    ),
    "din": lambda seed: DIN(
        DINConfig(schema=CANDIDATE_AND_HISTORY, width=4, attention_widths=(5, 3), hidden_widths=(6, 4)), seed
    ),
}


def lively(family: str, seed: int = 1) -> Any:
    """A model whose every parameter matters: 0.02 and zero biases would hide mistakes."""
    model = POINTWISE_FAMILIES[family](0).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.empty_like(parameter).normal_(std=0.4, generator=generator)
    return model


def inputs(model: Any, n_rows: int, seed: int = 2) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Vectors, lengths and numbers of random rows, as the protocol has them."""
    generator = torch.Generator().manual_seed(seed)
    vectors, lengths = list[torch.Tensor](), list[torch.Tensor]()
    for lookup in model.lookups:
        field, table = model.schema.field(lookup.field), model.tables[lookup.table]
        if field.kind == "token":
            vectors.append(table[torch.randint(field.size, (n_rows,), generator=generator)])
            continue
        rows = torch.randint(field.size, (n_rows, field.max_length), generator=generator)
        length = torch.randint(field.max_length + 1, (n_rows,), generator=generator)
        known = torch.arange(field.max_length) < length[:, None]
        vectors.append(table[rows] * known[..., None])
        lengths.append(length)
    stacked = torch.stack(lengths, 1) if lengths else torch.zeros(n_rows, 0, dtype=torch.int64)
    n_floats = sum(field.kind == "float" for field in model.schema.fields)
    return vectors, stacked, torch.rand(n_rows, n_floats, generator=generator)
