"""What the report shows beside a run: other tools on the same checkpoint, and a search through recipes.

Both come as the JSON that their commands write (`pocketrec bench --peers`, `pocketrec compress --frontier`). A peer that failed
keeps its row, with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from ..runtime.errors import InputError
from .plots import Point, Trial, pareto_front, size_against_accuracy

Json = Mapping[str, Any]
OURS = ("bundle", "teacher")
PEERS_FIELDS = ("contestants", "reference", "settings", "model", "machine")
FRONTIER_FIELDS = ("trials", "teacher", "metric", "checkpoint", "settings")


def check_beside(found: Any, fields: tuple[str, ...], source: str, command: str) -> Json:
    """The object as it is; raises `InputError` where it is not what `command` writes."""
    missing = [name for name in fields if name not in found] if isinstance(found, dict) else list(fields)
    if missing:
        raise InputError(f"{source}: without {', '.join(missing)}; expected what `{command}` writes")
    return found


def peers_view(peers: Json) -> dict[str, Any]:
    """The rows, numbered as the points of the plot are, and the plot of those that were measured."""
    rows: list[dict[str, Any]] = [
        {
            **entry,
            "ours": entry["kind"] in OURS,
            "colour": _colour(entry["kind"]),
            "ndcg": _found(entry, "accuracy", "metrics", "ndcg@10"),
            "ratio": _found(entry, "kept", "ndcg@10", "ratio"),
            "agreement": _found(entry, "overlap", "overlap@10"),
            "times": {name: row for name, row in (entry["latency"] or {}).items() if row is not None},
        }
        for entry in peers["contestants"]
    ]
    points = [
        Point(
            str(number), row["colour"], row["size_bytes"], row["ndcg"]["value"], row["ndcg"]["low"],
            row["ndcg"]["high"],
        )
        for number, row in enumerate(rows, 1)
        if row["ndcg"] is not None and row["size_bytes"]
    ]  # fmt: skip
    operations = list(dict.fromkeys(name for row in rows for name in row["times"]))
    plot = size_against_accuracy(points, None, "NDCG@10") if points else None
    return {"rows": rows, "operations": operations, "plot": plot, "about": peers}


def frontier_view(frontier: Json) -> dict[str, Any]:
    """The plot of all trials, and the rows of those that nothing beats, smallest first."""
    trials = [
        Trial(_named(trial["params"]), trial["bytes"], trial["value"], on_front=trial["on_front"])
        for trial in frontier["trials"]
    ]
    front = sorted((trial for trial in frontier["trials"] if trial["on_front"]), key=lambda one: one["bytes"])
    title = f"validation {frontier['metric']}"
    plot: Markup | None = pareto_front(trials, frontier["teacher"]["value"], title) if trials else None
    return {
        "plot": plot,
        "front": [(trial, _named(trial["params"])) for trial in front],
        "timed": any(trial["rerank_ms"] is not None for trial in front),
        "about": frontier,
    }


def _named(params: Json) -> str:
    """Choices of a recipe, as people read them; a choice is a number or a name."""
    return ", ".join(
        f"{name.replace('_', ' ')} {value if isinstance(value, str) else f'{value:g}'}"
        for name, value in params.items()
    )


def _found(entry: Json, *path: str) -> Any:
    found: Any = entry
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _colour(kind: str) -> str:
    return {"bundle": "var(--s1)", "teacher": "var(--teacher)", "float32": "var(--teacher)"}.get(
        kind, "var(--s2)"
    )
