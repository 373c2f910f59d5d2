"""What a pointwise bundle is timed with: users and moments of real rows, and lists of items to re-rank for them.

A list is drawn from the bundle's own items; of a model that names no item, from the rows' items, told feature by feature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..runtime.pointwise import PointwiseRanker
from ..runtime.pointwise_engine import PointwiseEngine
from .labelled_rows import LabelledRows
from .latency import Call


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledWorkload:
    """The same for every system."""

    people: Sequence[dict[str, Any]]
    """Features of users, as an app tells them."""
    moments: Sequence[dict[str, Any]]
    """Features of the context of each; empty where candidates carry their own."""
    catalogue: Sequence[Any]
    """What lists are drawn from: item ids, or features of items."""
    seed: int = 0

    def rerank(self, size: int, *, k: int = 10) -> Callable[[PointwiseRanker, int], Call]:
        """What makes the call of a round, for `latency.time_interleaved`: `size` distinct candidates ranked."""

        def prepare(ranker: PointwiseRanker, n: int) -> Call:
            picked = np.random.default_rng([self.seed, n]).choice(len(self.catalogue), size, replace=False)
            candidates = [self.catalogue[place] for place in picked.tolist()]
            user, context = self.people[n % len(self.people)], self.moments[n % len(self.moments)]
            return lambda: ranker.rerank(candidates, user=user, context=context, k=k)

        return prepare


def labelled_workload(
    engine: PointwiseEngine, rows: LabelledRows, n_users: int, seed: int
) -> LabelledWorkload:
    """Of at most `n_users` of the rows, drawn without replacement."""
    drawn = np.random.default_rng(seed).permutation(len(rows))[:n_users].tolist()
    people = [raw_features(engine, rows, n, ("user",)) for n in drawn]
    if engine.item is None:  # each candidate is told whole
        told = [raw_features(engine, rows, n, ("item", "context")) for n in drawn]
        return LabelledWorkload(people=people, moments=[{} for _ in drawn], catalogue=told, seed=seed)
    moments = [raw_features(engine, rows, n, ("context",)) for n in drawn]
    ids = engine.vocabularies[engine.item].ids(range(engine.schema.field(engine.item).size - 1))
    return LabelledWorkload(people=people, moments=moments, catalogue=list(ids), seed=seed)


def raw_features(engine: PointwiseEngine, rows: LabelledRows, n: int, sides: Sequence[str]) -> dict[str, Any]:
    """Row n as an app would tell it, the fields of some sides only; None for an unknown token."""
    told = dict[str, Any]()
    for field in engine.schema.fields:
        if field.side not in sides:
            continue
        value = rows.columns[field.name][n]
        match field.kind:
            case "float":
                told[field.name] = float(field.low + value * (field.high - field.low))
            case "token":
                told[field.name] = engine.vocabularies[field.name].ids([value - 1])[0] if value else None
            case _:
                told[field.name] = engine.vocabularies[field.name].ids(value[value > 0] - 1)
    return told
