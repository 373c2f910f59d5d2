"""The fields of a FuxiCTR data set: `feature_map.json` says what they are, `feature_vocab.json` numbers their tokens.

    feature_map.json     {"labels": ["click"], "features": [{"site_id": {"type": "categorical", "vocab_size": 167}}, ...]}
    feature_vocab.json   {"site_id": {"__PAD__": 0, "354": 1, ..., "__OOV__": 166}, ...}

Their row 0 pads lists and their last row stands for a token that is not in the vocabulary. Ours has no row that pads, and
row 0 is the unknown token: theirs in the order (last, 1, 2, ...). Source: FuxiCTR 2.3, `fuxictr.preprocess`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...runtime.errors import InputError
from ...runtime.item_ids import ItemIds
from ..checkpoint import Checkpoint

MAP, VOCABULARY = "feature_map.json", "feature_vocab.json"
PAD, UNKNOWN = "__PAD__", "__OOV__"
KINDS: Mapping[str, Literal["token", "token_seq", "float"]] = {
    "categorical": "token",
    "sequence": "token_seq",
    "numeric": "float",
}
MEAN = "layers.MaskedAveragePooling()"
"""What FuxiCTR makes of a sequence's vectors by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FuxictrField:
    """One feature."""

    name: str
    kind: Literal["token", "token_seq", "float"]
    side: Literal["user", "item", "context"]
    tokens: tuple[str, ...] = ()
    """In the order of their rows from 1 on; empty for a float."""
    max_length: int = 1
    """Longest list of a token_seq field."""

    @property
    def size(self) -> int:
        """Rows of our table: the unknown token, then the tokens. Theirs has one more, which pads."""
        return len(self.tokens) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FuxictrData:
    """The data set."""

    path: Path
    """Of the feature map."""
    label: str
    fields: Mapping[str, FuxictrField]


def read_fuxictr_data(checkpoint: Checkpoint, data: Path | None) -> FuxictrData:
    """Both files from the checkpoint's folder or else from the folder of the data.

    Raises:
        InputError: they are not there, are not what FuxiCTR writes, or have a feature that is not supported.
    """
    folders = [checkpoint.path.parent, *([] if data is None else [data if data.is_dir() else data.parent])]
    folder = next((folder for folder in folders if (folder / MAP).is_file()), None)
    if folder is None:
        raise InputError(
            f"{checkpoint.path}: no {MAP} beside it{' or beside the data' if data else ''}; FuxiCTR writes it and "
            f"{VOCABULARY} into the folder of the prepared data: give a file of that folder, or copy both here"
        )
    path = folder / MAP
    described, numbered = _read_json(path), _read_json(folder / VOCABULARY)
    labels, features = described.get("labels"), described.get("features")
    match labels, features:
        case [str(label)], list():
            pass
        case _:
            raise InputError(f"{path}: expected one label and a list of features, as FuxiCTR writes them")
    fields: dict[str, FuxictrField] = {}
    for feature in features:
        match feature:
            case dict() if len(feature) == 1:
                ((name, spec),) = feature.items()
            case _:
                raise InputError(f"{path}: a feature is {feature!r:.60}; expected a name and what it is")
        if not isinstance(spec, dict):
            raise InputError(f"{path}: {name} is {spec!r:.60}; expected what it is")
        if spec.get("type") != "meta":
            fields[name] = _field(path, name, spec, numbered.get(name))
    return FuxictrData(path=path, label=label, fields=fields)


def vocabulary(field: FuxictrField) -> ItemIds:
    """The tokens of rows 1 and on: strings, as FuxiCTR keeps them."""
    return ItemIds.from_sequence(field.tokens)


def _field(path: Path, name: str, spec: Mapping[str, Any], numbers: Any) -> FuxictrField:
    kind = KINDS.get(str(spec.get("type")))
    if kind is None:
        raise InputError(
            f"{path}: {name} is of type {spec.get('type')!r:.40}; expected one of {', '.join(KINDS)}"
        )
    side: Literal["user", "item", "context"] = "context"
    match spec.get("source"):
        case "user" | "item" as source:
            side = source
        case _:
            pass
    encoder = spec.get("feature_encoder")
    if encoder not in ((MEAN,) if kind == "token_seq" else (None,)):
        raise InputError(f"{path}: {name} has feature_encoder {encoder!r:.60}; expected the default")
    if kind == "float":
        return FuxictrField(name=name, kind=kind, side=side)
    length = spec.get("max_len", 1)
    if type(length) is not int or length < 1:
        raise InputError(f"{path}: {name} has max_len {length!r:.40}; expected a number of at least 1")
    tokens = _tokens(path.with_name(VOCABULARY), name, numbers, spec.get("vocab_size"))
    return FuxictrField(name=name, kind=kind, side=side, tokens=tokens, max_length=length)


def _tokens(path: Path, name: str, numbers: Any, size: Any) -> tuple[str, ...]:
    """The tokens of rows 1 to size - 2."""
    if not isinstance(numbers, dict) or not all(type(row) is int for row in numbers.values()):
        raise InputError(f"{path}: {name} is {numbers!r:.40}; expected tokens and their rows")
    if len(numbers) != size:
        raise InputError(f"{path}: {name} has {len(numbers)} tokens, {MAP} says vocab_size {size!r:.40}")
    tokens = sorted(numbers, key=numbers.__getitem__)
    if [numbers[token] for token in tokens] != list(range(len(tokens))) or len(tokens) < 3:
        raise InputError(
            f"{path}: the rows of {name} are not 0 to {len(tokens) - 1}; expected one row a token"
        )
    if (tokens[0], tokens[-1]) != (PAD, UNKNOWN):
        raise InputError(
            f"{path}: {name} has {tokens[0]!r:.40} first and {tokens[-1]!r:.40} last; expected {PAD} and {UNKNOWN}"
        )
    return tuple(tokens[1:-1])


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; FuxiCTR writes it beside {MAP}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no JSON ({' '.join(str(error).split())[:80]})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds a {type(value).__name__}; expected a JSON object")
    return value
