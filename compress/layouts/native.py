"""pocketrec's own checkpoints, as `pocketrec train` writes them; the format is in `native_checkpoint`."""

from __future__ import annotations

import re
from collections.abc import Collection

import torch

from ...runtime.errors import InputError
from ..checkpoint import Checkpoint
from ..native_checkpoint import config_and_ids
from .teacher import Layout, LoadOptions, Teacher
from .weights import Weights


def matches(keys: Collection[str]) -> bool:
    return "item_table" in keys


_KEYS = re.compile(
    r"(item_table|item_bias|position_table|padding|mask|user)"
    r"|(norm|dense|dense_norm|dense_[12]|of_each|of_last|weigh|vertical|horizontal\.\d+)\.(weight|bias)"
    r"|layers\.\d+\..+"
)
"""Of any architecture that is saved."""


def knows(key: str) -> bool:
    return _KEYS.fullmatch(key) is not None


def load(checkpoint: Checkpoint, options: LoadOptions) -> Teacher:
    model_class, config, item_ids = config_and_ids(checkpoint)
    path = checkpoint.path
    if options.n_heads is not None:
        raise InputError(
            f"{path}: {options.n_heads} heads asked for, but the file records them; leave the option out"
        )
    weights = Weights(checkpoint)
    try:
        with torch.device("meta"):  # shapes only: no size in the file is allocated before it is checked
            model = model_class(config)
    except (TypeError, RuntimeError) as error:
        raise InputError(f"{path}: config makes no model ({str(error).splitlines()[0]:.120})") from error
    state = {name: weights.take(name, tuple(parameter.shape)) for name, parameter in model.named_parameters()}
    if weights.unused:
        raise InputError(
            f"{path}: {', '.join(weights.unused[:3])} belong to no part of the model; save it again"
        )
    model.load_state_dict(state, strict=True, assign=True)
    ids = options.item_ids or item_ids
    return Teacher(model=model.eval(), item_ids=ids, layout=LAYOUT.name, source=checkpoint)


LAYOUT = Layout(
    name="pocketrec",
    matches=matches,
    knows=knows,
    load=load,
)
