"""Limits on what a measured bundle may cost, and which of them hold: `pocketrec bench --max-drop --max-size --max-latency`.

    drop      share of the reference's headline metric that is lost on the test: 1 - bundle / reference (of a log loss, the
              other way round)
    size      bytes of the whole file
    latency   median milliseconds to re-rank 100 candidates (where the catalogue has so many), first number of threads

A gate is judged by the figure itself. `certain` says whether its 95% interval lies on the same side of the limit: a gate
that passes uncertainly may fail the next time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .number_format import bytes_text, ms_text, percent_text

Json = Mapping[str, Any]
HEADLINE_METRIC = "ndcg@10"
HEADLINE_CANDIDATES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What every bundle but the reference must keep to; None is no limit."""

    max_drop: float | None = None
    max_size_bytes: int | None = None
    max_latency_ms: float | None = None


def headline_rows(results: Json) -> list[Json]:
    """The latency rows of re-ranking 100 candidates (else the most that were measured) on the first number of threads."""
    threads = results["settings"]["threads"][0]
    rows = [row for row in results["latency"] if row["operation"] == "rerank" and row["threads"] == threads]
    sizes = {row["size"] for row in rows}
    size = HEADLINE_CANDIDATES if HEADLINE_CANDIDATES in sizes else max(sizes, default=None)
    return [row for row in rows if row["size"] == size]


def judge(results: Json, limits: Limits) -> list[dict[str, Any]]:
    """`{system, gate, limit, value, passed, certain}` for every bundle and limit; a limited drop needs a reference."""
    judged = [system for system in results["systems"] if system["name"] != results["reference"]]
    return [gate for system in judged or results["systems"] for gate in _of(system, results, limits)]


def failed(gates: Sequence[Json]) -> list[Json]:
    """Those that did not hold."""
    return [gate for gate in gates if not gate["passed"]]


def gate_text(gate: Json) -> str:
    """One limit and what was measured.

    >>> gate = {"system": "b", "gate": "size", "limit": 4e5, "value": 421332, "passed": False, "certain": True}
    >>> gate_text(gate)
    'b: size 421 kB, limit 400 kB: broken'
    """
    show = {"drop": percent_text, "size": bytes_text, "latency": ms_text}[gate["gate"]]
    verdict = "kept" if gate["passed"] else "broken"
    doubt = "" if gate["certain"] else ", but the interval holds the limit"
    return f"{gate['system']}: {gate['gate']} {show(gate['value'])}, limit {show(gate['limit'])}: {verdict}{doubt}"


def _of(system: Json, results: Json, limits: Limits) -> Iterator[dict[str, Any]]:
    name = system["name"]
    if limits.max_drop is not None:
        metric = results["settings"].get("headline_metric", HEADLINE_METRIC)
        ratio = results["comparisons"][name]["accuracy"]["metrics"][metric]["ratio"]
        value, low, high = (
            None if ratio[end] is None else 1 - ratio[end] for end in ("value", "high", "low")
        )
        yield _gate(name, "drop", limits.max_drop, value, (low, high))
    if limits.max_size_bytes is not None:
        yield _gate(name, "size", limits.max_size_bytes, system["size_bytes"], (system["size_bytes"],) * 2)
    if limits.max_latency_ms is not None:
        row = next((row for row in headline_rows(results) if row["system"] == name), None)
        p50 = row["p50"] if row else {"value": None, "low": None, "high": None}
        yield _gate(name, "latency", limits.max_latency_ms, p50["value"], (p50["low"], p50["high"]))


def _gate(
    system: str, gate: str, limit: float, value: float | None, ends: tuple[float | None, float | None]
) -> dict[str, Any]:
    """A figure that could not be measured does not pass."""
    passed = value is not None and value <= limit
    certain = all(end is not None and (end <= limit) == passed for end in ends)
    return {
        "system": system, "gate": gate, "limit": limit, "value": value, "passed": passed, "certain": certain,
    }  # fmt: skip
