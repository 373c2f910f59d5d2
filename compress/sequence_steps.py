"""The steps of a sequence model, one after the other: student -> prune -> low rank -> distill -> sparsify -> table -> encoder -> fall back.

Each is measured as it would be deployed at that point, and said.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..benchmarks.progress import Track
from ..export.encoder_int8 import EncoderForm
from .distill import distill
from .encoder_form import choose_form
from .fake_quantize_encoder import ENCODER_BITS, merged_for_rounding
from .fallback import RETRAINED_BITS, ROUNDED_BITS, Candidate, fall_back
from .low_rank import low_rank
from .meter import Meter
from .models.fold_in import FoldIn
from .models.protocol import SequenceModel, innermost
from .prune import can_prune
from .prune_rounds import prune_in_rounds
from .recipe import Recipe
from .report import Measure, StepReport, lost
from .sparsify import sparsify
from .student import make_student
from .table_form import TableForm, describe_form, table_form


def run_steps(
    model: SequenceModel,
    training: list[NDArray[np.int64]],
    recipe: Recipe,
    meter: Meter,
    before: Measure,
    teacher_gains: NDArray[np.float64],
    max_bytes: int | None,
    track: Track,
    say: Callable[[StepReport], object],
) -> tuple[SequenceModel, TableForm | None, EncoderForm, list[StepReport]]:
    """The recipe's steps on the teacher `model`; the model, bits of its table (or its tiers) and form of its encoder.

    Args:
        before: the teacher, measured.
        teacher_gains: its metric of each validation user, (U,).
        max_bytes: what a fallback may take; None is no limit.
    """
    teacher, steps = model, list[StepReport]()
    form: EncoderForm = "float32"
    bits = None
    if recipe.table is not None:
        bits = table_form(
            recipe.table, meter.item_counts, min(recipe.table.width or model.width, model.width)
        )

    def skip(name: str, reason: str) -> None:
        previous = steps[-1].after if steps else before
        step = StepReport(name=name, before=previous, after=previous, detail={"skipped": reason}, seconds=0.0)
        steps.append(step)
        say(step)

    def report(name: str, detail: dict[str, Any], began: float, stored_bits: TableForm | None = None) -> None:
        after = meter.measure(name, model, bits=stored_bits, form=form)
        previous = steps[-1].after if steps else before
        step = StepReport(
            name=name, before=previous, after=after, detail=detail, seconds=time.perf_counter() - began
        )
        steps.append(step)
        say(step)

    def recover(student: SequenceModel, epochs: int) -> tuple[SequenceModel, dict[str, Any]]:
        assert recipe.distill is not None  # which several rounds need, says the recipe
        return distill(
            student, teacher, training, dataclasses.replace(recipe.distill, epochs=epochs), bits=bits,
            seed=recipe.seed, validate=lambda one: meter.validate(one, bits), track=track,
        )  # fmt: skip

    if recipe.student is not None:
        if isinstance(innermost(model), FoldIn):
            skip("student", "users are folded in from their items, there is no encoder to replace")
        else:
            began = time.perf_counter()
            model, detail = make_student(model, recipe.student, seed=recipe.seed)
            report("student", detail, began)
    if recipe.prune is not None:
        began = time.perf_counter()
        if can_prune(model):
            whole, measured = model, steps[-1].after if steps else before
            model, detail = prune_in_rounds(model, training, recipe.prune, recover, seed=recipe.seed)
            report("prune", detail, began)
            drop = lost(measured, steps[-1].after)
            if drop > recipe.prune.max_drop:
                model = whole
                reason = f"{before.figure[0]} fell by {drop:.1%}, more than max_drop of {recipe.prune.max_drop:.0%}"
                steps.append(
                    StepReport(
                        name="put back",
                        before=steps[-1].after,
                        after=measured,
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
        encoder_bits = None if recipe.encoder is None else recipe.encoder.bits
        if encoder_bits == ENCODER_BITS:
            model = merged_for_rounding(model)
        model, detail = distill(
            model, teacher, training, recipe.distill, bits=bits, encoder_bits=encoder_bits, seed=recipe.seed,
            validate=lambda student: meter.validate(student, bits), track=track,
        )  # fmt: skip
        report("distill", detail, began)
    if recipe.sparsify is not None:
        began, dense = time.perf_counter(), model
        model, detail = sparsify(model, recipe.sparsify)
        times = meter.encode_us({"before": dense, "after": model}, recipe.seed)
        report("sparsify", {**detail, "encode_us": times}, began)
    if bits is not None:
        rounding = "for users" if meter.for_users else "nearest"
        report("table", {**describe_form(bits), "rounding": rounding}, time.perf_counter(), bits)
    if recipe.encoder is not None:
        began = time.perf_counter()
        form, detail = choose_form(model, recipe.encoder, meter, bits, seed=recipe.seed)
        report("encoder", detail, began, bits)
    if recipe.guard is not None and bits is not None:
        began = time.perf_counter()
        own = _candidate(meter, "the recipe's own", model, bits, form, for_users=meter.for_users)
        gentler_form: EncoderForm = "int8" if form.startswith("int4") else form
        gentler = _gentler(teacher, training, recipe, meter, gentler_form, track)
        chosen, detail = fall_back(own, teacher_gains, recipe.guard, gentler, max_bytes=max_bytes)
        if len(detail["tried"]) > 1:
            model, bits, form, meter.for_users = chosen.model, chosen.bits, chosen.form, chosen.for_users
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
    meter: Meter, name: str, model: SequenceModel, bits: TableForm, form: EncoderForm, *, for_users: bool
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


def describe_model(model: SequenceModel) -> dict[str, Any]:
    """What the manifest says of the architecture."""
    config = dataclasses.asdict(model.config)
    return {
        "architecture": type(innermost(model)).__name__,
        **{k: list(v) if isinstance(v, tuple) else v for k, v in config.items()},
    }
