"""The road of pointwise models: prune -> distill -> tables -> network, each step measured by AUC, the whole gated.

As `pipeline.compress_model`: drafts are measured through the runtime, nothing carries its final name before it is
complete, verified and within its budget, validation chooses, and the test rows are scored once, at the end.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..benchmarks.implicit_rows import describe_ranks, rank_catalogue
from ..benchmarks.label_metrics import compare_logits, label_metrics
from ..benchmarks.labelled_rows import LabelledSplits
from ..benchmarks.progress import Track, untracked
from ..export.encoder_int8 import EncoderForm, form_of
from ..runtime.errors import InputError
from ..runtime.pointwise_engine import PointwiseEngine
from .budget import NO_LIMITS, Budget, label_metric
from .fallback import MOST_GUARDED, ROUNDED_BITS
from .ladder import Rungs
from .layouts import PointwiseTeacher
from .models.pointwise_protocol import PointwiseModel
from .pointwise_distill import distill_pointwise
from .pointwise_forward import looked_up
from .pointwise_meter import PointwiseMeter, bundle_logits
from .pointwise_spec import PointwiseSpec
from .prune_pointwise import PrunePointwiseConfig, mlp_groups, prune_pointwise
from .publication import Compressed, check_destinations, drafts, provenance, rounded
from .recipe import Recipe
from .report import Measure, StepReport, lost
from .rerank_time import rerank_rows_ms
from .road import Built, Outputs, manifest_bytes, take_road

CALIBRATION_ROWS = 8192
"""Training rows whose gradients decide what is pruned."""
CALIBRATION_BATCH = 256


def compress_pointwise(
    teacher: PointwiseTeacher,
    spec: PointwiseSpec,
    data: LabelledSplits,
    recipe: Recipe,
    output: Path,
    *,
    budget: Budget = NO_LIMITS,
    rungs: Rungs = Rungs(),  # noqa: B008 -- it is frozen
    teacher_output: Path | None = None,
    nearest_output: Path | None = None,
    overwrite: bool = False,
    track: Track = untracked,
    say: Callable[[StepReport], object] = lambda report: None,
    note: Callable[[str], object] = lambda line: None,
) -> Compressed:
    """Compress a loaded checkpoint on its labelled rows into the bundle `output`; as `pipeline.compress_model`.

    Raises:
        GateError: the budget is broken, or the runtime does not agree with torch.
        InputError: `output` cannot be written.
        OSError: the disk is full.
    """
    began = time.perf_counter()
    outputs = Outputs(path=output, teacher=teacher_output, nearest=nearest_output, overwrite=overwrite)
    check_destinations(output, teacher_output, nearest_output, overwrite=overwrite)
    with drafts(output) as folder:
        road = PointwiseRoad(
            teacher, spec, data, folder, name=output.name.removesuffix(".pocket"), seed=recipe.seed, budget=budget,
            teacher_name=teacher_output.name.removesuffix(".pocket") if teacher_output else None, track=track, say=say,
        )  # fmt: skip
        built, metrics, size_bytes = take_road(road, recipe, outputs, budget=budget, rungs=rungs, note=note)
    return Compressed(
        path=output, size_bytes=size_bytes, steps=built.steps, metrics=metrics,
        checkpoint_bytes=teacher.source.weights_bytes, seconds=time.perf_counter() - began,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What a bundle is written from."""

    model: PointwiseModel
    bits: int | None
    form: EncoderForm


class PointwiseRoad:
    """See `road.Road`."""

    def __init__(
        self,
        teacher: PointwiseTeacher,
        spec: PointwiseSpec,
        data: LabelledSplits,
        folder: Path,
        *,
        name: str,
        seed: int,
        teacher_name: str | None = None,
        budget: Budget = NO_LIMITS,
        track: Track = untracked,
        say: Callable[[StepReport], object] = lambda report: None,
    ) -> None:
        self.teacher, self.data, self.seed, self.budget, self.track, self.say = (
            teacher.model, data, seed, budget, track, say,
        )  # fmt: skip
        self.meter = PointwiseMeter(folder, name=name, spec=spec, data=data, metric=label_metric(budget))
        self.provenance = provenance(teacher, seed, data.described)
        source = {
            "name": teacher_name or f"{name} teacher",
            "model": describe_pointwise(teacher.model),
            "recipe": None,
            "provenance": self.provenance,
        }
        self.original = self.meter.export(
            "teacher", teacher.model, bits=None, form="float32", manifest=source
        )
        self.before = self.meter.measure_bundle(self.original, teacher.model)

    def build(self, recipe: Recipe) -> Built:
        """See `Road.build`."""
        if recipe.guard is not None and self.budget.max_drop is not None:
            guard = dataclasses.replace(recipe.guard, max_drop=min(self.budget.max_drop, MOST_GUARDED))
            recipe = dataclasses.replace(recipe, guard=guard)
        model, bits, form, steps = _run_steps(
            self.teacher, recipe, self.meter, self.before, self.budget.max_size_bytes, self.track, self.say
        )
        measure = steps[-1].after if steps else self.before
        made = _Made(model=model, bits=bits, form=form)
        built = Built(recipe=recipe, steps=tuple(steps), measure=measure, made=made)
        draft, time_ms = self._export("timed", made, {}), None
        if self.budget.max_latency_ms is not None:
            time_ms = rerank_rows_ms(draft, self.data.valid, seed=self.seed)
        size_bytes = draft.stat().st_size + manifest_bytes(self._manifest(built, {}))
        deployed = dataclasses.replace(measure, size_bytes=size_bytes, rerank_ms=time_ms)
        return dataclasses.replace(built, measure=deployed)

    def test(self, built: Built) -> dict[str, Any]:
        """See `Road.test`."""
        draft, test = self._export("draft", built.made, {}), self.data.test
        metrics = describe_logits(
            test.labels, bundle_logits(draft, test), bundle_logits(self.original, test), self.seed
        )
        if self.data.questions is not None:
            ours, theirs = (
                rank_catalogue(PointwiseEngine.load(path, verify=False), self.data.questions)
                for path in (draft, self.original)
            )
            metrics["catalogue"] = describe_ranks(ours, theirs, self.seed)
        return metrics

    def write(self, built: Built, metrics: dict[str, Any] | None) -> Path:
        """See `Road.write`."""
        return self._export("final", built.made, rounded(self._manifest(built, metrics)))

    def place(self, recipe: Recipe) -> object:
        """See `Road.place`."""
        keep = None if recipe.prune is None else recipe.prune.keep_inner
        return keep, recipe.distill, recipe.table and recipe.table.bits, recipe.encoder, recipe.guard

    def _export(self, draft: str, made: _Made, manifest: dict[str, Any]) -> Path:
        (self.meter.folder / f"{draft}.pocket").unlink(missing_ok=True)
        return self.meter.export(draft, made.model, bits=made.bits, form=made.form, manifest=manifest)

    def _manifest(self, built: Built, metrics: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "model": describe_pointwise(built.made.model),
            "recipe": built.recipe.to_json(),
            "steps": [step.to_json() for step in built.steps],
            **({} if metrics is None else {"metrics": metrics}),
            "provenance": self.provenance,
        }


def _run_steps(
    teacher: PointwiseModel,
    recipe: Recipe,
    meter: PointwiseMeter,
    before: Measure,
    max_bytes: int | None,
    track: Track,
    say: Callable[[StepReport], object],
) -> tuple[PointwiseModel, int | None, EncoderForm, list[StepReport]]:
    """The recipe's steps one after the other; the model, bits of its tables and form of its network."""
    model, steps, data = teacher, list[StepReport](), meter.data
    form: EncoderForm = "float32"
    bits = recipe.table.bits if recipe.table else None

    def report(
        name: str,
        detail: dict[str, Any],
        began: float,
        stored_bits: int | None = None,
        after: Measure | None = None,
    ) -> None:
        previous = steps[-1].after if steps else before
        if "skipped" in detail:
            after = previous
        elif after is None:
            after = meter.measure(name, model, bits=stored_bits, form=form)
        seconds = time.perf_counter() - began
        steps.append(StepReport(name=name, before=previous, after=after, detail=detail, seconds=seconds))
        say(steps[-1])

    if recipe.prune is not None:
        if recipe.prune.rounds > 1:
            raise InputError(
                "prune: rounds are for models of histories; leave them out for a model of features"
            )
        began = time.perf_counter()
        if mlp_groups(cast(Any, model)):
            config = PrunePointwiseConfig(keep_hidden=recipe.prune.keep_inner)
            model, kept = prune_pointwise(model, _calibration(model, meter, recipe.seed), config)
            report("prune", {"kept": {layer: list(units) for layer, units in kept.items()}}, began)
        else:
            report("prune", {"skipped": "the model has no hidden units: its tables are all there is"}, began)
    if recipe.distill is not None:
        began = time.perf_counter()
        model, detail = distill_pointwise(
            model,
            teacher,
            data.train,
            data.valid,
            recipe.distill,
            bits=bits,
            seed=recipe.seed,
            metric=meter.metric,
            track=track,
        )
        report("distill", detail, began)
    if bits is not None:
        report("table", {"bits": bits, "rounding": "nearest"}, time.perf_counter(), bits)
    if recipe.encoder is not None:
        began = time.perf_counter()
        detail = dict[str, Any](bits=recipe.encoder.bits)
        match recipe.encoder.products:
            case "measured":
                form, detail["network_us"] = meter.faster_form(model, recipe.encoder.bits, recipe.seed)
            case "static":
                raise InputError(
                    "encoder: static products calibrate on histories, and a model of features has none; expected measured, "
                    "int8 or float32"
                )
            case "int8" | "float32" as products:
                form = form_of(recipe.encoder.bits, products)
        report("network", {**detail, "form": form}, began, bits)
    if recipe.guard is not None and bits is not None and steps:
        allowed = recipe.guard.max_drop
        tried = [("the recipe's own", model, bits, steps[-1].after)]
        began = time.perf_counter()
        for gentler in ROUNDED_BITS:
            if lost(before, tried[-1][3]) <= allowed:
                break
            measure = meter.measure("candidate", teacher, bits=gentler, form=form)
            if max_bytes is None or measure.size_bytes <= max_bytes:
                tried.append((f"the teacher in {gentler} bits", teacher, gentler, measure))
        if len(tried) > 1:
            chosen, model, bits, measure = min(tried, key=lambda one: max(lost(before, one[3]), allowed))
            detail = {
                "chosen": chosen,
                "passed": lost(before, measure) <= allowed,
                "max_drop": allowed,
                "tried": [
                    {"name": t[0], "bytes": t[3].size_bytes, "kept": t[3].figure[1] / before.figure[1]}
                    for t in tried
                ],
            }
            report("fall back", detail, began, after=measure)
    if recipe.adaptation is not None:
        reason = "what changes from event to event are a pointwise model's inputs: a history grows, a context is told"
        report("adapt", {"skipped": reason}, time.perf_counter())
    return model, bits, form, steps


def _calibration(model: PointwiseModel, meter: PointwiseMeter, seed: int) -> list[Any]:
    train = meter.data.train
    drawn = np.random.default_rng(seed).permutation(len(train))[:CALIBRATION_ROWS]
    return [
        looked_up(model, train.take(drawn[start : start + CALIBRATION_BATCH]))
        for start in range(0, len(drawn), CALIBRATION_BATCH)
    ]


def describe_logits(
    labels: NDArray[np.float32], ours: NDArray[np.float32], theirs: NDArray[np.float32], seed: int
) -> dict[str, Any]:
    """What the manifest says of the test rows: the bundle, its teacher, and the first against the second."""
    kept = compare_logits(labels, ours, theirs, seed=seed)
    return {
        "split": "test",
        "accuracy": {"metrics": {n: i.to_json() for n, i in label_metrics(labels, ours, seed=seed).items()}},
        "teacher": {"metrics": {n: i.to_json() for n, i in label_metrics(labels, theirs, seed=seed).items()}},
        "kept": {
            "metrics": {
                name: {"ratio": found.ratio.to_json(), "difference": found.difference.to_json()}
                for name, found in kept.items()
            }
        },
    }


def describe_pointwise(model: PointwiseModel) -> dict[str, Any]:
    """What the manifest says of the architecture; the schema stands elsewhere in it."""
    config = {
        field.name: getattr(model.config, field.name)
        for field in dataclasses.fields(model.config)
        if field.name != "schema"
    }
    return {
        "architecture": type(model).__name__,
        **{name: list(value) if isinstance(value, tuple) else value for name, value in config.items()},
    }
