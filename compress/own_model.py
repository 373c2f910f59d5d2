"""A model of the user's own: `--model package.module:factory` beside a plain state dict.

The factory is the user's code, imported from their Python path or the current folder because they asked for it by name;
the checkpoint stays data, of which nothing is executed. It returns an `nn.Module` that follows
`models.protocol.SequenceModel`, and is called

    factory()                 or, where it has a parameter of that name,
    factory(shapes=shapes)    with {name: shape} of the checkpoint's tensors, from which it can read its sizes.

The checkpoint's tensors are then loaded by the module's own `load_state_dict`, so that its hooks may rename and cut what
a training loop saved; every parameter has to be there, in its shape, and every tensor has to have its place. An attribute
`item_ids`, where the module has one, is the user's id of each row of the item table; otherwise the ids are 1 to N.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from ..runtime.errors import InputError
from ..runtime.item_ids import ItemIds
from .checkpoint import Checkpoint, read_checkpoint
from .layouts import Teacher
from .models.protocol import SequenceModel

Result = TypeVar("Result")
LAYOUT = "own-model"
"""What the manifest records for a layout."""
AGREEMENT = 1e-3
"""Largest difference of `encode` and `hidden_states`, as a share of the largest value: they sum in another order, and a
wrong position is off by as much as the values themselves."""


def load_own_model(path: str | PathLike[str], factory: str) -> Teacher:
    """The teacher that `factory`, "package.module:attribute", makes of the checkpoint's tensors.

    Raises:
        InputError: no such factory, its code failed, what it made is no sequence model, or the tensors do not fit it.
    """
    make = _find_factory(factory)
    checkpoint = read_checkpoint(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in checkpoint.tensors.items()}
    options = {"shapes": shapes} if "shapes" in _parameters(factory, make) else {}
    module = _run_own(factory, lambda: make(**options))
    model = _checked(factory, module)
    _load(factory, checkpoint, cast(nn.Module, model))
    model = cast(SequenceModel, cast(nn.Module, model).float().eval())
    _check_encoding(factory, model)
    notes = list[str]()
    listed = getattr(model, "item_ids", None)
    n_items = len(model.item_table)
    if listed is None:
        listed = range(1, n_items + 1)
        notes.append(f"item ids: 1 to {n_items} assumed; an attribute item_ids of the model says otherwise")
    if len(listed) != n_items:
        raise InputError(
            f"--model {factory}: item_ids has {len(listed)} ids; expected one for each of {n_items} items"
        )
    ids = ItemIds.from_sequence(listed)
    return Teacher(model=model, item_ids=ids, layout=LAYOUT, source=checkpoint, notes=tuple(notes))


def _find_factory(name: str) -> Callable[..., Any]:
    """Imports what the user named; their current folder counts as it does for `python -m`."""
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*", name):
        raise InputError(f"--model {name!r:.80}: expected package.module:factory, such as mymodel:make")
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found = _run_own(name, lambda: importlib.import_module(module_name))
    finally:
        sys.path.remove(here)
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise InputError(f"--model {name}: {module_name} has no function or class {attribute}")
    return cast(Callable[..., Any], found)


def _parameters(name: str, factory: Callable[..., Any]) -> set[str]:
    """Names of what the factory takes, of which nothing but `shapes` may be required."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:  # of some built-in types
        return set()
    for parameter in parameters:
        needed = parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        )
        if needed and parameter.name != "shapes":
            raise InputError(
                f"--model {name}: it needs {parameter.name}; expected a factory of no arguments, or of shapes alone"
            )
    return {parameter.name for parameter in parameters}


def _run_own(name: str, call: Callable[[], Result]) -> Result:
    """Whatever the user's code raises as one line that says where."""
    try:
        return call()
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        what = " ".join(str(error).split())[:200]
        raise InputError(
            f"--model {name}: {type(error).__name__}: {what} ({Path(frame.filename).name}, line {frame.lineno})"
        ) from error


def _checked(name: str, module: Any) -> SequenceModel:
    """What the factory made, if it is a sequence model."""
    if not isinstance(module, nn.Module):
        raise InputError(f"--model {name}: made a {type(module).__name__}; expected a torch.nn.Module")
    members = ("config", "max_length", "width", "item_table", "item_bias", "hidden_states", "encode")
    missing = [member for member in members if not hasattr(module, member)]
    if missing:
        raise InputError(
            f"--model {name}: {type(module).__name__} has no {', '.join(missing)}; "
            "expected what docs/your-own-model.md lists"
        )
    model = cast(SequenceModel, module)
    if not dataclasses.is_dataclass(model.config):
        raise InputError(
            f"--model {name}: config is a {type(model.config).__name__}; expected a frozen dataclass of plain values"
        )
    table = dict(module.named_parameters(recurse=False)).get("item_table")
    if table is None or tuple(table.shape) != (len(table), model.width):
        got = "no parameter" if table is None else f"of shape {tuple(table.shape)}"
        raise InputError(
            f"--model {name}: item_table is {got}; expected an nn.Parameter of the module itself, (items, {model.width})"
        )
    return model


def _load(name: str, checkpoint: Checkpoint, module: nn.Module) -> None:
    """The checkpoint's tensors into the module, all of them and nothing else."""
    for key, tensor in checkpoint.tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise InputError(
                f"{checkpoint.path}: {key} has values that are NaN or infinite; the training diverged"
            )
    given = dict[str, Tensor](checkpoint.tensors)
    try:
        result = module.load_state_dict(given, strict=False)
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if "size mismatch" in line] or [str(error)]
        raise InputError(
            f"{checkpoint.path}: does not fit --model {name}: {' '.join(lines[0].split())[:300]}"
        ) from error
    for what, keys in (
        ("misses", result.missing_keys),
        ("has, and the model does not,", result.unexpected_keys),
    ):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise InputError(f"{checkpoint.path}: {what} {', '.join(keys[:3])}{more} of --model {name}")


def _check_encoding(name: str, model: SequenceModel) -> None:
    """`encode` gives a user vector, and `hidden_states` the same at the last item."""
    n = max(1, min(3, model.max_length))
    rows = torch.arange(2 * n).reshape(2, n) % len(model.item_table)
    with torch.no_grad():
        vectors = model.item_table[rows]
        users: Any = _run_own(name, lambda: model.encode(vectors))
        states: Any = _run_own(name, lambda: model.hidden_states(vectors, torch.full((2,), n)))
    for what, got, expected in (
        ("encode", users, (2, model.width)),
        ("hidden_states", states, (2, n, model.width)),
    ):
        if not isinstance(got, Tensor) or tuple(got.shape) != expected or not bool(got.isfinite().all()):
            shape = f"of shape {tuple(got.shape)}" if isinstance(got, Tensor) else type(got).__name__
            raise InputError(
                f"--model {name}: {what} of {tuple(vectors.shape)} gave {shape}; expected finite numbers, {expected}"
            )
    difference = float((states[:, -1] - users).abs().max() / users.abs().max().clamp(min=1e-12))
    if difference > AGREEMENT:
        raise InputError(
            f"--model {name}: hidden_states at the last item and encode differ by {difference:.1%}; "
            "expected the same user vector (is it in eval mode, without dropout?)"
        )
