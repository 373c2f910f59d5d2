"""SASRec as pmixer/SASRec.pytorch saves it: a plain state dict.

ours                      theirs
item_table                item_emb.weight, without row 0, which pads
position_table            pos_emb.weight, without row 0, the position of pads
padding                   row 0 of the one times sqrt(D), plus row 0 of the other
layers.i.attention        attention_layers.i: torch's own, with q, k and v in one `in_proj`
layers.i.attention_norm   attention_layernorms.i
layers.i.dense_norm       forward_layernorms.i
layers.i.dense_1, _2      forward_layers.i.conv1, .conv2: convolutions of width 1
norm                      last_layernorm

The number of heads is in no shape: 1 by its default. Since 2025 the repository can also train with LayerNorms in other
places (`--norm_first`, or after the sums); weights do not say so, and such models are not read rightly. Items are 1 to N.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection

from ...runtime.errors import InputError
from ...runtime.item_ids import ItemIds
from ..checkpoint import Checkpoint
from ..models.pmixer_sasrec import PmixerSASRec, PmixerSASRecConfig
from .assemble import assemble, make_config, numbered, take_items
from .teacher import Layout, LoadOptions, Teacher
from .weights import Weights

ITEM_TABLE, POSITION_TABLE = "item_emb.weight", "pos_emb.weight"
DEFAULT_HEADS = 1
_KEYS = re.compile(
    r"(item_emb|pos_emb)\.weight|last_layernorm\.(weight|bias)"
    r"|(attention|forward)_layernorms\.\d+\.(weight|bias)"
    r"|attention_layers\.\d+\.(in_proj_|out_proj\.)(weight|bias)"
    r"|forward_layers\.\d+\.conv[12]\.(weight|bias)"
)


def knows(key: str) -> bool:
    return _KEYS.fullmatch(key) is not None


def matches(keys: Collection[str]) -> bool:
    return any(key.startswith("attention_layers.") for key in keys) and all(map(knows, keys))


def load(checkpoint: Checkpoint, options: LoadOptions) -> Teacher:
    weights, notes = Weights(checkpoint), list[str]()
    n_heads = options.n_heads
    if n_heads is None:
        n_heads = DEFAULT_HEADS
        notes.append(f"heads: {n_heads} assumed (its default), the file does not say")
    width = weights.size("last_layernorm.weight", 0)
    if n_heads < 1 or width % n_heads:
        raise InputError(
            f"{weights.path}: {n_heads} heads do not divide the width {width}; give its number of heads"
        )
    n_layers = numbered(weights, "attention_layers.")
    pad, table, _ = take_items(weights, ITEM_TABLE, width)
    pad_position, positions, _ = take_items(weights, POSITION_TABLE, width)
    taken = {
        "item_table": table,
        "position_table": positions,
        "padding": pad[0] * math.sqrt(width) + pad_position[0],
    }
    keys = {f"norm.{kind}": f"last_layernorm.{kind}" for kind in ("weight", "bias")}
    inner_width = weights.size("forward_layers.0.conv1.bias", 0)
    for i in range(n_layers):
        ours = f"layers.{i}"
        for kind, shape in (("weight", (3 * width, width)), ("bias", (3 * width,))):
            q, k, v = weights.take(f"attention_layers.{i}.in_proj_{kind}", shape).chunk(3)
            taken |= {
                f"{ours}.attention.{name}.{kind}": part.clone()
                for name, part in zip("qkv", (q, k, v), strict=True)
            }
            keys[f"{ours}.attention.out.{kind}"] = f"attention_layers.{i}.out_proj.{kind}"
            keys[f"{ours}.attention_norm.{kind}"] = f"attention_layernorms.{i}.{kind}"
            keys[f"{ours}.dense_norm.{kind}"] = f"forward_layernorms.{i}.{kind}"
            for dense in ("1", "2"):
                keys[f"{ours}.dense_{dense}.{kind}"] = f"forward_layers.{i}.conv{dense}.{kind}"
        shapes = (inner_width, width, 1), (width, inner_width, 1)
        for dense, kernel in zip(("1", "2"), shapes, strict=True):
            key = keys.pop(f"{ours}.dense_{dense}.weight")
            taken[f"{ours}.dense_{dense}.weight"] = weights.take(key, kernel)[..., 0].clone()
    config = make_config(
        weights,
        PmixerSASRecConfig,
        n_items=len(table),
        width=width,
        n_layers=n_layers,
        n_heads=n_heads,
        inner_width=inner_width,
        max_length=len(positions),
    )
    model = assemble(weights, PmixerSASRec, config, keys, taken)
    if weights.unused:
        raise InputError(
            f"{weights.path}: {weights.unused[0]} and {len(weights.unused) - 1} more tensors are not SASRec's"
        )
    item_ids = options.item_ids
    if item_ids is None:
        item_ids = ItemIds.from_sequence(range(1, len(table) + 1))
        notes.append(f"item ids: 1 to {len(item_ids)} assumed, the file does not say")
    return Teacher(model=model, item_ids=item_ids, layout=LAYOUT.name, source=checkpoint, notes=tuple(notes))


LAYOUT = Layout(
    name="pmixer-sasrec",
    matches=matches,
    knows=knows,
    load=load,
)
