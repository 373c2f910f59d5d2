"""A model from a config and the tensors of a checkpoint, nothing allocated before its shape was compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ...runtime.errors import InputError
from .weights import Weights

Model = TypeVar("Model", bound=nn.Module)
Config = TypeVar("Config")


def take_items(
    weights: Weights, key: str, width: int, *, before: int = 1, after: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """The table under `key` in three: `before` rows that pad, the items, `after` rows that mask; each float32.

    Raises:
        InputError: missing, of another width, or with no row left for an item.
    """
    n_rows = weights.size(key, 0)
    table = weights.take(key, (None, width))
    if n_rows <= before + after:
        raise InputError(
            f"{weights.path}: {key} has {n_rows} rows; expected items beside {before + after} for padding and masks"
        )
    end = n_rows - after
    return table[:before].clone(), table[before:end].clone(), table[end:].clone()


def make_config(weights: Weights, config_class: Callable[..., Config], **fields: Any) -> Config:
    """The config of these fields; raises `InputError` where they make none."""
    try:
        return config_class(**fields)
    except ValueError as error:
        raise InputError(f"{weights.path}: {error}") from error


def assemble(
    weights: Weights,
    model_class: Callable[[Any], Model],
    config: Any,
    keys: Mapping[str, str],
    taken: Mapping[str, Tensor],
) -> Model:
    """The model in eval mode.

    Args:
        keys: the checkpoint's key of each of the model's parameters that is there under another name.
        taken: the parameters that were cut or reshaped out of others.

    Raises:
        InputError: a tensor is missing or of another shape than the config makes it.
    """
    with torch.device("meta"):  # shapes only: no size in the file is allocated before it is checked
        model = model_class(config)
    state: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        given = taken.get(name)
        state[name] = weights.take(keys[name], tuple(parameter.shape)) if given is None else given
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval()


def numbered(weights: Weights, prefix: str) -> int:
    """How many `prefix0`, `prefix1`, ... there are.

    Raises:
        InputError: none, or not numbered from 0.
    """
    rest = (key[len(prefix) :] for key in weights.unused if key.startswith(prefix))
    digits = {text.split(".")[0] for text in rest}
    found = sorted(int(text) for text in digits if text.isdecimal() and len(text) <= 6)
    if not found or found != list(range(len(found))):
        raise InputError(
            f"{weights.path}: {prefix}* are numbered {found[:9]}; expected 0 to {max(len(found) - 1, 0)}"
        )
    return len(found)
