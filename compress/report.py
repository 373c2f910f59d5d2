"""What a compression step did: one record a step, for the command line, the manifest and the report."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

LOG_LOSS = "log loss"
"""The one figure of which less is better."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A model at one point of the road."""

    size_bytes: int
    """Deployed bytes, ids and manifest included, were the model exported as it is."""
    parameters: int
    """Numbers that the model is made of, at whatever width they are stored."""
    ndcg10: float = math.nan
    """NDCG@10 on the validation item, full ranking; NaN of a pointwise model."""
    auc: float | None = None
    """AUC on the validation rows, of a pointwise model; it chooses then."""
    other: tuple[str, float] | None = None
    """Another metric that validation chooses by (`--metric`): its title and value."""
    rerank_ms: float | None = None
    """Median time to re-rank 100 candidates; None where it was not asked for."""

    @property
    def figure(self) -> tuple[str, float]:
        """What validation chooses by: its name and value."""
        if self.other is not None:
            return self.other
        return ("NDCG@10", self.ndcg10) if self.auc is None else ("AUC", self.auc)

    def to_json(self) -> dict[str, Any]:
        figure = {"ndcg10": self.ndcg10} if self.auc is None else {"auc": self.auc}
        if self.other is not None:
            figure[self.other[0].lower()] = self.other[1]
        if self.rerank_ms is not None:
            figure["rerank_ms"] = self.rerank_ms
        return {"bytes": self.size_bytes, "parameters": self.parameters, **figure}


def lost(before: Measure, after: Measure) -> float:
    """The share of the figure that is lost, negative where it is better; 0 where there was nothing to lose.

    >>> before = Measure(size_bytes=1, parameters=1, ndcg10=0.5)
    >>> round(lost(before, Measure(size_bytes=1, parameters=1, ndcg10=0.45)), 3)
    0.1
    """
    (title, was), (_, now) = before.figure, after.figure
    if not was > 0:
        return 0.0
    return now / was - 1 if title == LOG_LOSS else 1 - now / was


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """Before -> after of one step."""

    name: str
    before: Measure
    after: Measure
    detail: Mapping[str, Any]
    """What was decided and found. `skipped` alone, with the reason, where the step means nothing for the model."""
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "detail": dict(self.detail),
            "seconds": round(self.seconds, 2),
        }

    def line(self) -> str:
        """One line for people: `prune: 3,516,480 -> 3,320,000 B (1.06x), ...`."""
        if "skipped" in self.detail:
            return f"{self.name:<9} skipped: {self.detail['skipped']}"
        before, after = self.before, self.after
        (title, was), (_, now) = before.figure, after.figure
        if "re_ranking_percent" in self.detail:
            gains = ", ".join(
                f"{source} {gain:+.1f}% [{low:+.1f}, {high:+.1f}]"
                for source, (gain, low, high) in self.detail["re_ranking_percent"].items()
            )
            return (
                f"{self.name:<9} {before.size_bytes:>11,} -> {after.size_bytes:>11,} B ({before.size_bytes / after.size_bytes:5.2f}x)   "
                f"NDCG@10 of re-ranking from the first feedback on: {gains}   {self.seconds:6.1f} s"
            )
        return (
            f"{self.name:<9} {before.size_bytes:>11,} -> {after.size_bytes:>11,} B ({before.size_bytes / after.size_bytes:5.2f}x)   "
            f"{before.parameters:>10,} -> {after.parameters:>10,} parameters   "
            f"{title} {was:.4f} -> {now:.4f} ({_percent(now, was)})   {self.seconds:6.1f} s"
        )


def _percent(after: float, before: float) -> str:
    return f"{(after / before - 1):+.1%}" if before > 0 else "n/a"
