"""The report's two plots, and a search's front, as inline SVG: text stays text, colours are CSS variables, so both themes and print work.

Drawn at the width of a phone (`WIDTH`) and scaled up on wider screens, so that labels can be read
everywhere. Bars and intervals are not drawn here: they are HTML in the template, where text keeps its size
by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from .number_format import bytes_text, metric_text, ms_text

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 60, 16, 30, 46
CHARACTER = 8.6
"""Mean width of a character at the labels' size: to keep labels apart without measuring text."""


@dataclass(frozen=True, slots=True)
class Point:
    """One system in the plot of size against accuracy."""

    label: str
    colour: str
    """A CSS colour, such as var(--s1)."""
    size_bytes: float
    value: float
    low: float
    high: float


def size_against_accuracy(points: Sequence[Point], popularity: float | None, metric: str) -> Markup:
    """Systems by bytes (logarithmic) and by accuracy (from zero, with intervals); popularity, where known, as a line."""
    sizes = [point.size_bytes for point in points]
    x = _Scale(min(sizes) / 1.6, max(sizes) * 1.6, LEFT, WIDTH - RIGHT, logarithmic=True)
    highest = max([popularity or 0.0, *(point.high for point in points)])
    y = _Scale(0.0, highest * 1.15 or 1.0, HEIGHT - BOTTOM, TOP)
    drawn = [*_frame(x, y, bytes_tick, lambda value: f"{value:.2f}", "deployed bytes", metric)]
    if popularity is not None:
        line = y(popularity)
        drawn.append(f'<line class="dash" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{line:.1f}" y2="{line:.1f}"/>')
        drawn.append(_text(LEFT + 6, line - 6, f"popularity {metric_text(popularity)}", "muted"))
    taken: list[tuple[float, float, float, float]] = []
    for point in points:
        left, top = x(point.size_bytes), y(point.value)
        taken.append((left - 7, y(point.high), left + 7, y(point.low)))
        drawn.append(
            f'<g style="stroke:{escape(point.colour)}" stroke-width="2" stroke-linecap="round">'
            f'<line x1="{left:.1f}" x2="{left:.1f}" y1="{y(point.low):.1f}" y2="{y(point.high):.1f}"/>'
            f'<circle cx="{left:.1f}" cy="{top:.1f}" r="4.5" style="fill:{escape(point.colour)};stroke:var(--card)"/>'
            f"<title>{escape(point.label)}: {bytes_text(point.size_bytes)}, {metric_text(point.value)}</title></g>"
        )
    drawn += [
        _label(point, x(point.size_bytes), y(point.low), y(point.high), taken)
        for point in sorted(points, key=lambda point: point.size_bytes)
    ]
    return _svg(drawn, f"{metric} against deployed bytes")


@dataclass(frozen=True, slots=True)
class Curve:
    """The distribution of one system's calls."""

    label: str
    colour: str
    percentiles_ms: Sequence[float]
    """101 values, of 0% to 100%."""


def cumulative_latency(curves: Sequence[Curve], title: str) -> Markup:
    """Share of calls that were answered within a time (logarithmic); drawn up to the 99th percentile."""
    lowest = min(curve.percentiles_ms[0] for curve in curves)
    highest = max(curve.percentiles_ms[99] for curve in curves)
    x = _Scale(lowest * 0.9, highest * 1.1, LEFT, WIDTH - RIGHT, logarithmic=True)
    y = _Scale(0.0, 1.0, HEIGHT - BOTTOM, TOP)
    drawn = [*_frame(x, y, ms_tick, lambda value: f"{value:.0%}", title, "calls answered")]
    for curve in curves:
        places = " ".join(f"{x(ms):.1f},{y(n / 100):.1f}" for n, ms in enumerate(curve.percentiles_ms[:100]))
        half = curve.percentiles_ms[50]
        drawn.append(
            f'<g style="stroke:{escape(curve.colour)}" fill="none" stroke-width="2.2" stroke-linejoin="round">'
            f'<polyline points="{places}"/>'
            f'<circle cx="{x(half):.1f}" cy="{y(0.5):.1f}" r="4" style="fill:{escape(curve.colour)}"/>'
            f"<title>{escape(curve.label)}: half of the calls within {ms_text(half)}</title></g>"
        )
    return _svg(drawn, title)


@dataclass(frozen=True, slots=True)
class Trial:
    """One bundle of a search."""

    label: str
    size_bytes: float
    value: float
    on_front: bool


def pareto_front(trials: Sequence[Trial], teacher: float, metric: str) -> Markup:
    """Bundles by bytes (logarithmic) and by a metric: those that nothing beats as a line, the others pale; the teacher's
    metric as a dashed line. The metric's axis begins near the lowest value: what is small here is the difference."""
    sizes, values = [trial.size_bytes for trial in trials], [teacher, *(trial.value for trial in trials)]
    room = (max(values) - min(values)) * 0.12 or abs(teacher) * 0.05 or 1.0
    x = _Scale(min(sizes) / 1.25, max(sizes) * 1.25, LEFT, WIDTH - RIGHT, logarithmic=True)
    y = _Scale(min(values) - room, max(values) + room, HEIGHT - BOTTOM, TOP)
    drawn = [*_frame(x, y, bytes_tick, metric_text, "deployed bytes", metric)]
    line = y(teacher)
    drawn.append(f'<line class="dash" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{line:.1f}" y2="{line:.1f}"/>')
    drawn.append(_text(LEFT + 6, line - 6, f"teacher {metric_text(teacher)}", "muted"))
    front = sorted((trial for trial in trials if trial.on_front), key=lambda trial: trial.size_bytes)
    places = " ".join(f"{x(trial.size_bytes):.1f},{y(trial.value):.1f}" for trial in front)
    drawn.append(f'<polyline points="{places}" fill="none" stroke-width="2" style="stroke:var(--s1)"/>')
    for trial in sorted(trials, key=lambda trial: trial.on_front):
        look = "fill:var(--s1);stroke:var(--card)" if trial.on_front else "fill:var(--muted);opacity:.45"
        said = f"{trial.label}: {bytes_text(trial.size_bytes)}, {metric_text(trial.value)}"
        drawn.append(
            f'<circle cx="{x(trial.size_bytes):.1f}" cy="{y(trial.value):.1f}" r="{4.5 if trial.on_front else 3.2}" '
            f'style="{look}"><title>{escape(said)}</title></circle>'
        )
    return _svg(drawn, f"{metric} against deployed bytes")


_ALONE = (
    "svg{--card:#fff;--ink:#182026;--muted:#59656e;--line:#dfe3e1;--s1:#0c7d74;background:var(--card);"
    "font:12px system-ui,sans-serif}"
    "@media(prefers-color-scheme:dark){svg{--card:#171c20;--ink:#e7ebed;--muted:#9aa7b0;--line:#2a3238;--s1:#2fc9ba}}"
    "text{fill:var(--ink)}.muted{fill:var(--muted)}.grid{stroke:var(--line)}.tick{stroke:var(--muted)}"
    ".dash{stroke:var(--muted);stroke-dasharray:5 4}"
)
"""The report's colours and lines, for a plot that no page is around; see `report.html.jinja`."""


def standalone(plot: Markup) -> str:
    """A plot as a file of its own, light or dark as its reader's system is."""
    opening, rest = str(plot).split(">", 1)
    return f"{opening}><style>{_ALONE}</style>{rest}\n"


@dataclass(frozen=True, slots=True)
class Growth:
    """How one cost grows."""

    label: str
    colour: str
    points: Sequence[tuple[float, float]]
    """Sizes, ascending, and costs; both above zero."""
    fixed: float
    """The line's cost at size 0; see `scale_line`."""
    per_unit: float


def cost_growth(growths: Sequence[Growth], unit: str, quantity: str) -> Markup:
    """Costs by size, both logarithmic: points, and the straight line of each, which these axes bend, dashed.

    Args:
        unit: of the sizes, such as items.
        quantity: of the costs: ms or bytes.
    """
    sizes = [size for growth in growths for size, _ in growth.points]
    costs = [cost for growth in growths for _, cost in growth.points]
    x = _Scale(min(sizes) / 1.3, max(sizes) * 1.3, LEFT, WIDTH - RIGHT, logarithmic=True)
    y = _Scale(min(costs) / 1.6, max(costs) * 1.6, HEIGHT - BOTTOM, TOP, logarithmic=True)
    show = ms_tick if quantity == "ms" else bytes_tick
    drawn = [*_frame(x, y, lambda size: f"{size:,.0f}", show, unit, "")]
    for n, growth in enumerate(growths):
        first, last = growth.points[0][0], growth.points[-1][0]
        steps = [first * (last / first) ** (n / 60) for n in range(61)]
        lined = [(size, growth.fixed + growth.per_unit * size) for size in steps]
        places = " ".join(f"{x(s):.1f},{y(cost):.1f}" for s, cost in lined if y.low <= cost <= y.high)
        colour = escape(growth.colour)
        drawn.append(
            f'<polyline points="{places}" fill="none" stroke-dasharray="4 3" stroke-width="1.6" style="stroke:{colour}"/>'
        )
        drawn += [
            f'<circle cx="{x(size):.1f}" cy="{y(cost):.1f}" r="4" style="fill:{colour}">'
            f"<title>{escape(growth.label)}: {show(cost)} at {size:,.0f}</title></circle>"
            for size, cost in growth.points
        ]
        drawn.append(
            f'<text class="name" x="{LEFT + 6}" y="{TOP + 6 + 15 * n}" style="fill:{colour}">{escape(growth.label)}</text>'
        )
    return _svg(drawn, f"cost by {unit}")


def ms_tick(value: float) -> str:
    """A round number of milliseconds.

    >>> ms_tick(0.05), ms_tick(0.2), ms_tick(10.0)
    ('50 µs', '0.2 ms', '10 ms')
    """
    return f"{value * 1000:g} µs" if value < 0.1 else f"{value:g} ms"


def bytes_tick(value: float) -> str:
    """A round number of bytes.

    >>> bytes_tick(200e3), bytes_tick(2e6)
    ('200 kB', '2 MB')
    """
    unit, size = next(
        (unit, size) for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1)) if value >= size
    )
    return f"{value / size:g} {unit}"


class _Scale:
    """From values to pixels."""

    def __init__(self, low: float, high: float, first: float, last: float, *, logarithmic: bool = False):
        self._to = math.log10 if logarithmic else float
        self.logarithmic, self.low, self.high, self.first, self.last = logarithmic, low, high, first, last

    def __call__(self, value: float) -> float:
        place = (self._to(value) - self._to(self.low)) / (self._to(self.high) - self._to(self.low))
        return self.first + place * (self.last - self.first)

    def ticks(self) -> list[float]:
        """Round values: steps of 1, 2 or 5, or in a logarithmic scale 1, 2 and 5 of each decade."""
        if self.logarithmic:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            span = math.log10(self.high / self.low)
            digits = (1, 2, 5) if span < 2 else (1,)
            if span < 0.5:
                digits = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
            ticks = [digit * 10.0**decade for decade in decades for digit in digits]
        else:
            rough = (self.high - self.low) / 4
            power = 10.0 ** math.floor(math.log10(rough))
            step = next(digit * power for digit in (1, 2, 2.5, 5, 10) if digit * power >= rough * 0.999)
            ticks = [step * n for n in range(math.floor(self.high / step) + 1)]
        return [tick for tick in ticks if self.low <= tick <= self.high * 1.0001]


Show = Callable[[float], str]


def _frame(x: _Scale, y: _Scale, show_x: Show, show_y: Show, title_x: str, title_y: str) -> list[str]:
    drawn = []
    for tick in y.ticks():
        place = y(tick)
        drawn.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place:.1f}" y2="{place:.1f}"/>'
        )
        drawn.append(_text(LEFT - 8, place + 4, show_y(tick), "muted", "end"))
    for tick in x.ticks():
        place, bottom = x(tick), HEIGHT - BOTTOM
        drawn.append(
            f'<line class="tick" x1="{place:.1f}" x2="{place:.1f}" y1="{bottom}" y2="{bottom + 4}"/>'
        )
        drawn.append(_text(place, bottom + 17, show_x(tick), "muted", "middle"))
    drawn.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, title_x, "muted", "middle"))
    drawn.append(_text(4, 12, title_y, "muted"))
    return drawn


def _label(
    point: Point, left: float, bottom: float, top: float, taken: list[tuple[float, float, float, float]]
) -> str:
    """The name of a point, at the first place around it that is free; `taken` learns of it."""
    width = CHARACTER * len(point.label)
    centred = min(max(left, LEFT + width / 2 + 2), WIDTH - RIGHT - width / 2)
    places = [(centred, top - 7), (centred, bottom + 16), (centred, top - 25), (centred, bottom + 34)]
    places += [(centred, top - 43), (centred, bottom + 52)]
    aside = [
        (left + way * (width / 2 + 9), (top + bottom) / 2 + drop) for drop in (4, -14, 22) for way in (1, -1)
    ]
    places += [(at, line) for at, line in aside if LEFT + width / 2 < at < WIDTH - RIGHT - width / 2]
    boxes = [(at - width / 2, line - 13, at + width / 2, line + 4) for at, line in places]
    free = [
        n for n, box in enumerate(boxes) if box[1] > TOP and not any(_overlap(box, other) for other in taken)
    ]
    best = free[0] if free else 0
    taken.append(boxes[best])
    at, line = places[best]
    colour = f' style="fill:{escape(point.colour)}"'
    return f'<text class="name" x="{at:.1f}" y="{line:.1f}" text-anchor="middle"{colour}>{escape(point.label)}</text>'


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(drawn: Sequence[str], title: str) -> Markup:
    body = "".join(drawn)
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}"'
        f' xmlns="http://www.w3.org/2000/svg">{body}</svg>'
    )
