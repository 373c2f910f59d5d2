"""Write a model as a bundle, and open it again through the runtime before anybody may use it.

`export_bundle` writes a draft and checks it: the engine that will run it on the device must agree with torch on real
histories, and with itself (`verify_bundle`). Only then it gets its name. A caller that wants to measure first exports
to a name of its own and `publish`es the file once everything is good: what carries the final name is complete and
checked.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from ..runtime.atomic_file import write_atomically
from ..runtime.bundle import write_bundle
from ..runtime.codebook_rows import CodebookRows
from ..runtime.engine import Engine
from ..runtime.errors import GateError
from ..runtime.item_ids import ItemIds
from ..runtime.item_table import ItemTable, QuantizedRows
from ..runtime.pooled_encoder import PART, PooledWeights
from ..runtime.tiered_rows import TieredRows
from .encoder_graph import export_encoder
from .encoder_int8 import EncoderForm, describe_form, quantize_encoder
from .encoder_static import Ranges
from .scorer_graph import scorer_graph, scoring_block, scoring_error

FLOAT_TOLERANCE = 1e-4
"""Largest difference of a float32 user vector or score, relative to the largest value: both sum in float32, in another
order; a wrong graph is off by 1e-1 and more."""
INT8_TOP_10_AGREEMENT = 0.7
"""Least mean share of torch's top 10 that an int8 bundle finds again. Rounding reorders near ties (0.85 and more was
seen on every real checkpoint, 0.75 on random weights); a broken kernel or a wrong scale gives under 0.3."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BundleContent:
    """A model on its way into a bundle."""

    name: str
    encoder: nn.Module
    """`forward`: float32 (B, n, D) item vectors -> (B, D) user vectors; D is the table's width."""
    max_length: int
    table: ItemTable
    item_ids: ItemIds
    prior_user: NDArray[np.float32]
    """float32 (D,): the user vector of an empty history."""
    encoder_form: EncoderForm
    manifest: Mapping[str, Any]
    """What else the manifest says: model, recipe, steps, metrics, provenance."""
    encoder_graph: onnx.ModelProto | PooledWeights | None = None
    """What `export_encoder` made of `encoder`, where the caller has it (tracing takes seconds); None makes it. Or weights
    that numpy runs without a graph. It is verified either way."""
    encoder_ranges: Ranges | None = None
    """Of the graph's activations, which the form `int8-static` needs."""


def export_bundle(
    path: str | os.PathLike[str],
    content: BundleContent,
    histories: Sequence[NDArray[np.int64]],
    *,
    overwrite: bool = False,
) -> int:
    """Write `content` to `path`, verified on `histories` (item rows, oldest first); returns its size in bytes.

    Raises:
        GateError: the runtime does not agree with torch; nothing is written, and a file that was there stays.
        FileExistsError, OSError: as `write_bundle`.
    """
    path = Path(path)
    table = content.table
    encoder_parts, encoder = _encoder_parts(content)
    described: dict[str, Any] = table.describe()
    if isinstance(table, QuantizedRows | TieredRows):
        described["block"] = scoring_block(table.width)
    manifest = {
        "name": content.name,
        "family": "sequence",
        "max_length": content.max_length,
        "items": {"count": table.n_items, "ids": content.item_ids.describe()},
        "item_table": described,
        "encoder": encoder,
        **content.manifest,
    }
    parts: dict[str, bytes | NDArray[Any]] = {
        **encoder_parts,
        "prior_user": content.prior_user.astype(np.float32),
        **table.parts(),
    }
    if not isinstance(table, CodebookRows):  # which numpy scores
        parts["scorer.onnx"] = scorer_graph(table).SerializeToString()
    if content.item_ids.kind != "range":
        parts["item_ids"] = content.item_ids.to_bytes()
    with tempfile.TemporaryDirectory(prefix=f".{path.name[:100]}.", dir=path.parent) as folder:
        draft = Path(folder) / "draft.pocket"
        size_bytes = write_bundle(draft, manifest, parts)
        verify_bundle(draft, content, histories)
        publish(draft, path, overwrite=overwrite)
    return size_bytes


def _encoder_parts(content: BundleContent) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The encoder's part in the form that is wanted, and what the manifest says of it."""
    graph, form = content.encoder_graph, content.encoder_form
    if isinstance(graph, PooledWeights):
        part, described = graph.to_part(describe_form(form)["weights"])
        return {PART: part}, described
    if graph is None:
        graph = export_encoder(content.encoder, width=content.table.width, max_length=content.max_length)
    if form != "float32":
        graph = quantize_encoder(graph, form, content.encoder_ranges)
    described, network = dict[str, Any](describe_form(form)), graph.SerializeToString()
    if described["weights"] == "int4":  # of which nodes and names are a tenth, and outer levels are rare
        described["bytes"], network = len(network), zlib.compress(network, 9)
    return {"encoder.onnx": network}, described


def verify_bundle(
    path: str | os.PathLike[str], content: BundleContent, histories: Sequence[NDArray[np.int64]]
) -> dict[str, float]:
    """Run the bundle as a device would and compare with torch, and the two ways to score with each other.

    Returns:
        `vector_error`: largest difference of a user vector, relative; `top_10_agreement`: mean share of the top 10;
        `score_error`: largest difference between catalogue scores (onnxruntime) and candidate scores (numpy), as a
        share of what rounding allows.

    Raises:
        GateError: float32 beyond `FLOAT_TOLERANCE`, int8 below `INT8_TOP_10_AGREEMENT`, or scores beyond rounding.
        ValueError: no histories.
    """
    if not histories:
        raise ValueError(f"{content.name}: no histories to verify the bundle on; give at least one")
    engine = Engine.load(path)
    catalogue = torch.from_numpy(content.table.lookup(np.arange(content.table.n_items)))
    vector_errors: list[float] = []
    score_errors: list[float] = []
    agreements: list[float] = []
    for history in histories:
        rows = history[None, -content.max_length :]
        with torch.no_grad():
            expected = content.encoder(torch.from_numpy(content.table.lookup(rows)))
            best = torch.topk((expected @ catalogue.T)[0], min(10, len(catalogue))).indices.tolist()
        user = engine.encode(rows)
        vector_errors.append(_relative_error(user, expected.numpy()))
        everything = engine.score_all(user)[0]
        found = np.argsort(-everything, kind="stable")[: len(best)]  # of numbers that may not be any
        scores = everything[found]
        agreements.append(len(set(best) & set(found.tolist())) / len(best))
        allowed = scoring_error(content.table, user[0], found) + FLOAT_TOLERANCE * np.abs(scores).max()
        allowed += np.finfo(np.float32).tiny  # a table of zeros
        score_errors.append(float((np.abs(scores - engine.score(user, found[None])[0]) / allowed).max()))
    # numpy's max, unlike Python's, hands a NaN on; and a NaN is not at most anything
    vector_error, score_error = float(np.max(vector_errors)), float(np.max(score_errors))
    agreement = float(np.mean(agreements))
    if content.encoder_form == "float32" and not vector_error <= FLOAT_TOLERANCE:
        raise GateError(
            f"{content.name}: the exported encoder differs from torch by {vector_error:.1e}, at most {FLOAT_TOLERANCE:.0e} is rounding"
        )
    if not np.isfinite(vector_error) or agreement < INT8_TOP_10_AGREEMENT:
        raise GateError(
            f"{content.name}: the bundle finds {agreement:.0%} of torch's top 10 again, expected at least {INT8_TOP_10_AGREEMENT:.0%}; "
            "try a recipe with more bits"
        )
    if not score_error <= 1:
        raise GateError(
            f"{content.name}: the catalogue's scores differ from the candidates' by {score_error:.1f} times what rounding explains"
        )
    return {"vector_error": vector_error, "top_10_agreement": agreement, "score_error": score_error}


def publish(draft: str | os.PathLike[str], path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Give a finished draft its final name, atomically, also where that is in another file system.

    Raises:
        FileExistsError: `path` exists and `overwrite` is false.
        OSError: the folder cannot be written, or the disk is full.
    """
    try:
        if overwrite:
            os.replace(draft, path)
        else:
            os.link(draft, path)  # fails where `path` exists, unlike a rename
            os.unlink(draft)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with open(draft, "rb") as file:
            write_atomically(path, iter(lambda: file.read(1 << 20), b""), overwrite=overwrite)
        os.unlink(draft)


def _relative_error(got: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.abs(got - expected).max() / max(float(np.abs(expected).max()), 1e-12))
