"""How good and how large a pointwise model is at any point of the road, measured as the device would run it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from ..benchmarks.label_metrics import auc, log_loss
from ..benchmarks.labelled_rows import LabelledRows, LabelledSplits
from ..export.encoder_int8 import EncoderForm
from ..export.encoder_timing import faster_forms
from ..export.pointwise_bundle import PointwiseContent, export_pointwise_bundle
from ..export.pointwise_graph import PointwiseGraph, export_pointwise
from ..runtime.field_tables import TableLayout
from ..runtime.item_features import ItemFeatures
from ..runtime.item_table import FloatRows, ItemTable, quantize_rows
from ..runtime.pointwise_engine import PointwiseEngine
from .models.pointwise_protocol import PointwiseModel
from .pointwise_spec import PointwiseSpec
from .report import LOG_LOSS, Measure

VERIFIED_ROWS = 256
TIMED_CANDIDATES = 100


class PointwiseMeter:
    """Exports drafts into a folder and measures them on the validation rows."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        spec: PointwiseSpec,
        data: LabelledSplits,
        metric: Literal["auc", "logloss"] = "auc",
    ) -> None:
        """`metric`: what validation chooses by."""
        self.metric: Literal["auc", "logloss"] = metric
        self.folder = folder
        self.name = name
        self.spec = spec
        self.data = data
        self.item_features = ItemFeatures(data.item_features) if data.item_features else None
        self._traced: tuple[PointwiseModel, PointwiseGraph, onnx.ModelProto] | None = None

    def export(
        self,
        draft: str,
        model: PointwiseModel,
        *,
        bits: int | None,
        form: EncoderForm,
        manifest: Mapping[str, Any],
    ) -> Path:
        """Export and verify a draft; bits=None stores the tables in float32."""
        path = self.folder / f"{draft}.pocket"
        layout = layout_of(model)
        content = PointwiseContent(
            name=self.name, network=model, schema=model.schema, layout=layout, tables=stored_tables(model, layout, bits),
            vocabularies=self.spec.vocabularies, threshold=self.spec.threshold, rows_in_data=self.spec.rows_in_data,
            item=self.spec.item, user=self.spec.user, item_features=self.item_features, form=form,
            manifest={"split": self.data.described["split"], **manifest}, graph=self._trace(model)[1],
        )  # fmt: skip
        step = max(1, len(self.data.valid) // VERIFIED_ROWS)
        rows = self.data.valid.take(np.arange(0, len(self.data.valid), step)[:VERIFIED_ROWS])
        export_pointwise_bundle(path, content, rows.columns, len(rows))
        return path

    def measure(
        self, draft: str, model: PointwiseModel, *, bits: int | None = None, form: EncoderForm = "float32"
    ) -> Measure:
        """What the model would be if it were deployed now."""
        path = self.export(draft, model, bits=bits, form=form, manifest={})
        measure = self.measure_bundle(path, model)
        path.unlink()
        return measure

    def measure_bundle(self, path: Path, model: PointwiseModel) -> Measure:
        """Of a draft that is there."""
        parameters = sum(p.numel() for p in model.parameters())  # type: ignore[attr-defined]
        labels, logits = self.data.valid.labels, bundle_logits(path, self.data.valid)
        other = (LOG_LOSS, log_loss(labels, logits)) if self.metric == "logloss" else None
        return Measure(
            size_bytes=path.stat().st_size, parameters=parameters, auc=auc(labels, logits), other=other
        )

    def faster_form(
        self, model: PointwiseModel, bits: int, seed: int
    ) -> tuple[EncoderForm, dict[str, float]]:
        """The form in `bits` bits that is faster for a list of candidates; see `export.encoder_timing`."""
        network, graph = self._trace(model)
        columns = self.data.valid.columns
        lengths = [
            int(n) for name in columns if columns[name].ndim == 2 for n in (columns[name] > 0).sum(1)
        ] or [1]

        def draw(random: np.random.Generator) -> dict[str, NDArray[Any]]:
            length = max(1, int(random.choice(lengths)))
            return network.example(TIMED_CANDIDATES, length, seed=int(random.integers(1 << 31)))

        forms, times = faster_forms(graph, draw, bits=bits, seed=seed)
        return forms[0], times

    def _trace(self, model: PointwiseModel) -> tuple[PointwiseGraph, onnx.ModelProto]:
        """The float graph of the network; rounding tables does not change it, and tracing takes seconds."""
        if self._traced is None or self._traced[0] is not model:
            network = PointwiseGraph(model, model.schema, layout_of(model))
            self._traced = model, network, export_pointwise(network)
        return self._traced[1], self._traced[2]


def layout_of(model: PointwiseModel) -> TableLayout:
    """How the model's tables are stored."""
    shapes = {name: (table.shape[0], table.shape[1]) for name, table in model.tables.items()}
    return TableLayout.of(model.schema, shapes, [(lookup.table, lookup.field) for lookup in model.lookups])


def stored_tables(model: PointwiseModel, layout: TableLayout, bits: int | None) -> tuple[ItemTable, ...]:
    """One table a group, in `bits` bits; None is float32."""
    tables = list[ItemTable]()
    for group in layout.groups:
        values = np.concatenate([model.tables[name].detach().numpy() for name in group.names])
        tables.append(FloatRows(values) if bits is None else quantize_rows(values, bits))
    return tuple(tables)


def bundle_logits(path: Path, rows: LabelledRows) -> NDArray[np.float32]:
    """Logits of all rows through the runtime: float32 (n,)."""
    return PointwiseEngine.load(path, verify=False).logits(rows.columns, len(rows))
