"""Every family of sequence models, small: 30 items of width 8, made lively so that every parameter matters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pocketrec.compress.models.bert4rec import BERT4Rec, BERT4RecConfig
from pocketrec.compress.models.caser import Caser, CaserConfig
from pocketrec.compress.models.fold_in import FoldIn, FoldInConfig
from pocketrec.compress.models.gru4rec import GRU4Rec, GRU4RecConfig
from pocketrec.compress.models.lightsans import LightSANs, LightSANsConfig
from pocketrec.compress.models.narm import NARM, NARMConfig
from pocketrec.compress.models.pmixer_sasrec import PmixerSASRec, PmixerSASRecConfig
from pocketrec.compress.models.sasrec import SASRec, SASRecConfig

N_ITEMS, WIDTH, MAX_LENGTH = 30, 8, 6
SIZES: dict[str, Any] = {"n_items": N_ITEMS, "width": WIDTH, "max_length": MAX_LENGTH}

FAMILIES: dict[str, Callable[[int], Any]] = {
    "sasrec": lambda seed: SASRec(SASRecConfig(**SIZES), seed),
    "gru4rec": lambda seed: GRU4Rec(GRU4RecConfig(**SIZES, hidden_width=12), seed),
    "gru4rec, two layers": lambda seed: GRU4Rec(GRU4RecConfig(**SIZES, hidden_width=12, n_layers=2), seed),
    "gru4rec, padded on the left": lambda seed: GRU4Rec(
        GRU4RecConfig(**SIZES, hidden_width=12, n_layers=2, left_padding=True), seed
    ),
    "pmixer": lambda seed: PmixerSASRec(PmixerSASRecConfig(**SIZES, inner_width=8), seed),
    "pmixer, two heads": lambda seed: PmixerSASRec(
        PmixerSASRecConfig(**SIZES, n_heads=2, inner_width=12), seed
    ),
    "bert4rec": lambda seed: BERT4Rec(BERT4RecConfig(**SIZES, inner_width=16), seed),
    "narm": lambda seed: NARM(NARMConfig(**SIZES, hidden_width=12), seed),
    "narm, two layers": lambda seed: NARM(NARMConfig(**SIZES, hidden_width=12, n_layers=2), seed),
    "caser": lambda seed: Caser(CaserConfig(**SIZES, n_vertical=3, n_horizontal=2), seed),
    "fold-in": lambda seed: FoldIn(FoldInConfig(**SIZES), seed),
    "lightsans": lambda seed: LightSANs(LightSANsConfig(**SIZES, n_interests=3, inner_width=16), seed),
    "lightsans, one layer": lambda seed: LightSANs(
        LightSANsConfig(**SIZES, n_layers=1, n_interests=3, inner_width=16, activation="relu"), seed
    ),
}


def lively(family: str, seed: int = 1) -> Any:
    """A model whose every parameter matters: 0.02 and zero biases would hide mistakes."""
    model = FAMILIES[family](0).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.empty_like(parameter).normal_(std=0.3, generator=generator)
    return model
