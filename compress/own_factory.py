"""The user's own code: found by the name that they gave, run, and its failures told in one line.

`package.module:factory` is imported from their Python path or the current folder because they asked for it by name. The
factory is called

    factory()                 or, where it has a parameter of that name,
    factory(shapes=shapes)    with {name: shape} of the checkpoint's tensors, from which it can read its sizes.

The checkpoint stays data, of which nothing is executed. Its tensors are loaded by the module's own `load_state_dict`, so
that its hooks may rename and cut what a training loop saved; every parameter has to be there, in its shape, and every tensor
has to have its place.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from torch import Tensor, nn

from ..runtime.errors import InputError
from .checkpoint import Checkpoint

Result = TypeVar("Result")


def make_own_module(name: str, checkpoint: Checkpoint) -> nn.Module:
    """What the factory makes, the checkpoint's tensors not in it yet.

    Raises:
        InputError: no such factory, its code failed, or what it made is no module.
    """
    make = _find_factory(name)
    shapes = {key: tuple(tensor.shape) for key, tensor in checkpoint.tensors.items()}
    options = {"shapes": shapes} if "shapes" in _parameters(name, make) else {}
    module = run_own(name, lambda: make(**options))
    if not isinstance(module, nn.Module):
        raise InputError(f"--model {name}: made a {type(module).__name__}; expected a torch.nn.Module")
    return module


def _find_factory(name: str) -> Callable[..., Any]:
    """Imports what the user named; their current folder counts as it does for `python -m`."""
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*", name):
        raise InputError(f"--model {name!r:.80}: expected package.module:factory, such as mymodel:make")
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found = run_own(name, lambda: importlib.import_module(module_name))
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


def run_own(name: str, call: Callable[[], Result]) -> Result:
    """Whatever the user's code raises as one line that says where."""
    try:
        return call()
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        what = " ".join(str(error).split())[:200]
        raise InputError(
            f"--model {name}: {type(error).__name__}: {what} ({Path(frame.filename).name}, line {frame.lineno})"
        ) from error


def load_own_weights(name: str, checkpoint: Checkpoint, module: nn.Module) -> None:
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
