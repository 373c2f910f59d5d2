"""The road of item-item weights: prune -> table, measured, gated and published as any other.

Distillation, an encoder and adaptation mean nothing here, and the report says so: the weights are solved, not trained, and
there is neither a network nor a space of item vectors. What is measured is a bundle, opened by the runtime.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..benchmarks.evaluate import EngineScorer, Ranking, evaluate_ranks
from ..benchmarks.popularity import PopularityScorer, item_counts
from ..benchmarks.progress import Track
from ..benchmarks.protocols import Split
from ..export.neighbors_bundle import NeighborsContent, export_neighbors
from ..runtime.engine import Engine
from ..runtime.neighbors import Neighbors
from .budget import Budget
from .layouts import ItemItemTeacher
from .meter import ranking_measure
from .models.fold_in import MAX_LENGTH
from .models.item_item import strongest
from .neighbor_choice import choose_neighbors, neighbor_bytes, rounded_weights
from .publication import describe_rankings, provenance, rounded
from .recipe import Recipe
from .report import Measure, StepReport
from .rerank_time import rerank_ms
from .road import Built, manifest_bytes

SKIPPED = {
    "distill": "item-item weights are solved in one go; there is no network to teach",
    "encoder": "there is none: the history is looked up",
    "adapt": "items have no vectors to learn in; a click counts from the moment it joins the history",
}
VERIFIED_HISTORIES = 4
MANIFEST_BYTES = 7 << 10
"""What the manifest of a finished bundle takes at most, test metrics and all."""


class ItemItemRoad:
    """See `road.Road`; made by `pipeline.open_road`."""

    def __init__(
        self,
        teacher: ItemItemTeacher,
        training: list[NDArray[np.int64]],
        validation: Split,
        test: Split,
        folder: Path,
        *,
        name: str,
        teacher_name: str,
        seed: int,
        budget: Budget,
        metric: str,
        keep_repeats: bool,
        data: dict[str, Any] | None,
        track: Track,
        say: Callable[[StepReport], object],
    ) -> None:
        """`metric`: what validation chooses by, as `ranking_metrics.per_user` names it."""
        self.teacher, self.validation, self.test_split = teacher, validation, test
        self.folder, self.name, self.seed, self.budget, self.metric = folder, name, seed, budget, metric
        self.keep_repeats, self.track, self.say = keep_repeats, track, say
        self.counts = item_counts(training, teacher.model.n_items)
        self.prior_user = (self.counts / max(len(training), 1)).astype(np.float32)
        self.provenance = provenance(teacher, seed, data)
        source = {
            "name": teacher_name,
            "model": _describe(teacher.model),
            "recipe": None,
            "provenance": self.provenance,
        }
        self.original = self.export("teacher", teacher.model, source)
        self.before = self.measure(self.original, teacher.model, "teacher")

    def build(self, recipe: Recipe) -> Built:
        """See `Road.build`."""
        neighbors, steps = _run_steps(self, recipe)
        measure = steps[-1].after if steps else self.before
        built = Built(recipe=recipe, steps=tuple(steps), measure=measure, made=neighbors)
        draft, time_ms = self.export("timed", neighbors, {}), None
        if self.budget.max_latency_ms is not None:
            time_ms = rerank_ms(draft, self.validation.histories, seed=self.seed)
        size_bytes = draft.stat().st_size + manifest_bytes(self._manifest(built, {}))
        deployed = dataclasses.replace(measure, size_bytes=size_bytes, rerank_ms=time_ms)
        return dataclasses.replace(built, measure=deployed)

    def test(self, built: Built) -> dict[str, Any]:
        """See `Road.test`."""
        theirs = self.rank(self.original, self.test_split, "test teacher", n_top=10)
        ours = self.rank(self.export("draft", built.made, {}), self.test_split, "test bundle", n_top=10)
        popular = evaluate_ranks(
            PopularityScorer(self.counts), self.test_split, keep_repeats=self.keep_repeats, n_top=0
        )
        return describe_rankings(ours, theirs, popular, self.seed)

    def write(self, built: Built, metrics: dict[str, Any] | None) -> Path:
        """See `Road.write`."""
        return self.export("final", built.made, rounded(self._manifest(built, metrics)))

    def place(self, recipe: Recipe) -> object:
        """See `Road.place`."""
        return recipe.neighbors

    def export(self, draft: str, neighbors: Neighbors, manifest: dict[str, Any]) -> Path:
        """A draft, verified."""
        path = self.folder / f"{draft}.pocket"
        path.unlink(missing_ok=True)
        content = NeighborsContent(
            name=self.name, neighbors=neighbors, item_ids=self.teacher.item_ids, prior_user=self.prior_user,
            max_length=MAX_LENGTH, manifest=manifest,
        )  # fmt: skip
        step = max(1, len(self.validation) // VERIFIED_HISTORIES)
        export_neighbors(path, content, self.validation.histories[::step][:VERIFIED_HISTORIES])
        return path

    def room_bytes(self, bits: int) -> int | None:
        """What `--max-size` leaves for neighbours, their weights in `bits` bits; None is no limit."""
        if self.budget.max_size_bytes is None:
            return None
        least = rounded_weights(strongest(self.teacher.model, 1), bits)
        other = self.export("least", least, {}).stat().st_size - neighbor_bytes(least.n_items, bits)
        return max(0, self.budget.max_size_bytes - other - MANIFEST_BYTES)

    def rank(self, path: Path, split: Split, title: str, *, n_top: int = 0) -> Ranking:
        """Rank a split with a bundle through the runtime."""
        scorer = EngineScorer(Engine.load(path, verify=False))
        with self.track(title, len(split)) as advance:
            return evaluate_ranks(
                scorer, split, keep_repeats=self.keep_repeats, n_top=n_top, progress=advance
            )

    def measure(self, path: Path, neighbors: Neighbors, title: str) -> Measure:
        """Parameters are the weights that are stored."""
        ranking = self.rank(path, self.validation, f"measure {title}")
        return ranking_measure(path, neighbors.n_items * neighbors.count, ranking.ranks, self.metric)

    def _manifest(self, built: Built, metrics: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "model": _describe(built.made),
            "recipe": built.recipe.to_json(),
            "steps": [step.to_json() for step in built.steps],
            **({} if metrics is None else {"metrics": metrics}),
            "provenance": self.provenance,
        }


def _run_steps(road: ItemItemRoad, recipe: Recipe) -> tuple[Neighbors, list[StepReport]]:
    """The recipe's steps one after the other, each measured as it would be deployed at that point."""
    neighbors, steps = road.teacher.model, list[StepReport]()

    def report(name: str, detail: dict[str, Any], began: float) -> None:
        previous = steps[-1].after if steps else road.before
        after = previous
        if "skipped" not in detail:
            path = road.export(name, neighbors, {})
            after = road.measure(path, neighbors, name)
            path.unlink()
        seconds = time.perf_counter() - began
        steps.append(StepReport(name=name, before=previous, after=after, detail=detail, seconds=seconds))
        road.say(steps[-1])

    config, began = recipe.neighbors, time.perf_counter()
    if config is not None:
        neighbors, detail = choose_neighbors(
            neighbors, config, road.validation, max_bytes=road.room_bytes(config.bits), max_length=MAX_LENGTH,
            keep_repeats=road.keep_repeats, metric=road.metric,
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
