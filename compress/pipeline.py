"""The road: prune -> distill -> table -> encoder -> adaptation, each step measured, the whole gated, the result published.

Follow one model through `compress_model`. Nothing carries its final name before it is complete, verified and within
its budget: drafts live in a hidden folder beside the output and disappear with it, whatever happens.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..benchmarks.evaluate import evaluate_ranks
from ..benchmarks.popularity import PopularityScorer, item_counts
from ..benchmarks.progress import Track, untracked
from ..benchmarks.protocols import leave_one_out, training_sequences
from ..benchmarks.ranking_metrics import per_user
from ..export.encoder_int8 import EncoderForm
from ..runtime.engine import Engine
from ..runtime.errors import InputError
from .adapt import MANIFEST_BYTES, Adaptation, AdaptationConfig, adapt, write_adapted
from .distill import distill
from .fallback import RETRAINED_BITS, ROUNDED_BITS, Candidate, fall_back
from .item_bias import fold_item_bias
from .item_item_road import compress_item_item
from .layouts import ItemItemTeacher, Teacher
from .low_rank import low_rank
from .meter import Meter
from .models.protocol import SequenceModel
from .own_users import fold_users_in
from .prune import can_prune, innermost, prune
from .publication import (
    NO_LIMITS,
    Budget,
    Compressed,
    check_budget,
    check_destinations,
    describe_rankings,
    drafts,
    provenance,
    release,
    rounded,
)
from .recipe import Recipe
from .report import Measure, StepReport


def compress_model(
    teacher: Teacher | ItemItemTeacher,
    sequences: Sequence[NDArray[np.int64]],
    recipe: Recipe,
    output: Path,
    *,
    budget: Budget = NO_LIMITS,
    teacher_output: Path | None = None,
    overwrite: bool = False,
    keep_repeats: bool = False,
    data: dict[str, Any] | None = None,
    track: Track = untracked,
    say: Callable[[StepReport], object] = lambda report: None,
) -> Compressed:
    """Compress a loaded checkpoint on its users' sequences (item rows, in time order) into the bundle `output`.

    Steps see what lies before each user's validation item, which chooses; the test item is ranked once, at the end,
    by the teacher and by the bundle, both through the runtime.

    Args:
        teacher_output: where to write the uncompressed teacher as a bundle, to compare with.
        keep_repeats: items of the history stay candidates, and a student learns to rank them.
        data: what the manifest says of the interactions.
        say: called after each step.

    Raises:
        GateError: the budget is broken, or the runtime does not agree with torch.
        InputError: `output` cannot be written, the recipe does not fit the model, or the sequences are too short.
        OSError: the disk is full.
    """
    if isinstance(teacher, ItemItemTeacher):
        return compress_item_item(
            teacher, sequences, recipe, output, budget=budget, teacher_output=teacher_output,
            overwrite=overwrite, keep_repeats=keep_repeats, data=data, track=track, say=say,
        )  # fmt: skip
    began = time.perf_counter()
    check_destinations(output, teacher_output, overwrite=overwrite)
    teacher = dataclasses.replace(teacher, model=fold_item_bias(teacher.model))
    recipe = fit_recipe(recipe, teacher.model, keep_repeats=keep_repeats)
    validation, test = leave_one_out(sequences, stage="validation"), leave_one_out(sequences, stage="test")
    training = training_sequences(sequences)
    counts = item_counts(training, len(teacher.model.item_table))
    teacher, own = fold_users_in(teacher, sequences, validation, keep_repeats=keep_repeats)
    name = output.name.removesuffix(".pocket")
    with drafts(output) as folder:
        meter = Meter(
            folder, name=name, item_ids=teacher.item_ids, validation=validation, item_counts=counts,
            keep_repeats=keep_repeats, for_users=recipe.distill is None, track=track,
        )  # fmt: skip
        source = {
            "name": teacher_output.name.removesuffix(".pocket") if teacher_output else f"{name} teacher",
            "model": describe_model(teacher.model),
            "recipe": None,
            "provenance": provenance(teacher, recipe, data),
        }
        original = meter.export("teacher", teacher.model, bits=None, form="float32", manifest=source)
        before = _measured(meter, original, teacher.model)
        folded = [] if own is None else [own.step(validation, before)]
        for step in folded:
            say(step)
        model, bits, form, steps = _run_steps(
            teacher.model, training, recipe, meter, before, meter.gains(original), track, say
        )
        steps = [*folded, *steps]
        after = steps[-1].after if steps else before
        check_budget(budget, before, after)

        draft = meter.export("draft", model, bits=bits, form=form, manifest={})
        adaptation = None
        if recipe.adaptation is not None:
            known = [sequences[user][:-1] for user in validation.users]
            adaptation, step = _adapt(
                draft, known, recipe.adaptation, budget, after, seed=recipe.seed, keep_repeats=keep_repeats
            )
            steps.append(step)
            say(step)

        theirs = meter.rank(original, test, "test teacher", n_top=10)
        ours = meter.rank(draft, test, "test bundle", n_top=10)
        popular = evaluate_ranks(PopularityScorer(counts), test, keep_repeats=keep_repeats, n_top=0)
        metrics = describe_rankings(ours, theirs, popular, recipe.seed)
        if own is not None:
            metrics |= own.metrics(test, folded=theirs, ours=ours, seed=recipe.seed)
        manifest = {
            "model": describe_model(model),
            "recipe": recipe.to_json(),
            "steps": [step.to_json() for step in steps],
            "metrics": metrics,
            "provenance": source["provenance"],
        }
        final = meter.export("final", model, bits=bits, form=form, manifest=rounded(manifest))
        if adaptation is not None:
            unadapted, final = final, final.with_name("adapted.pocket")
            write_adapted(unadapted, final, adaptation.described, adaptation.taste, overwrite=True)
        size_bytes = release(
            final, output, original=original, teacher_output=teacher_output, budget=budget, overwrite=overwrite,
            advice="try fewer bits or a smaller table width",
        )  # fmt: skip
    return Compressed(
        path=output, size_bytes=size_bytes, steps=tuple(steps), metrics=metrics,
        checkpoint_bytes=teacher.source.weights_bytes, seconds=time.perf_counter() - began,
    )  # fmt: skip


def _run_steps(
    model: SequenceModel,
    training: list[NDArray[np.int64]],
    recipe: Recipe,
    meter: Meter,
    before: Measure,
    teacher_gains: NDArray[np.float64],
    track: Track,
    say: Callable[[StepReport], object],
) -> tuple[SequenceModel, int | None, EncoderForm, list[StepReport]]:
    """The recipe's steps one after the other, each measured as it would be deployed at that point; the model, bits of
    its table and form of its encoder."""
    teacher, steps = model, list[StepReport]()
    form: EncoderForm = "float32"
    bits = recipe.table.bits if recipe.table else None

    def skip(name: str, reason: str) -> None:
        previous = steps[-1].after if steps else before
        step = StepReport(name=name, before=previous, after=previous, detail={"skipped": reason}, seconds=0.0)
        steps.append(step)
        say(step)

    def report(name: str, detail: dict[str, Any], began: float, stored_bits: int | None = None) -> None:
        after = meter.measure(name, model, bits=stored_bits, form=form)
        previous = steps[-1].after if steps else before
        step = StepReport(
            name=name, before=previous, after=after, detail=detail, seconds=time.perf_counter() - began
        )
        steps.append(step)
        say(step)

    if recipe.prune is not None:
        began = time.perf_counter()
        if can_prune(model):
            model, detail = prune(model, training, recipe.prune, seed=recipe.seed)
            report("prune", detail, began)
            drop = 1 - steps[-1].after.ndcg10 / before.ndcg10 if before.ndcg10 > 0 else 0.0
            if drop > recipe.prune.max_drop:
                model = teacher
                reason = f"NDCG@10 fell by {drop:.1%}, more than max_drop of {recipe.prune.max_drop:.0%}"
                steps.append(
                    StepReport(
                        name="put back",
                        before=steps[-1].after,
                        after=before,
                        detail={"reason": reason},
                        seconds=0.0,
                    )
                )
                say(steps[-1])
        else:
            architecture = describe_model(model)["architecture"]
            skip("prune", f"nothing says which parts of a {architecture} are cut together")
    if recipe.table is not None and recipe.table.width is not None and recipe.table.width < model.width:
        began = time.perf_counter()
        model = low_rank(model, recipe.table.width, seed=recipe.seed)
        report("low rank", {"width": recipe.table.width}, began)
    if recipe.distill is not None:
        began = time.perf_counter()
        model, detail = distill(
            model, teacher, training, recipe.distill, bits=bits, seed=recipe.seed,
            validate=lambda student: meter.validate(student, bits), track=track,
        )  # fmt: skip
        report("distill", detail, began)
    if bits is not None:
        rounding = "for users" if meter.for_users else "nearest"
        report("table", {"bits": bits, "rounding": rounding}, time.perf_counter(), bits)
    if recipe.encoder is not None:
        began = time.perf_counter()
        detail = dict[str, Any](bits=recipe.encoder.bits)
        match recipe.encoder.products:
            case "measured":
                form, detail["encode_us"] = meter.faster_int8_form(model, recipe.seed)
            case "int8":
                form = "int8-products"
            case "float32":
                form = "int8"
        report("encoder", {**detail, "form": form}, began, bits)
    if recipe.guard is not None and bits is not None:
        began = time.perf_counter()
        own = _candidate(meter, "the recipe's own", model, bits, form, for_users=meter.for_users)
        gentler = _gentler(teacher, training, recipe, meter, form, track)
        chosen, detail = fall_back(own, teacher_gains, recipe.guard, gentler)
        if len(detail["tried"]) > 1:
            model, bits, meter.for_users = chosen.model, chosen.bits, chosen.for_users
            previous = steps[-1].after if steps else before
            seconds = time.perf_counter() - began
            steps.append(
                StepReport(
                    name="fall back", before=previous, after=chosen.measure, detail=detail, seconds=seconds
                )
            )
            say(steps[-1])
    return model, bits, form, steps


def _candidate(
    meter: Meter, name: str, model: SequenceModel, bits: int, form: EncoderForm, *, for_users: bool
) -> Candidate:
    """A model with its table in so many bits, measured."""
    meter.for_users = for_users
    measure, gains = meter.measure_users("candidate", model, bits=bits, form=form)
    return Candidate(
        name=name, model=model, bits=bits, form=form, for_users=for_users, measure=measure, gains=gains
    )


def _gentler(
    teacher: SequenceModel,
    training: list[NDArray[np.int64]],
    recipe: Recipe,
    meter: Meter,
    form: EncoderForm,
    track: Track,
) -> list[Callable[[], Candidate]]:
    """What is tried, in this order, where the recipe's own result does not pass: each is made when it is asked for."""

    def rounded_teacher(bits: int) -> Candidate:
        return _candidate(meter, f"the teacher in {bits} bits", teacher, bits, form, for_users=True)

    def distilled() -> Candidate:
        assert recipe.distill is not None
        student, _ = distill(
            teacher, teacher, training, recipe.distill, bits=RETRAINED_BITS, seed=recipe.seed,
            validate=lambda one: meter.validate(one, RETRAINED_BITS), track=track,
        )  # fmt: skip
        name = f"the teacher distilled into {RETRAINED_BITS} bits"
        return _candidate(meter, name, student, RETRAINED_BITS, form, for_users=False)

    few, many = ROUNDED_BITS
    retrained = [distilled] if recipe.distill is not None else []
    return [lambda: rounded_teacher(few), *retrained, lambda: rounded_teacher(many)]


def _adapt(
    draft: Path,
    known: Sequence[NDArray[np.int64]],
    config: AdaptationConfig,
    budget: Budget,
    before: Measure,
    *,
    seed: int,
    keep_repeats: bool,
) -> tuple[Adaptation | None, StepReport]:
    """Fit what the bundle learns with; the ranking without feedback, and its figure, stay."""
    began, adaptation, after = time.perf_counter(), None, before
    draft_bytes, room = draft.stat().st_size, None
    if budget.max_size_bytes is not None:
        room = budget.max_size_bytes - draft_bytes - MANIFEST_BYTES
    if room is not None and room < 0:
        detail: dict[str, Any] = {"skipped": "no room for it within --max-size"}
    else:
        engine = Engine.load(draft, verify=False)
        adaptation = adapt(engine, known, config, seed=seed, keep_repeats=keep_repeats, room_bytes=room)
        detail = {"skipped": "no expert pays on the validation events, or they are too few"}
    if adaptation is not None:
        detail = adaptation.detail()
        adapted_bytes = write_adapted(
            draft, draft.with_name("adapted.pocket"), adaptation.described, adaptation.taste
        )
        after = dataclasses.replace(before, size_bytes=before.size_bytes + adapted_bytes - draft_bytes)
    seconds = time.perf_counter() - began
    return adaptation, StepReport(name="adapt", before=before, after=after, detail=detail, seconds=seconds)


def fit_recipe(recipe: Recipe, model: SequenceModel, *, keep_repeats: bool) -> Recipe:
    """The recipe as this model will get it; raises `InputError` where it cannot."""
    if recipe.table is not None and (recipe.table.width or 0) > model.width:
        raise InputError(
            f"table: width {recipe.table.width}, expected at most {model.width}, the model's own"
        )
    if keep_repeats and recipe.distill is not None:
        recipe = dataclasses.replace(recipe, distill=dataclasses.replace(recipe.distill, mask_history=False))
    return recipe


def describe_model(model: SequenceModel) -> dict[str, Any]:
    """What the manifest says of the architecture."""
    config = dataclasses.asdict(model.config)
    return {
        "architecture": type(innermost(model)).__name__,
        **{k: list(v) if isinstance(v, tuple) else v for k, v in config.items()},
    }


def _measured(meter: Meter, path: Path, model: SequenceModel) -> Measure:
    ranking = meter.rank(path, meter.validation, "measure teacher")
    parameters = sum(p.numel() for p in model.parameters())  # type: ignore[attr-defined]
    return Measure(
        size_bytes=path.stat().st_size,
        parameters=parameters,
        ndcg10=float(per_user(ranking.ranks, "ndcg@10").mean()),
    )
