"""The road of item-item weights: prune -> table, measured, gated and published as any other.

Distillation, an encoder and adaptation mean nothing here, and the report says so: the weights are solved, not trained, and
there is neither a network nor a space of item vectors. What is measured is a bundle, opened by the runtime.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..benchmarks.evaluate import EngineScorer, Ranking, evaluate_ranks
from ..benchmarks.popularity import PopularityScorer, item_counts
from ..benchmarks.progress import Track, untracked
from ..benchmarks.protocols import Split, leave_one_out, training_sequences
from ..benchmarks.ranking_metrics import per_user
from ..export.neighbors_bundle import NeighborsContent, export_neighbors
from ..runtime.engine import Engine
from ..runtime.neighbors import Neighbors
from .layouts import ItemItemTeacher
from .models.fold_in import MAX_LENGTH
from .neighbor_choice import choose_neighbors, rounded_weights
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

SKIPPED = {
    "distill": "item-item weights are solved in one go; there is no network to teach",
    "encoder": "there is none: the history is looked up",
    "adapt": "items have no vectors to learn in; a click counts from the moment it joins the history",
}
VERIFIED_HISTORIES = 4


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Road:
    """What stays the same from step to step."""

    folder: Path
    name: str
    teacher: ItemItemTeacher
    prior_user: NDArray[np.float32]
    validation: Split
    keep_repeats: bool
    track: Track

    def export(self, draft: str, neighbors: Neighbors, manifest: dict[str, Any]) -> Path:
        path = self.folder / f"{draft}.pocket"
        content = NeighborsContent(
            name=self.name, neighbors=neighbors, item_ids=self.teacher.item_ids, prior_user=self.prior_user,
            max_length=MAX_LENGTH, manifest=manifest,
        )  # fmt: skip
        step = max(1, len(self.validation) // VERIFIED_HISTORIES)
        export_neighbors(path, content, self.validation.histories[::step][:VERIFIED_HISTORIES])
        return path

    def rank(self, path: Path, split: Split, title: str, *, n_top: int = 0) -> Ranking:
        scorer = EngineScorer(Engine.load(path, verify=False))
        with self.track(title, len(split)) as advance:
            return evaluate_ranks(
                scorer, split, keep_repeats=self.keep_repeats, n_top=n_top, progress=advance
            )

    def measure(self, path: Path, neighbors: Neighbors, title: str) -> Measure:
        """Parameters are the weights that are stored."""
        ranking = self.rank(path, self.validation, f"measure {title}")
        return Measure(
            size_bytes=path.stat().st_size,
            parameters=neighbors.n_items * neighbors.count,
            ndcg10=float(per_user(ranking.ranks, "ndcg@10").mean()),
        )


def compress_item_item(
    teacher: ItemItemTeacher,
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
    """Compress item-item weights on their users' sequences into the bundle `output`; as `pipeline.compress_model`.

    Raises:
        GateError: the budget is broken, or the runtime does not agree with the weights.
        InputError: `output` cannot be written, or the sequences are too short.
        OSError: the disk is full.
    """
    began = time.perf_counter()
    check_destinations(output, teacher_output, overwrite=overwrite)
    validation, test = leave_one_out(sequences, stage="validation"), leave_one_out(sequences, stage="test")
    training = training_sequences(sequences)
    counts = item_counts(training, teacher.model.n_items)
    name = output.name.removesuffix(".pocket")
    with drafts(output) as folder:
        road = _Road(
            folder=folder, name=name, teacher=teacher, validation=validation, keep_repeats=keep_repeats, track=track,
            prior_user=(counts / max(len(training), 1)).astype(np.float32),
        )  # fmt: skip
        source = {
            "name": teacher_output.name.removesuffix(".pocket") if teacher_output else f"{name} teacher",
            "model": _describe(teacher.model),
            "recipe": None,
            "provenance": provenance(teacher, recipe, data),
        }
        original = road.export("teacher", teacher.model, source)
        before = road.measure(original, teacher.model, "teacher")
        neighbors, steps = _run_steps(road, recipe, budget, before, say)
        check_budget(budget, before, steps[-1].after if steps else before)

        theirs = road.rank(original, test, "test teacher", n_top=10)
        draft = road.export("draft", neighbors, {})
        ours = road.rank(draft, test, "test bundle", n_top=10)
        popular = evaluate_ranks(PopularityScorer(counts), test, keep_repeats=keep_repeats, n_top=0)
        metrics = describe_rankings(ours, theirs, popular, recipe.seed)
        manifest = {
            "model": _describe(neighbors),
            "recipe": recipe.to_json(),
            "steps": [step.to_json() for step in steps],
            "metrics": metrics,
            "provenance": source["provenance"],
        }
        final = road.export("final", neighbors, rounded(manifest))
        size_bytes = release(
            final, output, original=original, teacher_output=teacher_output, budget=budget, overwrite=overwrite,
            advice="try fewer neighbors or bits",
        )  # fmt: skip
    return Compressed(
        path=output, size_bytes=size_bytes, steps=tuple(steps), metrics=metrics,
        checkpoint_bytes=teacher.source.weights_bytes, seconds=time.perf_counter() - began,
    )  # fmt: skip


def _run_steps(
    road: _Road, recipe: Recipe, budget: Budget, before: Measure, say: Callable[[StepReport], object]
) -> tuple[Neighbors, list[StepReport]]:
    """The recipe's steps one after the other, each measured as it would be deployed at that point."""
    neighbors, steps = road.teacher.model, list[StepReport]()

    def report(name: str, detail: dict[str, Any], began: float) -> None:
        previous = steps[-1].after if steps else before
        after = previous
        if "skipped" not in detail:
            path = road.export(name, neighbors, {})
            after = road.measure(path, neighbors, name)
            path.unlink()
        seconds = time.perf_counter() - began
        steps.append(StepReport(name=name, before=previous, after=after, detail=detail, seconds=seconds))
        say(steps[-1])

    config, began = recipe.neighbors, time.perf_counter()
    if config is not None:
        neighbors, detail = choose_neighbors(
            neighbors, config, road.validation, max_bytes=budget.max_size_bytes, max_length=MAX_LENGTH,
            keep_repeats=road.keep_repeats,
        )  # fmt: skip
        report("prune", detail, began)
        began = time.perf_counter()
        neighbors = rounded_weights(neighbors, config.bits)
        report("table", {"bits": config.bits}, began)
    wanted = {"distill": recipe.distill, "encoder": recipe.encoder, "adapt": recipe.adaptation}
    for name, reason in SKIPPED.items():
        if wanted[name] is not None:
            report(name, {"skipped": reason}, time.perf_counter())
    return neighbors, steps


def _describe(neighbors: Neighbors) -> dict[str, Any]:
    return {"architecture": "ItemItem", "n_items": neighbors.n_items, "neighbors": neighbors.count}
