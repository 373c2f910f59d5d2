"""A checkpoint file as tensors and settings, without running anything that is in it.

What is read: `torch.save` files of either container holding a state dict, or a trainer's dict with one inside (and
its settings, such as RecBole's pickled `Config`), or a whole pickled module; and safetensors files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from ..runtime.errors import InputError
from .inert_unpickler import Inert, Name, StoredTensor
from .pickled_arrays import pickled_tensors
from .torch_file import Materialize, is_torch_file, open_torch_file

STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model", "net", "module")
"""Where trainers keep the weights: RecBole and Lightning `state_dict`, most loops the others."""
OTHER_PARAMETER = "other_parameter"
"""Where RecBole keeps what a model has beside its state dict: LightGCN's averaged vectors, the matrix of EASE."""
SETTINGS_KEYS = ("config", "hyper_parameters", "args", "hparams", "settings")
MAX_SAFETENSORS_HEADER = 100_000_000
"""Bytes: the limit of the safetensors format itself."""
MAX_NAME = 300
"""Characters of a tensor's name."""
MAX_SETTINGS = 10_000
"""Values: shared references could otherwise unfold without end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a file holds, as plain data."""

    path: Path
    sha256: str
    """Of the file, hexadecimal."""
    size_bytes: int
    """Of the file, with optimizer state and whatever else is in it."""
    tensors: dict[str, Tensor]
    """The model's state dict, on the CPU, in the types of the file; RecBole's others are `other_parameter.NAME`."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Numbers, strings, lists and dicts only; empty where the file says nothing."""
    metadata: dict[str, str] = field(default_factory=dict)
    """Of a safetensors file."""
    extra: tuple[str, ...] = ()
    """What else the file holds, by name: not read."""

    @property
    def weights_bytes(self) -> int:
        """Bytes of the state dict as the file stores it, each storage range counted once."""
        distinct = {
            (t.untyped_storage().data_ptr(), t.storage_offset(), t.shape): t.nbytes
            for name, t in self.tensors.items()
            if not name.startswith(f"{OTHER_PARAMETER}.")
        }
        return sum(distinct.values())


def read_checkpoint(path: str | PathLike[str]) -> Checkpoint:
    """Reads a file of any kind that is known.

    Raises:
        InputError: missing, not a checkpoint, truncated, damaged, or without weights.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(32)
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size_bytes = file.tell()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a checkpoint") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a directory; expected a checkpoint file inside it") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not head:
        raise InputError(f"{path}: an empty file; expected a checkpoint")
    common: dict[str, Any] = {"path": path, "sha256": sha256, "size_bytes": size_bytes}
    if is_torch_file(head):
        return _from_torch(path, common)
    if head[8:9] == b"{":
        return _from_safetensors(path, int.from_bytes(head[:8], "little"), common)
    if size_bytes < 32:
        raise InputError(f"{path}: {size_bytes} bytes, too few for a checkpoint; is the file truncated?")
    raise InputError(f"{path}: {_kind(head)}; expected a checkpoint saved by torch.save or as safetensors")


def _kind(head: bytes) -> str:
    if head.startswith(b"\x80"):
        return "a bare pickle, not torch's format"
    if all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return f"a text file that begins with {head[:20].decode('utf-8', 'replace')!r}"
    return f"an unknown format that begins with bytes {head[:8].hex(' ')}"


def _from_torch(path: Path, common: dict[str, Any]) -> Checkpoint:
    with open_torch_file(path) as (root, materialize):
        weights, where = _find_weights(path, root)
        tensors = _tensors(path, weights, materialize)
        settings: dict[str, Any] = {}
        extra: tuple[str, ...] = ()
        if where is not None:
            tensors |= _other_tensors(path, root.get(OTHER_PARAMETER), materialize)
            extra = tuple(_label(key) for key in root if key != where)
            settings = next((s for key in SETTINGS_KEYS if (s := _settings(root.get(key)))), {})
    return Checkpoint(tensors=tensors, settings=settings, extra=extra, **common)


def _find_weights(path: Path, root: Any) -> tuple[Mapping[str, Any], str | None]:
    """The state dict, and under which key of `root` it was (None: `root` is it)."""
    if isinstance(root, Inert):
        return _module_weights(root), None
    if not isinstance(root, dict):
        raise InputError(f"{path}: holds a {type(root).__name__}; expected a state dict of tensors")
    for key in STATE_DICT_KEYS:
        inside = root.get(key)
        if isinstance(inside, Inert):
            inside = _module_weights(inside)
        if isinstance(inside, dict) and any(isinstance(v, StoredTensor) for v in inside.values()):
            return inside, key
    if any(isinstance(value, StoredTensor) for value in root.values()):
        return root, None
    names = ", ".join(map(_label, list(root)[:5])) or "nothing"
    raise InputError(f"{path}: no tensors, neither here ({names}) nor under {', '.join(STATE_DICT_KEYS)}")


def _module_weights(module: Inert, prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """The state dict of a pickled `nn.Module`, from the fields that torch keeps in every module."""
    found: dict[str, Any] = {}
    if isinstance(module.state, dict) and depth < 32:
        for fields in ("_parameters", "_buffers"):
            own = module.state.get(fields)
            if isinstance(own, dict):
                found |= {
                    f"{prefix}{name}": value for name, value in own.items() if isinstance(value, StoredTensor)
                }
        inner = module.state.get("_modules")
        for name, child in inner.items() if isinstance(inner, dict) else ():
            if isinstance(child, Inert):
                found |= _module_weights(child, f"{prefix}{name}.", depth + 1)
    return found


def _tensors(path: Path, weights: Mapping[str, Any], materialize: Materialize) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for key, value in weights.items():
        if isinstance(value, StoredTensor):
            name = _name(path, key)
            tensors[name] = materialize(name, value)
    if not tensors:
        raise InputError(f"{path}: no tensors in it; expected a state dict")
    return _without_prefix(tensors, "module.")  # nn.DataParallel's


def _other_tensors(path: Path, other: Any, materialize: Materialize) -> dict[str, Tensor]:
    """What `other_parameter` has of tensors, arrays and sparse matrices; the rest is not read."""
    tensors: dict[str, Tensor] = {}
    for key, value in other.items() if isinstance(other, dict) else ():
        name = _name(path, f"{OTHER_PARAMETER}.{key}" if isinstance(key, str) else key)
        if isinstance(value, StoredTensor):
            tensors[name] = materialize(name, value)
        else:
            tensors |= pickled_tensors(name, value)
    return tensors


def _name(path: Path, key: Any) -> str:
    """A tensor's name, which errors and notes print."""
    if not isinstance(key, str) or not key.isprintable() or len(key) > MAX_NAME:
        raise InputError(
            f"{path}: a tensor is named {key!r:.80}; expected at most {MAX_NAME} printable characters"
        )
    return key


def _without_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    if all(name.startswith(prefix) for name in tensors):
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _label(key: Any) -> str:
    return key if isinstance(key, str) and key.isprintable() and len(key) <= 40 else f"{key!r:.40}"


def _settings(config: Any) -> dict[str, Any]:
    """A trainer's settings: a dict, or the fields of an object (argparse's Namespace, RecBole's Config)."""
    if isinstance(config, Inert):
        config = config.state
    if isinstance(config, dict):
        config = config.get("final_config_dict", config)  # RecBole: files, defaults and flags, merged
    return _plain(config, [MAX_SETTINGS]) if isinstance(config, dict) else {}


def _plain(value: Any, budget: list[int], depth: int = 0) -> Any:
    """Numbers, strings, lists and dicts; anything else as its name. `budget` counts down over the whole value."""
    budget[0] -= 1
    if budget[0] < 0 or depth > 8:
        return "..."
    match value:
        case None | bool() | int() | float() | str():
            return value
        case dict():
            items = ((str(key), item) for key, item in value.items() if isinstance(key, str | int | float))
            return {key: _plain(item, budget, depth + 1) for key, item in _at_most(items, budget)}
        case list() | tuple() | set() | frozenset():
            return [_plain(item, budget, depth + 1) for item in _at_most(value, budget)]
        case Inert():
            return str(value.name)
        case Name():
            return str(value)
        case _:
            return type(value).__name__


def _at_most(values: Iterable[Any], budget: list[int]) -> Iterable[Any]:
    for value in values:
        if budget[0] <= 0:
            return
        yield value


def _from_safetensors(path: Path, header_bytes: int, common: dict[str, Any]) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    limit = min(MAX_SAFETENSORS_HEADER, common["size_bytes"] - 8)
    if header_bytes > limit:
        raise InputError(
            f"{path}: a safetensors header of {header_bytes} bytes claimed, expected at most {limit}; "
            "the file is truncated or no safetensors"
        )
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors = {_name(path, name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    except (SafetensorError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: truncated or damaged safetensors ({str(error)[:120]})") from error
    if not tensors:
        raise InputError(f"{path}: no tensors in it; expected a state dict")
    return Checkpoint(tensors=_without_prefix(tensors, "module."), metadata=metadata, **common)
