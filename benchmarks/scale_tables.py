"""The README's tables of catalogue scoring and of how cost grows, from the files of `scoring` and `scale`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .number_format import bytes_text, ms_text

Json = Mapping[str, Any]
Results = Mapping[str, Json]
"""By file name without its ending, below `benchmarks/results`."""

SCORING = "scoring/"
SCALE = "scale/"
_TITLES = {
    "float32": "MatMul + TopK, float32",
    "quantize_dynamic": "the same after `quantize_dynamic`",
    "pocketrec": "pocketrec, {bits} bits",
}
_AXES = ("catalogue", "history", "candidates", "users")


def scoring_table(results: Results) -> list[str]:
    """Time, bytes and exactness of each system, one row each."""
    found = results.get(f"{SCORING}catalogue-1m")
    if found is None:
        return []
    settings, systems = found["settings"], found["results"]["systems"]
    lines = [
        f"| best {settings['k']} of {settings['items']:,} x {settings['width']} | table | p50 | worked | of the exact best "
        "| pocketrec is faster by (95% interval) |",
        "|---|---|---|---|---|---|",
    ]
    for name, system in systems.items():
        speedup = found["results"]["speedups"].get(name)
        faster = ""
        if speedup is not None:
            ratio = speedup["ratio"]
            faster = f"**{ratio['value']:.1f}x** ({ratio['low']:.1f} to {ratio['high']:.1f}); by its work {speedup['cpu_ratio']:.1f}x"
        cells = (
            _TITLES[name].format(bits=settings["bits"]),
            bytes_text(system["table_bytes"]),
            ms_text(system["p50"]["value"]),
            ms_text(system["cpu_ms"]),
            f"{system['agreement']:.0%}",
            faster,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def scale_table(results: Results) -> list[str]:
    """A row for each series: its first, middle and last point, its line, and where it leaves it."""
    lines = [
        "| what grows | cost | | | | fixed + slope | off the line, at most |",
        "|---|---|---|---|---|---|---|",
    ]
    for axis in _AXES:
        found = results.get(f"{SCALE}{axis}")
        if found is None:
            continue
        title = axis
        for series in found["results"]["series"]:
            points = series["points"]
            shown = [points[0], points[len(points) // 2], points[-1]]
            costs = (f"{point['size']:,}: {_cost(series, point['value'])}" for point in shown)
            line = f"{_cost(series, series['fixed'])} + {_slope(series)}"
            lines.append(f"| {' | '.join((title, series['name'], *costs, line, _off(series)))} |")
            title = ""
    return lines


def scale_lines(results: Results) -> list[str]:
    """`describe_series` of every series, as a list."""
    found = (results[f"{SCALE}{axis}"] for axis in _AXES if f"{SCALE}{axis}" in results)
    return [f"- {describe_series(series)}" for of in found for series in of["results"]["series"]]


def describe_series(series: Json) -> str:
    """One sentence: the line, how straight it is, and each knee.

    >>> line = {"fixed": 0.2, "per_unit": 4e-6, "balanced_at": 5e4, "largest_deviation": -0.1, "knees": []}
    >>> describe_series({"name": "the best 10", "unit": "items", "quantity": "ms", **line})
    'the best 10: 0.200 ms + 4.00 ms per 1,000,000 items; both weigh the same at 50,000; no point is more than 10% off'
    """
    said = f"{series['name']}: {_cost(series, series['fixed'])} + {_slope(series)}"
    if series["balanced_at"] is not None:
        said += f"; both weigh the same at {series['balanced_at']:,.0f}"
    said += f"; no point is more than {abs(series['largest_deviation']):.0%} off"
    for knee in series["knees"]:
        slopes = (_slope({**series, "per_unit": knee[name]}) for name in ("slope_before", "slope_after"))
        said += f"; at {knee['at']:,} the slope changes from {' to '.join(slopes)}"
    return said


def _off(series: Json) -> str:
    knees = ", ".join(f"{knee['at']:,}" for knee in series["knees"])
    return f"{series['largest_deviation']:+.0%}" + (f"; bends at {knees}" if knees else "")


def _slope(series: Json) -> str:
    """By as many units as make a readable number."""
    count = 1
    least = 0.01 if series["quantity"] == "ms" else 1.0
    while abs(series["per_unit"]) * count < least and abs(series["per_unit"]) > 0 and count < 1_000_000:
        count *= 1000
    unit = series["unit"].removesuffix("s") if count == 1 else f"{count:,} {series['unit']}"
    return f"{_cost(series, series['per_unit'] * count)} per {unit}"


def _cost(series: Json, value: float) -> str:
    if value == 0:
        return "0"
    return ms_text(value) if series["quantity"] == "ms" else bytes_text(value)
