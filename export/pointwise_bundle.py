"""Write a pointwise model as a bundle, and open it again through the runtime before anybody may use it.

The runtime looks the rows up, joins them and runs the graph; what it finds must be torch's logits on the same (rounded)
vectors: the same numbers where the network is in float32, the same order but for rounding where it is in int8.
"""

from __future__ import annotations

import dataclasses
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from ..runtime.bundle import write_bundle
from ..runtime.errors import GateError
from ..runtime.features import FeatureSchema
from ..runtime.field_tables import TableLayout, table_parts
from ..runtime.item_features import ItemFeatures
from ..runtime.item_ids import ItemIds
from ..runtime.item_table import ItemTable
from ..runtime.pointwise_engine import PointwiseEngine
from ..runtime.vocabularies import pack_vocabularies
from .bundle_writer import FLOAT_TOLERANCE, publish
from .encoder_int8 import EncoderForm, describe_form, quantize_encoder
from .pointwise_graph import Network, PointwiseGraph, export_pointwise

INT8_CORRELATION = 0.95
"""Least correlation of an int8 network's logits with torch's. Rounding gave .998 and more on every real checkpoint; a
broken kernel or a wrong scale gives under .5."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PointwiseContent:
    """A pointwise model on its way into a bundle."""

    name: str
    network: Network
    """Its `logits`, without the tables."""
    schema: FeatureSchema
    layout: TableLayout
    tables: tuple[ItemTable, ...]
    """One for each group of the layout."""
    vocabularies: Mapping[str, ItemIds]
    """By token and token_seq field."""
    threshold: float | None
    rows_in_data: bool
    item: str | None
    user: str | None
    """The fields that hold the ids."""
    item_features: ItemFeatures | None
    form: EncoderForm
    manifest: Mapping[str, Any]
    """What else the manifest says: model, recipe, steps, metrics, provenance."""
    graph: onnx.ModelProto | None = None
    """What `export_pointwise` made of the network, where the caller has it; it is verified either way."""


def export_pointwise_bundle(
    path: Path,
    content: PointwiseContent,
    rows: Mapping[str, NDArray[Any]],
    n_rows: int,
    *,
    overwrite: bool = False,
) -> int:
    """Write `content` to `path`, verified on n encoded rows; returns its size in bytes.

    Raises:
        GateError: the runtime does not agree with torch; nothing is written, and a file that was there stays.
        FileExistsError, OSError: as `write_bundle`.
    """
    graph = content.graph
    if graph is None:
        graph = export_pointwise(PointwiseGraph(content.network, content.schema, content.layout))
    if content.form != "float32":
        graph = quantize_encoder(graph, content.form)
    network = graph.SerializeToString()
    vocabularies, described_vocabularies = pack_vocabularies(content.vocabularies)
    named = {"threshold": content.threshold, "item": content.item, "user": content.user}
    manifest: dict[str, Any] = {
        "name": content.name,
        "family": "pointwise",
        "features": {
            **content.schema.to_json(),
            **{name: value for name, value in named.items() if value is not None},
            **({"rows_in_data": True} if content.rows_in_data else {}),
        },
        "field_tables": content.layout.to_json(content.tables),
        "vocabularies": described_vocabularies,
        "network": {
            **describe_form(content.form),
            "bytes": len(network),
        },
        **content.manifest,
    }
    parts: dict[str, bytes | NDArray[Any]] = {
        "scorer.onnx": zlib.compress(network, 9),  # nodes and names are half of a small graph
        **table_parts(content.tables),
        "vocabularies": vocabularies,
    }
    if content.item_features is not None and content.item is not None:
        part, described = content.item_features.pack(content.schema, content.item)
        parts["item_features"], manifest["item_features"] = part, described
    with tempfile.TemporaryDirectory(prefix=f".{path.name[:100]}.", dir=path.parent) as folder:
        draft = Path(folder) / "draft.pocket"
        size_bytes = write_bundle(draft, manifest, parts)
        verify_pointwise(draft, content, rows, n_rows)
        publish(draft, path, overwrite=overwrite)
    return size_bytes


def verify_pointwise(
    path: Path, content: PointwiseContent, rows: Mapping[str, NDArray[Any]], n_rows: int
) -> dict[str, float]:
    """Run the bundle as a device would, all rows in one batch and each user-side value repeated, and compare with torch.

    Returns:
        `logit_error`: largest difference, relative to the largest logit; `correlation` with torch's logits.

    Raises:
        GateError: float32 beyond `FLOAT_TOLERANCE`, int8 below `INT8_CORRELATION`.
        ValueError: no rows.
    """
    if n_rows < 1:
        raise ValueError(f"{content.name}: no rows to verify the bundle on; give at least one")
    expected = reference_logits(content, rows, n_rows)
    found = PointwiseEngine.load(path).logits(rows, n_rows)
    error = float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-12))
    flat = expected.std() < 1e-6 or n_rows < 3
    correlation = 1.0 if flat else float(np.corrcoef(found, expected)[0, 1])
    if content.form == "float32" and not error <= FLOAT_TOLERANCE:
        raise GateError(
            f"{content.name}: the exported network differs from torch by {error:.1e}, at most {FLOAT_TOLERANCE:.0e} is rounding"
        )
    if not np.isfinite(error) or not correlation >= INT8_CORRELATION:
        raise GateError(
            f"{content.name}: the bundle's logits correlate with torch's by {correlation:.3f}, expected at least {INT8_CORRELATION}"
        )
    return {"logit_error": error, "correlation": correlation}


def reference_logits(
    content: PointwiseContent, rows: Mapping[str, NDArray[Any]], n_rows: int
) -> NDArray[np.float32]:
    """The same with torch, look-up by look-up, as the protocol of pointwise models has it: float32 (n,)."""
    group_of = {name: n for n, group in enumerate(content.layout.groups) for name in group.names}
    vectors, lengths = list[torch.Tensor](), list[NDArray[np.int64]]()
    for table, name in content.layout.lookups:
        group = content.layout.groups[group_of[table]]
        first = sum(group.sizes[: group.names.index(table)])
        index = np.broadcast_to(rows[name], (n_rows, *rows[name].shape[1:]))
        found = content.tables[group_of[table]].lookup(index + first)
        if index.ndim == 2:
            known = index > 0
            found = found * known[..., None]
            lengths.append(known.sum(1))
        vectors.append(torch.from_numpy(np.ascontiguousarray(found)))
    numeric: Sequence[NDArray[Any]] = [
        np.broadcast_to(rows[field.name], n_rows) for field in content.schema.of("float")
    ]
    with torch.inference_mode():
        return content.network.logits(
            vectors,
            torch.from_numpy(np.stack(lengths, 1) if lengths else np.zeros((n_rows, 0), np.int64)),
            torch.from_numpy(np.stack(numeric, 1) if numeric else np.zeros((n_rows, 0), np.float32)),
        ).numpy()
