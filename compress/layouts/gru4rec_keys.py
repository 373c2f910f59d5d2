"""The part that ICSRec's and RecBole's GRU4Rec share: torch's own GRU, and a linear layer above it.

ours                      theirs
layers.i.input_weight     gru_layers.weight_ih_li       gates r, z, c, as ours
layers.i.hidden_weight    gru_layers.weight_hh_li
dense                     dense
"""

from __future__ import annotations

import re

from ..models.gru4rec import GRU4Rec, GRU4RecConfig
from .assemble import assemble, make_config, numbered, take_items
from .weights import Weights


def knows(key: str) -> bool:
    return re.fullmatch(r"gru_layers\.weight_[ih]h_l\d+|dense\.(weight|bias)", key) is not None


def is_recurrent(key: str) -> bool:
    return key.startswith("gru_layers.")


def read_gru4rec(
    weights: Weights, items: str, *, rows_after: int, max_length: int, dropout: float, left_padding: bool
) -> GRU4Rec:
    """The model, in eval mode; the item table under `items` has a row that pads, the items, and `rows_after` rows.

    Raises:
        InputError: a tensor is missing or misshapen.
    """
    n_layers = numbered(weights, "gru_layers.weight_ih_l")
    width = weights.size("dense.bias", 0)
    padding, table, _ = take_items(weights, items, width, after=rows_after)
    config = make_config(
        weights,
        GRU4RecConfig,
        n_items=len(table),
        width=width,
        hidden_width=weights.size("dense.weight", 1),
        n_layers=n_layers,
        max_length=max_length,
        left_padding=left_padding,
        dropout=dropout,
    )
    keys = {"dense.weight": "dense.weight", "dense.bias": "dense.bias"}
    for i in range(n_layers):
        keys[f"layers.{i}.input_weight"] = f"gru_layers.weight_ih_l{i}"
        keys[f"layers.{i}.hidden_weight"] = f"gru_layers.weight_hh_l{i}"
    return assemble(weights, GRU4Rec, config, keys, {"item_table": table, "padding": padding[0]})
