"""How figures and their names are printed: the same in the terminal's table and in the report.

Three significant digits unless the field has its own habit (a metric has four decimals); the unit is always
there. A figure that does not exist is a dash.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeGuard

DASH = "\u2013"
TIMES = "\u00d7"
MISSING = DASH
METRIC_TITLES = {"hr": "HR", "ndcg": "NDCG", "mrr": "MRR", "auc": "AUC", "log_loss": "log loss"}
Number = float | int | None


def bytes_text(value: Number) -> str:
    """Decimal units, as app stores print them.

    >>> bytes_text(421_332), bytes_text(3_512_000), bytes_text(812), bytes_text(None)
    ('421 kB', '3.51 MB', '812 B', '–')
    """
    if not _known(value):
        return MISSING
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= size:
            return f"{significant(value / size)} {unit}"
    return f"{value:.0f} B"


def ms_text(value: Number) -> str:
    """A duration given in milliseconds.

    >>> ms_text(0.0423), ms_text(0.4231), ms_text(12.31), ms_text(1520.0)
    ('42.3 µs', '0.423 ms', '12.3 ms', '1.52 s')
    """
    if not _known(value):
        return MISSING
    if value >= 1000:
        return f"{significant(value / 1000)} s"
    return f"{significant(value * 1000)} µs" if value < 0.1 else f"{significant(value)} ms"


def metric_text(value: Number) -> str:
    """A ranking metric.

    >>> metric_text(0.05791)
    '0.0579'
    """
    return f"{value:.4f}" if _known(value) else MISSING


def percent_text(value: Number) -> str:
    """A share.

    >>> percent_text(0.9942)
    '99.4%'
    """
    return f"{value:.1%}" if _known(value) else MISSING


def ratio_text(value: Number) -> str:
    """How many times.

    >>> ratio_text(8.433), ratio_text(12.04), ratio_text(0.98)
    ('8.43×', '12.0×', '0.98×')
    """
    if not _known(value):
        return MISSING
    return f"{value:.2f}{TIMES}" if value < 10 else f"{significant(value)}{TIMES}"


def count_text(value: Number) -> str:
    """A whole number.

    >>> count_text(22363)
    '22,363'
    """
    return f"{round(value):,}" if _known(value) else MISSING


def rate_text(value: Number) -> str:
    """Calls a second, to three digits.

    >>> rate_text(3172.4), rate_text(41.28)
    ('3,170/s', '41.3/s')
    """
    return f"{significant(value)}/s" if _known(value) else MISSING


def bits_text(value: Number) -> str:
    """Information.

    >>> bits_text(11.237)
    '11.2 bits'
    """
    return f"{significant(value)} bits" if _known(value) else MISSING


def millijoules_text(value: Number) -> str:
    """Energy.

    >>> millijoules_text(12.345)
    '12.3 mJ'
    """
    return f"{significant(value)} mJ" if _known(value) else MISSING


def watts_text(value: Number) -> str:
    """Power.

    >>> watts_text(28.04)
    '28.0 W'
    """
    return f"{significant(value)} W" if _known(value) else MISSING


FORMATS = {
    "bits": bits_text,
    "bytes": bytes_text,
    "ms": ms_text,
    "metric": metric_text,
    "percent": percent_text,
    "ratio": ratio_text,
    "count": count_text,
    "rate": rate_text,
    "millijoules": millijoules_text,
    "watts": watts_text,
}


def interval_text(interval: Mapping[str, Number] | None, kind: str) -> str:
    """The two ends of an interval, the unit once; a dash where an end does not exist.

    >>> interval_text({"low": 0.9871, "high": 1.0021}, "percent")
    '98.7–100.2%'
    >>> interval_text({"low": 0.3, "high": None}, "ms")
    '≥ 0.300 ms'
    """
    if interval is None or not _known(interval.get("low")):
        return MISSING
    show = FORMATS[kind]
    low, high = show(interval["low"]), show(interval.get("high"))
    if high == MISSING:
        return f"≥ {low}"
    for unit in (" B", " kB", " MB", " GB", " µs", " ms", " s", "%", TIMES, "/s", " mJ"):
        if low.endswith(unit) and high.endswith(unit):
            return f"{low.removesuffix(unit)}{DASH}{high}"
    return f"{low}{DASH}{high}"


def metric_title(name: str) -> str:
    """`NDCG@10` for "ndcg@10", `AUC` for "auc"."""
    metric, _, k = name.partition("@")
    title = METRIC_TITLES.get(metric, metric)
    return f"{title}@{k}" if k else title


def operation_title(operation: str, size: int | None) -> str:
    """`rerank 100`, `load`, `encode 64 at once`, `load, cold cache`."""
    match operation:
        case "encode_batch":
            return f"encode {size} at once"
        case "load_cold":
            return "load, cold cache"
        case _:
            return f"{operation} {size}" if size else operation


def protocol_text(settings: Mapping[str, Any]) -> str:
    """How the data were split, from a results object's settings.

    >>> protocol_text({"protocol": "temporal", "split": {"cut": 891000000.0, "quantile": 0.9}})
    'temporal, cut at 891000000 (90% of the events before it)'
    """
    split = settings.get("split", {})
    if settings["protocol"] != "temporal":
        return settings["protocol"]
    share = "" if split["quantile"] is None else f" ({split['quantile']:.0%} of the events before it)"
    return f"temporal, cut at {split['cut']:.10g}{share}"


def flatten(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """The leaves of nested objects, as (dotted name, value); None is left out.

    >>> flatten({"prune": {"keep_ratio": 0.5, "seed": None}, "bits": 4})
    [('prune.keep_ratio', 0.5), ('bits', 4)]
    """
    if isinstance(value, Mapping):
        inner = [flatten(child, f"{prefix}.{name}" if prefix else str(name)) for name, child in value.items()]
        return [leaf for leaves in inner for leaf in leaves]
    if isinstance(value, list):
        if any(isinstance(entry, Mapping) for entry in value):  # a log, such as epochs: how long it is
            return [(f"{prefix} logged", len(value))]
        value = ", ".join(str(entry) for entry in value)
    return [] if value is None else [(prefix, value)]


def significant(value: float, digits: int = 3) -> str:
    """Rounded to significant digits, never in exponents.

    >>> significant(0.0004236), significant(3172.4), significant(99.96), significant(0.0)
    ('0.000424', '3,170', '100', '0')
    """
    if value == 0:
        return "0"
    value = float(f"{value:.{digits - 1}e}")
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def _known(value: Number) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
