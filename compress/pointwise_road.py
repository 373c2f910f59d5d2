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
from ..export.encoder_int8 import EncoderForm
from ..runtime.pointwise_engine import PointwiseEngine
from .fallback import ROUNDED_BITS
from .layouts import PointwiseTeacher
from .models.pointwise_protocol import PointwiseModel
from .pointwise_distill import distill_pointwise
from .pointwise_forward import looked_up
from .pointwise_meter import PointwiseMeter, bundle_logits
from .pointwise_spec import PointwiseSpec
from .prune_pointwise import PrunePointwiseConfig, mlp_groups, prune_pointwise
from .publication import (
    NO_LIMITS,
    Budget,
    Compressed,
    check_budget,
    check_destinations,
    drafts,
    provenance,
    release,
    rounded,
)
from .recipe import Recipe
from .report import Measure, StepReport

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
    teacher_output: Path | None = None,
    overwrite: bool = False,
    track: Track = untracked,
    say: Callable[[StepReport], object] = lambda report: None,
) -> Compressed:
    """Compress a loaded checkpoint on its labelled rows into the bundle `output`.

    Raises:
        GateError: the budget is broken, or the runtime does not agree with torch.
        InputError: `output` cannot be written.
        OSError: the disk is full.
    """
    began = time.perf_counter()
    check_destinations(output, teacher_output, overwrite=overwrite)
    name = output.name.removesuffix(".pocket")
    with drafts(output) as folder:
        meter = PointwiseMeter(folder, name=name, spec=spec, data=data)
        source = {
            "name": teacher_output.name.removesuffix(".pocket") if teacher_output else f"{name} teacher",
            "model": describe_pointwise(teacher.model),
            "recipe": None,
            "provenance": provenance(teacher, recipe, data.described),
        }
        original = meter.export("teacher", teacher.model, bits=None, form="float32", manifest=source)
        before = meter.measure_bundle(original, teacher.model)
        model, bits, form, steps = _run_steps(teacher.model, recipe, meter, before, track, say)
        check_budget(budget, before, steps[-1].after if steps else before)

        draft = meter.export("draft", model, bits=bits, form=form, manifest={})
        metrics = describe_logits(
            data.test.labels, bundle_logits(draft, data.test), bundle_logits(original, data.test), recipe.seed
        )
        if data.questions is not None:
            ours, theirs = (
                rank_catalogue(PointwiseEngine.load(path, verify=False), data.questions)
                for path in (draft, original)
            )
            metrics["catalogue"] = describe_ranks(ours, theirs, recipe.seed)
        manifest = {
            "model": describe_pointwise(model),
            "recipe": recipe.to_json(),
            "steps": [step.to_json() for step in steps],
            "metrics": metrics,
            "provenance": source["provenance"],
        }
        final = meter.export("final", model, bits=bits, form=form, manifest=rounded(manifest))
        size_bytes = release(
            final, output, original=original, teacher_output=teacher_output, budget=budget, overwrite=overwrite,
            advice="try fewer bits",
        )  # fmt: skip
    return Compressed(
        path=output, size_bytes=size_bytes, steps=tuple(steps), metrics=metrics,
        checkpoint_bytes=teacher.source.weights_bytes, seconds=time.perf_counter() - began,
    )  # fmt: skip


def _run_steps(
    teacher: PointwiseModel,
    recipe: Recipe,
    meter: PointwiseMeter,
    before: Measure,
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
            model, teacher, data.train, data.valid, recipe.distill, bits=bits, seed=recipe.seed, track=track
        )
        report("distill", detail, began)
    if bits is not None:
        report("table", {"bits": bits, "rounding": "nearest"}, time.perf_counter(), bits)
    if recipe.encoder is not None:
        began = time.perf_counter()
        detail = dict[str, Any](bits=recipe.encoder.bits)
        match recipe.encoder.products:
            case "measured":
                form, detail["network_us"] = meter.faster_int8_form(model, recipe.seed)
            case "int8":
                form = "int8-products"
            case "float32":
                form = "int8"
        report("network", {**detail, "form": form}, began, bits)
    if recipe.guard is not None and bits is not None and steps:
        wanted = (1 - recipe.guard.max_drop) * before.figure[1]
        tried = [("the recipe's own", model, bits, steps[-1].after)]
        began = time.perf_counter()
        for gentler in ROUNDED_BITS:
            if tried[-1][3].figure[1] >= wanted:
                break
            measure = meter.measure("candidate", teacher, bits=gentler, form=form)
            tried.append((f"the teacher in {gentler} bits", teacher, gentler, measure))
        if len(tried) > 1:
            chosen, model, bits, measure = max(tried, key=lambda one: min(one[3].figure[1], wanted))
            detail = {
                "chosen": chosen,
                "passed": measure.figure[1] >= wanted,
                "max_drop": recipe.guard.max_drop,
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
