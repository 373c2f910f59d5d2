"""Tables of `docs/adaptation.md`, written from the committed results by `readme_tables`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .replay_summary import span_name

Results = Mapping[str, Mapping[str, Any]]

ADAPTATION = "adaptation/"
SIMULATED = f"{ADAPTATION}ml-100k-simulated"
NEW_USERS = (
    ("99 by popularity", "ml-100k-new-users-popularity"),
    ("catalogue", "ml-100k-new-users-catalogue"),
)


def new_users_table(results: Results) -> list[str]:
    """How soon a user without a history gains: NDCG@10 by event, and the gain up to there."""
    lines = [
        "| MovieLens-100K, new users; candidates | event | model, live | calibrated | learning "
        "| up to there, over live (95% interval) | over calibrated |",
        "|---|---|---|---|---|---|---|",
    ]
    for title, name in NEW_USERS:
        for point in results[f"{ADAPTATION}{name}"]["new_users_learning_curve"]:
            over = {gain["over"]: gain["percent"] for gain in point["gains_so_far"]}
            cells = (
                title,
                span_name(point),
                *(f"{point[system]:.3f}" for system in ("live", "calibrated", "adaptive")),
                *(_percent(over[baseline]) for baseline in ("live", "calibrated")),
            )
            lines.append(f"| {' | '.join(cells)} |")
            title = ""
    return lines


def swaps_table(results: Results) -> list[str]:
    """How soon the device ranks as if it had never met the other person: the file of `benchmarks.simulate`."""
    found = results[SIMULATED]["swapped_tastes"]
    lines = [
        f"| events since the swap ({found['people']} people, {found['swaps']:,} swaps) | learning: swapped over steady "
        "| the model alone | a new device over steady | learning over the model alone |",
        "|---|---|---|---|---|",
    ]
    for span in found["spans"]:
        ratios = ("recovered", "recovered_live", "new_over_steady", "swapped_over_live")
        cells = (span_name(span), *(_ratio(span[name]) for name in ratios))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def clicks_table(results: Results) -> list[str]:
    """What learning from biased clicks gains, corrected or not: the file of `benchmarks.simulate`."""
    lines = [
        "| place k is seen with | clicks | as they are, over frozen | examination given, over frozen | estimated, over frozen "
        "| given, over as they are | estimated, over as they are |",
        "|---|---|---|---|---|---|---|",
    ]
    for found in results[SIMULATED]["biased_clicks"]["strengths"]:
        gains = {(gain["system"], gain["over"]): gain["percent"] for gain in found["gains"]}
        asked = [(system, "frozen") for system in ("naive", "given", "estimated")]
        asked += [(system, "naive") for system in ("given", "estimated")]
        cells = (
            f"1/k^{found['eta']:g}" if found["eta"] else "certainty",
            f"{found['clicks']['naive']:,}",
            *(_percent(gains[pair]) for pair in asked),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _percent(interval: Mapping[str, float | None]) -> str:
    value, low, high = (interval[name] for name in ("value", "low", "high"))
    return f"{value:+.1f}% [{low:+.1f}, {high:+.1f}]" if None not in (value, low, high) else ""


def _ratio(interval: Mapping[str, float | None]) -> str:
    value, low, high = (interval[name] for name in ("value", "low", "high"))
    return f"{value:.2f} [{low:.2f}, {high:.2f}]" if None not in (value, low, high) else ""
