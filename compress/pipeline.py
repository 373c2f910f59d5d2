"""The road: prune -> distill -> table -> encoder -> adaptation, each step measured, the whole gated, the result published.

Follow one model through `compress_model`. Nothing carries its final name before it is complete, verified and within
its budget: drafts live in a hidden folder beside the output and disappear with it, whatever happens.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..benchmarks.evaluate import evaluate_ranks
from ..benchmarks.popularity import PopularityScorer, item_counts
from ..benchmarks.progress import Track, untracked
from ..benchmarks.protocols import Split, leave_one_out, training_sequences
from ..export.encoder_int8 import EncoderForm
from ..runtime.engine import Engine
from ..runtime.errors import InputError
from .adapt import MANIFEST_BYTES, Adaptation, AdaptationConfig, adapt, write_adapted
from .budget import NO_LIMITS, Budget, ranking_metric
from .fallback import MOST_GUARDED
from .item_bias import fold_item_bias
from .item_item_road import ItemItemRoad
from .ladder import Rungs
from .layouts import ItemItemTeacher, Teacher
from .meter import Meter
from .models.protocol import SequenceModel
from .own_users import OwnUsers, fold_users_in
from .publication import (
    Compressed,
    check_destinations,
    describe_rankings,
    drafts,
    provenance,
    rounded,
)
from .recipe import Recipe
from .report import Measure, StepReport
from .rerank_time import rerank_ms
from .road import Built, Outputs, Road, manifest_bytes, take_road
from .sequence_steps import describe_model, run_steps
from .table_form import TableForm


def compress_model(
    teacher: Teacher | ItemItemTeacher,
    sequences: Sequence[NDArray[np.int64]],
    recipe: Recipe,
    output: Path,
    *,
    budget: Budget = NO_LIMITS,
    rungs: Rungs = Rungs(),  # noqa: B008 -- it is frozen
    teacher_output: Path | None = None,
    nearest_output: Path | None = None,
    overwrite: bool = False,
    keep_repeats: bool = False,
    data: dict[str, Any] | None = None,
    track: Track = untracked,
    say: Callable[[StepReport], object] = lambda report: None,
    note: Callable[[str], object] = lambda line: None,
) -> Compressed:
    """Compress a loaded checkpoint on its users' sequences (item rows, in time order) into the bundle `output`.

    Steps see what lies before each user's validation item, which chooses; the test item is ranked once, at the end,
    by the teacher and by the bundle, both through the runtime.

    Args:
        rungs: recipes to try where `recipe` breaks the budget; see `ladder`.
        teacher_output: where to write the uncompressed teacher as a bundle, to compare with.
        nearest_output: where to write the nearest bundle if the budget is broken.
        keep_repeats: items of the history stay candidates, and a student learns to rank them.
        data: what the manifest says of the interactions.
        say: called after each step.
        note: called with what is tried next, where the budget is broken.

    Raises:
        GateError: the budget is broken, or the runtime does not agree with torch.
        InputError: `output` cannot be written, the recipe does not fit the model, or the sequences are too short.
        OSError: the disk is full.
    """
    began = time.perf_counter()
    outputs = Outputs(path=output, teacher=teacher_output, nearest=nearest_output, overwrite=overwrite)
    check_destinations(output, teacher_output, nearest_output, overwrite=overwrite)
    with drafts(output) as folder:
        road = open_road(
            teacher, sequences, folder, name=output.name.removesuffix(".pocket"), seed=recipe.seed, budget=budget,
            teacher_name=teacher_output.name.removesuffix(".pocket") if teacher_output else None,
            keep_repeats=keep_repeats, data=data, track=track, say=say,
        )  # fmt: skip
        built, metrics, size_bytes = take_road(road, recipe, outputs, budget=budget, rungs=rungs, note=note)
    return Compressed(
        path=output, size_bytes=size_bytes, steps=built.steps, metrics=metrics,
        checkpoint_bytes=teacher.source.weights_bytes, seconds=time.perf_counter() - began,
    )  # fmt: skip


def open_road(
    teacher: Teacher | ItemItemTeacher,
    sequences: Sequence[NDArray[np.int64]],
    folder: Path,
    *,
    name: str,
    seed: int,
    teacher_name: str | None = None,
    budget: Budget = NO_LIMITS,
    keep_repeats: bool = False,
    data: dict[str, Any] | None = None,
    track: Track = untracked,
    say: Callable[[StepReport], object] = lambda report: None,
) -> Road:
    """The road of a teacher that ranks by a history: its data cut, itself exported and measured.

    Args:
        folder: for drafts.
        name: of the bundles.
        teacher_name: of the teacher's bundle.
    """
    metric = ranking_metric(budget)
    validation, test = leave_one_out(sequences, stage="validation"), leave_one_out(sequences, stage="test")
    training = training_sequences(sequences)
    teacher_name = teacher_name or f"{name} teacher"
    if isinstance(teacher, ItemItemTeacher):
        return ItemItemRoad(
            teacher, training, validation, test, folder, name=name, teacher_name=teacher_name, seed=seed, budget=budget,
            metric=metric, keep_repeats=keep_repeats, data=data, track=track, say=say,
        )  # fmt: skip
    teacher = dataclasses.replace(teacher, model=fold_item_bias(teacher.model))
    counts = item_counts(training, len(teacher.model.item_table))
    teacher, own = fold_users_in(teacher, sequences, validation, keep_repeats=keep_repeats)
    meter = Meter(
        folder, name=name, item_ids=teacher.item_ids, validation=validation, item_counts=counts,
        keep_repeats=keep_repeats, metric=metric, track=track,
    )  # fmt: skip
    origin = provenance(teacher, seed, data)
    source = {
        "name": teacher_name,
        "model": describe_model(teacher.model),
        "recipe": None,
        "provenance": origin,
    }
    original = meter.export("teacher", teacher.model, bits=None, form="float32", manifest=source)
    before, gains = meter.measure_bundle(original, teacher.model)
    folded = None if own is None else own.step(validation, before)
    if folded is not None:
        say(folded)
    return SequenceRoad(
        model=teacher.model, own=own, folded=folded, training=training, validation=validation, test_split=test,
        known=[sequences[user][:-1] for user in validation.users], counts=counts, meter=meter, original=original,
        before=before, gains=gains, provenance=origin, seed=seed, budget=budget, keep_repeats=keep_repeats,
        track=track, say=say,
    )  # fmt: skip


@dataclasses.dataclass(slots=True, kw_only=True, eq=False)
class _Made:
    """What a bundle is written from."""

    model: SequenceModel
    bits: TableForm | None
    form: EncoderForm
    for_users: bool
    draft: Path
    adaptation: Adaptation | None


@dataclasses.dataclass(slots=True, kw_only=True, eq=False)
class SequenceRoad:
    """See `road.Road`; made by `open_road`."""

    model: SequenceModel
    own: OwnUsers | None
    folded: StepReport | None
    training: list[NDArray[np.int64]]
    validation: Split
    test_split: Split
    known: list[NDArray[np.int64]]
    """Of the validation users: what they did up to the validation event, which is the last."""
    counts: NDArray[np.int64]
    meter: Meter
    original: Path
    before: Measure
    gains: NDArray[np.float64]
    """The teacher's metric of each validation user."""
    provenance: dict[str, Any]
    seed: int
    budget: Budget
    keep_repeats: bool
    track: Track
    say: Callable[[StepReport], object]
    _numbers: itertools.count[int] = dataclasses.field(default_factory=itertools.count)

    def build(self, recipe: Recipe) -> Built:
        """See `Road.build`."""
        recipe = fit_recipe(recipe, self.model, keep_repeats=self.keep_repeats, max_drop=self.budget.max_drop)
        meter, before, most = self.meter, self.before, self.budget.max_size_bytes
        meter.for_users = recipe.distill is None
        room = None if most is None else most - MANIFEST_BYTES
        model, bits, form, steps = run_steps(
            self.model, self.training, recipe, meter, before, self.gains, room, self.track, self.say
        )
        steps = [*([] if self.folded is None else [self.folded]), *steps]
        after = steps[-1].after if steps else before
        draft = meter.export(f"draft {next(self._numbers)}", model, bits=bits, form=form, manifest={})
        adaptation = None
        if recipe.adaptation is not None:
            adaptation, step = _adapt(
                draft,
                self.known,
                recipe.adaptation,
                most,
                after,
                seed=recipe.seed,
                keep_repeats=self.keep_repeats,
            )
            steps.append(step)
            self.say(step)
        made = _Made(
            model=model, bits=bits, form=form, for_users=meter.for_users, draft=draft, adaptation=adaptation
        )
        measure = steps[-1].after if steps else before
        built = Built(recipe=recipe, steps=tuple(steps), measure=measure, made=made)
        deployed = draft if adaptation is None else adapted_draft(draft)
        size_bytes, time_ms = deployed.stat().st_size + manifest_bytes(self._manifest(built, {})), None
        if self.budget.max_latency_ms is not None:
            time_ms = rerank_ms(deployed, self.validation.histories, seed=self.seed)
        measure = dataclasses.replace(measure, size_bytes=size_bytes, rerank_ms=time_ms)
        return dataclasses.replace(built, measure=measure)

    def test(self, built: Built) -> dict[str, Any]:
        """See `Road.test`."""
        theirs = self.meter.rank(self.original, self.test_split, "test teacher", n_top=10)
        ours = self.meter.rank(built.made.draft, self.test_split, "test bundle", n_top=10)
        popular = evaluate_ranks(
            PopularityScorer(self.counts), self.test_split, keep_repeats=self.keep_repeats, n_top=0
        )
        metrics = describe_rankings(ours, theirs, popular, self.seed)
        if self.own is not None:
            metrics |= self.own.metrics(self.test_split, folded=theirs, ours=ours, seed=self.seed)
        return metrics

    def write(self, built: Built, metrics: dict[str, Any] | None) -> Path:
        """See `Road.write`."""
        made = built.made
        self.meter.for_users = made.for_users
        final = self.meter.export(
            "final",
            made.model,
            bits=made.bits,
            form=made.form,
            manifest=rounded(self._manifest(built, metrics)),
        )
        if made.adaptation is not None:
            unadapted, final = final, adapted_draft(final)
            write_adapted(unadapted, final, made.adaptation.described, made.adaptation.taste, overwrite=True)
        return final

    def place(self, recipe: Recipe) -> object:
        """See `Road.place`."""
        return recipe.student, recipe.prune, recipe.distill, recipe.table, recipe.encoder, recipe.guard

    def _manifest(self, built: Built, metrics: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "model": describe_model(built.made.model),
            "recipe": built.recipe.to_json(),
            "steps": [step.to_json() for step in built.steps],
            **({} if metrics is None else {"metrics": metrics}),
            "provenance": self.provenance,
        }


def _adapt(
    draft: Path,
    known: Sequence[NDArray[np.int64]],
    config: AdaptationConfig,
    max_size_bytes: int | None,
    before: Measure,
    *,
    seed: int,
    keep_repeats: bool,
) -> tuple[Adaptation | None, StepReport]:
    """Fit what the bundle learns with; the ranking without feedback, and its figure, stay."""
    began, adaptation, after = time.perf_counter(), None, before
    draft_bytes = draft.stat().st_size
    room = int(config.max_growth * draft_bytes)
    if max_size_bytes is not None:
        room = min(room, max_size_bytes - draft_bytes - MANIFEST_BYTES)
    if room < 0:
        detail: dict[str, Any] = {"skipped": "no room for it within --max-size"}
    else:
        engine = Engine.load(draft, verify=False)
        adaptation = adapt(engine, known, config, seed=seed, keep_repeats=keep_repeats, room_bytes=room)
        detail = {"skipped": "no expert pays on the validation events, or they are too few"}
    if adaptation is not None:
        detail = adaptation.detail()
        adapted_bytes = write_adapted(draft, adapted_draft(draft), adaptation.described, adaptation.taste)
        after = dataclasses.replace(before, size_bytes=before.size_bytes + adapted_bytes - draft_bytes)
    seconds = time.perf_counter() - began
    return adaptation, StepReport(name="adapt", before=before, after=after, detail=detail, seconds=seconds)


def adapted_draft(draft: Path) -> Path:
    """Where a draft goes with what it learns with."""
    return draft.with_suffix(".adapted.pocket")


def fit_recipe(
    recipe: Recipe, model: SequenceModel, *, keep_repeats: bool, max_drop: float | None = None
) -> Recipe:
    """The recipe as this model will get it, its guard with the budget's `max_drop`; raises `InputError` where it cannot."""
    if recipe.table is not None and (recipe.table.width or 0) > model.width:
        raise InputError(
            f"table: width {recipe.table.width}, expected at most {model.width}, the model's own"
        )
    if keep_repeats and recipe.distill is not None:
        recipe = dataclasses.replace(recipe, distill=dataclasses.replace(recipe.distill, mask_history=False))
    if recipe.guard is not None and max_drop is not None:
        guard = dataclasses.replace(recipe.guard, max_drop=min(max_drop, MOST_GUARDED))
        recipe = dataclasses.replace(recipe, guard=guard)
    return recipe
