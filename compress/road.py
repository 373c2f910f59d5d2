"""What every road shares: a recipe becomes a bundle, and one bundle, within its budget, gets its name.

    build      a recipe -> a model, measured on validation as it would be deployed
    choose     the recipe's result; where it breaks the budget and there are rungs (`ladder`), gentler or harsher ones
    finish     the one that was chosen is ranked on the test items, once, and written with what was found

A budget that nothing meets ends in a `GateError` that names the nearest bundle; where it is asked for, that one is kept.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from ..runtime.bundle import RECORD, deflated_record
from ..runtime.errors import GateError
from .budget import Breach, Budget, breaches
from .ladder import Rungs
from .publication import release, rounded
from .recipe import Recipe
from .report import Measure, StepReport, lost

TEST_METRICS_BYTES = 2 << 10
"""What the record says of the test items takes up to this, deflated, which is added before they are looked at."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What a recipe made of the teacher."""

    recipe: Recipe
    steps: tuple[StepReport, ...]
    measure: Measure
    """As it would be deployed, manifest and all."""
    made: Any
    """What the road writes it from."""


class Road(Protocol):
    """One teacher on its data. All that it writes is in a folder of drafts."""

    @property
    def before(self) -> Measure:
        """The teacher, uncompressed, on validation."""
        ...

    @property
    def original(self) -> Path:
        """The teacher's draft."""
        ...

    def build(self, recipe: Recipe) -> Built:
        """Take the recipe's steps; nothing of the test items is seen."""
        ...

    def test(self, built: Built) -> dict[str, Any]:
        """What the manifest says of the test items or rows."""
        ...

    def write(self, built: Built, metrics: dict[str, Any] | None) -> Path:
        """A draft of the bundle with its whole manifest; None where the test items were not looked at."""
        ...

    def place(self, recipe: Recipe) -> object:
        """What the family takes from a recipe: two that agree in it are the same to it."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """Where results go."""

    path: Path
    teacher: Path | None = None
    nearest: Path | None = None
    """For the nearest bundle where the budget is broken; None throws it away."""
    overwrite: bool = False


def manifest_bytes(manifest: dict[str, Any]) -> int:
    """Bytes of a manifest without what it says of the test items, and of those, in a file that has none yet."""
    said = rounded(manifest)
    read = json.dumps(
        {k: v for k, v in said.items() if k not in RECORD}, separators=(",", ":"), ensure_ascii=False
    )
    record = deflated_record({k: v for k, v in said.items() if k in RECORD})
    return len(read.encode()) + len(record) + TEST_METRICS_BYTES


def take_road(
    road: Road,
    recipe: Recipe,
    outputs: Outputs,
    *,
    budget: Budget,
    rungs: Rungs,
    note: Callable[[str], object] = lambda line: None,
) -> tuple[Built, dict[str, Any], int]:
    """Build, choose, finish; what was chosen, its metrics on the test items, and its bytes.

    Raises:
        GateError: nothing that was tried meets the budget.
    """
    built, broken = _choose(road, recipe, budget, rungs, note)
    if broken:
        kept = ""
        if outputs.nearest is not None:
            final = road.write(built, road.test(built))
            release(final, outputs.nearest, original=road.original, overwrite=outputs.overwrite)
            kept = f", kept in {outputs.nearest}"
        raise GateError(_refusal(outputs, road.before, built, broken, kept))
    metrics = road.test(built)
    final = road.write(built, metrics)
    size_bytes = final.stat().st_size
    exact = dataclasses.replace(built.measure, size_bytes=size_bytes)
    if broken := breaches(budget, road.before, exact):
        raise GateError(_refusal(outputs, road.before, built, broken, ""))
    release(
        final,
        outputs.path,
        original=road.original,
        teacher_output=outputs.teacher,
        overwrite=outputs.overwrite,
    )
    return built, metrics, size_bytes


def _choose(
    road: Road, recipe: Recipe, budget: Budget, rungs: Rungs, note: Callable[[str], object]
) -> tuple[Built, list[Breach]]:
    """The first that meets the budget, or the one that comes nearest to it and what it breaks."""
    built = road.build(recipe)
    broken = breaches(budget, road.before, built.measure)
    nearest, seen = (built, broken), [road.place(recipe)]
    costs = any(breach.limit != "drop" for breach in broken)
    for rung in rungs.harsher if costs else rungs.gentler:
        # Further on, what was the matter only gets better, and what now is only worse.
        if not broken or costs != any(breach.limit != "drop" for breach in broken):
            break
        if (place := road.place(rung)) in seen:
            continue
        seen.append(place)
        note(f"budget: {_told(broken)}; trying {'harsher' if costs else 'gentler'} steps: {rung.name}")
        built = road.build(rung)
        broken = breaches(budget, road.before, built.measure)
        if _excess(broken) < _excess(nearest[1]):
            nearest = built, broken
    return nearest


def _excess(broken: list[Breach]) -> float:
    return sum(breach.excess for breach in broken)


def _told(broken: list[Breach]) -> str:
    return " and ".join(breach.text for breach in broken)


def _refusal(outputs: Outputs, before: Measure, nearest: Built, broken: list[Breach], kept: str) -> str:
    measure = nearest.measure
    what = [f"{measure.size_bytes:,} bytes", f"{before.figure[0]} {-lost(before, measure):+.2%}"]
    if measure.rerank_ms is not None:
        what.append(f"{measure.rerank_ms:.3g} ms")
    advice = "" if kept else "; --keep-nearest FILE keeps it"
    written = "nothing was written" if not kept else f"{outputs.path} was not written"
    return f"{outputs.path}: {_told(broken)}; {written}; nearest: {nearest.recipe.name} ({', '.join(what)}){kept}{advice}"
