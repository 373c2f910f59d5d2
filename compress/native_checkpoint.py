"""pocketrec's own checkpoint: a safetensors file with everything that loading needs, and nothing that runs.

Tensors are the model's parameters under their own names, float32. The metadata are one string, `pocketrec` (several
would be written in a random order, and the same model should be the same file): JSON with

    format_version  1
    architecture    a name in `ARCHITECTURES`
    config          the fields of the architecture's config
    item_ids        {"first": 1, "count": N} for consecutive integers, else {"ids": [...]} in the order of rows
    training        whatever the trainer wants remembered (data, seed, metrics)

Not promised: that a newer pocketrec's files open in an older one; they are refused by their version.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from ..runtime.atomic_file import write_atomically
from ..runtime.errors import InputError
from ..runtime.item_ids import ItemIds
from .checkpoint import Checkpoint
from .models.bert4rec import BERT4Rec, BERT4RecConfig
from .models.caser import Caser, CaserConfig
from .models.fold_in import FoldIn, FoldInConfig
from .models.gru4rec import GRU4Rec, GRU4RecConfig
from .models.lightsans import LightSANs, LightSANsConfig
from .models.narm import NARM, NARMConfig
from .models.pmixer_sasrec import PmixerSASRec, PmixerSASRecConfig
from .models.protocol import SequenceModel
from .models.sasrec import SASRec, SASRecConfig

METADATA_KEY = "pocketrec"
FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Architecture:
    """What a name in the metadata stands for."""

    model: type[Any]
    config: type[Any]
    repeated: str | None = "n_layers"
    """The field of the config that says how many modules are made: at most one for each tensor there is."""


ARCHITECTURES: dict[str, Architecture] = {
    "sasrec": Architecture(SASRec, SASRecConfig),
    "pmixer-sasrec": Architecture(PmixerSASRec, PmixerSASRecConfig),
    "bert4rec": Architecture(BERT4Rec, BERT4RecConfig),
    "gru4rec": Architecture(GRU4Rec, GRU4RecConfig),
    "narm": Architecture(NARM, NARMConfig),
    "caser": Architecture(Caser, CaserConfig, "max_length"),  # kernels of every height
    "lightsans": Architecture(LightSANs, LightSANsConfig),
    "fold-in": Architecture(FoldIn, FoldInConfig, None),
}


def save_checkpoint(
    path: str | PathLike[str],
    model: SequenceModel,
    item_ids: ItemIds,
    *,
    training: Mapping[str, Any] | None = None,
    overwrite: bool = True,
) -> int:
    """Writes the model, atomically; returns the file's size in bytes. `load_teacher` reads it.

    Raises:
        InputError: the model is of no architecture in `ARCHITECTURES`, or has another number of items than ids.
        OSError: the path cannot be written.
    """
    from safetensors.torch import save

    architecture = next((name for name, known in ARCHITECTURES.items() if type(model) is known.model), None)
    if architecture is None or not isinstance(model, torch.nn.Module):
        raise InputError(
            f"{type(model).__name__}: cannot be saved; expected one of {', '.join(ARCHITECTURES)}"
        )
    if len(item_ids) != len(model.item_table):
        raise InputError(
            f"{path}: {len(item_ids)} item ids for {len(model.item_table)} items; expected one for each"
        )
    metadata = metadata_of(architecture, dataclasses.asdict(model.config), item_ids, training)
    tensors = {
        name: t.detach().to("cpu", torch.float32).contiguous() for name, t in model.state_dict().items()
    }
    return write_atomically(Path(path), [save(tensors, metadata)], overwrite=overwrite)


def metadata_of(
    architecture: str, config: Mapping[str, Any], item_ids: ItemIds, training: Mapping[str, Any] | None
) -> dict[str, str]:
    """The metadata of a file."""
    if item_ids.kind == "range":
        ids = {"first": item_ids.ids([0])[0], "count": len(item_ids)}
    else:
        ids = {"ids": item_ids.ids(range(len(item_ids)))}
    document = {
        "format_version": FORMAT_VERSION,
        "architecture": architecture,
        "config": dict(config),
        "item_ids": ids,
        "training": dict(training or {}),
    }
    return {METADATA_KEY: json.dumps(document)}


def config_and_ids(checkpoint: Checkpoint) -> tuple[type[Any], Any, ItemIds]:
    """What the metadata say; the config's sizes are not compared with the tensors yet, the ids' number is.

    Raises:
        InputError: the metadata are missing, of a newer version, or make no sense.
    """
    path, document = checkpoint.path, read_metadata(checkpoint)
    name = document.get("architecture")
    architecture = ARCHITECTURES.get(name) if isinstance(name, str) else None
    if architecture is None:
        raise InputError(f"{path}: architecture {name!r:.60}; expected one of {', '.join(ARCHITECTURES)}")
    fields = _part(checkpoint, document, "config")
    unknown = sorted(fields.keys() - {f.name for f in dataclasses.fields(architecture.config)})
    if unknown:
        raise InputError(
            f"{path}: config has an unknown field {unknown[0]!r:.60}; is it from a newer pocketrec?"
        )
    repeated = architecture.repeated
    if repeated is not None and fields.get(repeated, 0) not in range(1, len(checkpoint.tensors) + 1):
        what = repeated.removeprefix("n_")
        raise InputError(
            f"{path}: config says {fields.get(repeated)!r:.20} {what} in {len(checkpoint.tensors)} tensors"
        )
    arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    try:
        config = architecture.config(**arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: config: {error}") from error
    table = checkpoint.tensors.get("item_table")
    n_items = 0 if table is None or not table.dim() else len(table)
    return architecture.model, config, item_ids_in(checkpoint, document, n_items)


def item_ids_in(checkpoint: Checkpoint, document: dict[str, Any], n_items: int) -> ItemIds:
    """The ids of `n_items` rows; raises `InputError` where the metadata number others."""
    match _part(checkpoint, document, "item_ids"):
        case {"first": int(first), "count": int(count)} if count == n_items > 0:
            return ItemIds.from_sequence(range(first, first + count))
        case {"ids": list(listed)} if len(listed) == n_items > 0:
            return ItemIds.from_sequence(listed)
        case _:
            raise InputError(
                f"{checkpoint.path}: item ids do not number the {n_items} items; save it with pocketrec again"
            )


def read_metadata(checkpoint: Checkpoint) -> dict[str, Any]:
    """The JSON document in the file's metadata, unchecked beyond its version."""
    try:
        document = json.loads(checkpoint.metadata.get(METADATA_KEY, ""))
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise InputError(
            f"{checkpoint.path}: pocketrec's tensors without its metadata; save it with pocketrec again"
        )
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        raise InputError(
            f"{checkpoint.path}: checkpoint format {version!r:.20}, this pocketrec reads {FORMAT_VERSION}; upgrade pocketrec"
        )
    return document


def _part(checkpoint: Checkpoint, document: dict[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name)
    if not isinstance(value, dict):
        raise InputError(f"{checkpoint.path}: its metadata have no {name}; save it with pocketrec again")
    return value
