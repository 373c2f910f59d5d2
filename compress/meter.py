"""How good and how large a model is at any point of the road, measured as the device would run it.

Every figure that a step reports comes from one way: export the model as a bundle, open it with the runtime, rank the
validation items with the one evaluator in `benchmarks`. While a student trains, `validate` ranks with torch instead,
its table rounded as it will be; the same evaluator, without the export.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from ..benchmarks.evaluate import EngineScorer, Ranking, evaluate_ranks
from ..benchmarks.progress import Track, untracked
from ..benchmarks.protocols import Split
from ..benchmarks.ranking_metrics import per_user
from ..export.bundle_writer import BundleContent, export_bundle
from ..export.encoder_graph import export_encoder
from ..export.encoder_int8 import EncoderForm, form_of, quantize_encoder
from ..export.encoder_static import CALIBRATED_HISTORIES, Ranges, activation_ranges
from ..export.encoder_timing import faster_encoders, graph_times, pooled_times
from ..runtime.engine import Engine
from ..runtime.item_ids import ItemIds
from ..runtime.item_table import FloatRows, ItemTable
from ..runtime.pooled_encoder import PooledWeights
from .budget import RANKING_METRIC, metric_title
from .fake_quantize import table_quantizer
from .models.pooled import Pooled, pooled_weights
from .models.protocol import SequenceModel
from .models.sasrec import with_merged_heads
from .prior_user import fit_prior_user
from .report import Measure
from .rounding_for_users import round_for_users, user_moments
from .table_form import TableForm, store_table

VERIFIED_HISTORIES = 32


class Meter:
    """Exports drafts into a folder and measures them on the validation items."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        item_ids: ItemIds,
        validation: Split,
        item_counts: NDArray[np.int64],
        keep_repeats: bool,
        for_users: bool = False,
        metric: str = RANKING_METRIC,
        track: Track = untracked,
    ) -> None:
        """`for_users`: tables are rounded so that scores stay (`rounding_for_users`), which a model that learned around
        the nearest levels gains nothing from. `metric`: what validation chooses by, as `ranking_metrics` names it."""
        self.folder = folder
        self.name = name
        self.item_ids = item_ids
        self.validation = validation
        self.item_counts = item_counts
        self.keep_repeats = keep_repeats
        self.for_users = for_users
        self.metric = metric
        self.track = track
        self._traced: tuple[SequenceModel, onnx.ModelProto | PooledWeights] | None = None
        self._calibrated: tuple[SequenceModel, Ranges] | None = None
        self._moments: tuple[SequenceModel, NDArray[np.float64]] | None = None

    def export(
        self,
        draft: str,
        model: SequenceModel,
        *,
        bits: TableForm | None,
        form: EncoderForm,
        manifest: Mapping[str, Any],
    ) -> Path:
        """Export and verify a draft; `bits` may be tiers, and None stores the table in float32.

        A model must not change between two exports of it: its encoder is traced once.
        """
        values = np.ascontiguousarray(model.item_table.detach().numpy())
        table: ItemTable = FloatRows(values) if bits is None else self._quantized(model, values, bits)
        restored = table.lookup(np.arange(table.n_items))
        path = self.folder / f"{draft}.pocket"
        graph = self._trace(model)
        content = BundleContent(
            name=self.name,
            encoder=_Encoder(model),
            encoder_graph=graph,
            encoder_ranges=self._ranges(model, graph) if form == "int8-static" else None,
            max_length=model.max_length,
            table=table,
            item_ids=self.item_ids,
            prior_user=fit_prior_user(restored, self.item_counts),
            encoder_form=form,
            manifest=manifest,
        )
        step = max(1, len(self.validation.histories) // VERIFIED_HISTORIES)
        export_bundle(path, content, self.validation.histories[::step][:VERIFIED_HISTORIES], overwrite=True)
        return path

    def _quantized(self, model: SequenceModel, values: NDArray[np.float32], bits: TableForm) -> ItemTable:
        if not self.for_users:
            return store_table(values, bits)
        if self._moments is None or self._moments[0] is not model:
            self._moments = model, user_moments(model, self.validation.histories, seed=0)
        moments = self._moments[1]
        return store_table(values, bits, lambda rows, n_bits: round_for_users(rows, n_bits, moments))

    def faster_forms(
        self, model: SequenceModel, bits: int, seed: int
    ) -> tuple[list[EncoderForm], dict[str, float]]:
        """Forms in `bits` bits, the fastest first on histories of the validation users; see `export.encoder_timing`. What
        numpy runs has one form, timed beside the graph that it replaces."""
        lengths = [min(len(history), model.max_length) for history in self.validation.histories]
        traced = self._trace(model)
        if isinstance(traced, PooledWeights):
            form = form_of(bits, "float32")
            return [form], pooled_times(traced, self._graph(model), form, lengths=lengths, seed=seed)
        ranges = self._ranges(model, traced) if bits == 8 else None
        return faster_encoders(
            traced, width=model.width, lengths=lengths, bits=bits, seed=seed, ranges=ranges
        )

    def form_times(
        self, model: SequenceModel, forms: Sequence[EncoderForm], seed: int, *, longest: bool = False
    ) -> dict[EncoderForm, float]:
        """Median times of forms of a graph, in microseconds, on histories of the validation users or on the longest."""
        graph = self._trace(model)
        if isinstance(graph, PooledWeights):
            raise ValueError("an encoder without a graph has one form; see faster_forms")
        ranges = self._ranges(model, graph)
        graphs: dict[EncoderForm, onnx.ModelProto] = {
            form: graph if form == "float32" else quantize_encoder(graph, form, ranges) for form in forms
        }
        lengths = (
            [model.max_length]
            if longest
            else [min(len(h), model.max_length) for h in self.validation.histories]
        )
        return graph_times(graphs, width=model.width, lengths=lengths, seed=seed)

    def encode_us(self, models: Mapping[str, SequenceModel], seed: int) -> dict[str, float]:
        """Median times of float encoders of one width as graphs, on histories of the validation users, by name."""
        first = next(iter(models.values()))
        lengths = [min(len(history), first.max_length) for history in self.validation.histories]
        graphs = {name: self._graph(model) for name, model in models.items()}
        return graph_times(graphs, width=first.width, lengths=lengths, seed=seed)

    def _trace(self, model: SequenceModel) -> onnx.ModelProto | PooledWeights:
        """The float encoder; most steps change the table or the rounding alone, and tracing takes seconds."""
        if self._traced is None or self._traced[0] is not model:
            self._traced = model, pooled_weights(model) if isinstance(model, Pooled) else self._graph(model)
        return self._traced[1]

    def _ranges(self, model: SequenceModel, graph: onnx.ModelProto | PooledWeights) -> Ranges | None:
        """Of its activations, over histories of validation users without the item that is asked for."""
        if isinstance(graph, PooledWeights):
            return None
        if self._calibrated is None or self._calibrated[0] is not model:
            table, histories = model.item_table.detach().numpy(), self.validation.histories
            step = max(1, len(histories) // CALIBRATED_HISTORIES)
            calls = [
                {"history": table[history[None, -model.max_length :]]}
                for history in histories[::step][:CALIBRATED_HISTORIES]
            ]
            self._calibrated = model, activation_ranges(graph, calls)
        return self._calibrated[1]

    @staticmethod
    def _graph(model: SequenceModel) -> onnx.ModelProto:
        return export_encoder(
            with_merged_heads(_Encoder(model)), width=model.width, max_length=model.max_length
        )

    def measure(
        self,
        draft: str,
        model: SequenceModel,
        *,
        bits: TableForm | None = None,
        form: EncoderForm = "float32",
    ) -> Measure:
        """What the model would be if it were deployed now."""
        return self.measure_users(draft, model, bits=bits, form=form)[0]

    def measure_users(
        self, draft: str, model: SequenceModel, *, bits: TableForm | None, form: EncoderForm
    ) -> tuple[Measure, NDArray[np.float64]]:
        """The same, and the metric of each validation user: (U,)."""
        path = self.export(draft, model, bits=bits, form=form, manifest={})
        measured = self.measure_bundle(path, model, f"measure {draft}")
        path.unlink()
        return measured

    def measure_bundle(
        self, path: Path, model: SequenceModel, title: str = "measure teacher"
    ) -> tuple[Measure, NDArray[np.float64]]:
        """Of a draft that is there, and the metric of each validation user, through the runtime: (U,)."""
        ranks = self.rank(path, self.validation, title).ranks
        parameters = sum(p.numel() for p in model.parameters())  # type: ignore[attr-defined]
        return ranking_measure(path, parameters, ranks, self.metric), per_user(ranks, self.metric)

    def rank(self, path: Path, split: Split, title: str, *, n_top: int = 0) -> Ranking:
        """Rank a split with a bundle through the runtime."""
        scorer = EngineScorer(Engine.load(path, verify=False))
        with self.track(title, len(split.targets)) as advance:
            return evaluate_ranks(
                scorer, split, keep_repeats=self.keep_repeats, n_top=n_top, progress=advance
            )

    def validate(self, model: SequenceModel, bits: TableForm | None) -> float:
        """The metric of a model in training, on the validation items."""
        ranking = evaluate_ranks(
            TorchScorer(model, bits), self.validation, keep_repeats=self.keep_repeats, n_top=0
        )
        return float(per_user(ranking.ranks, self.metric).mean())


def ranking_measure(path: Path, parameters: int, ranks: NDArray[np.int64], metric: str) -> Measure:
    """Of a bundle and the ranks of its validation items (U,)."""
    other = (
        None if metric == RANKING_METRIC else (metric_title(metric), float(per_user(ranks, metric).mean()))
    )
    ndcg10 = float(per_user(ranks, RANKING_METRIC).mean())
    return Measure(size_bytes=path.stat().st_size, parameters=parameters, ndcg10=ndcg10, other=other)


class TorchScorer:
    """The `Scorer` of a torch model, its table rounded to `bits` bits, or in tiers."""

    def __init__(self, model: SequenceModel, bits: TableForm | None = None) -> None:
        self.model = model
        self.n_items, self.max_length = len(model.item_table), model.max_length
        with torch.no_grad():
            self.table = table_quantizer(self.n_items, bits)(model.item_table)

    def __call__(self, histories: NDArray[np.int64]) -> NDArray[np.float32]:
        """int64 (B, n) -> float32 (B, N)."""
        with torch.no_grad():
            users = self.model.encode(F.embedding(torch.from_numpy(histories), self.table))
            scores = users @ self.table.T
            return (scores if self.model.item_bias is None else scores + self.model.item_bias).numpy()


class _Encoder(nn.Module):
    """The part of a model that is exported: `encode`, without the item table among the parameters."""

    def __init__(self, model: SequenceModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, history: torch.Tensor) -> torch.Tensor:
        return self.model.encode(history)
