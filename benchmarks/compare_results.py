"""Two runs of `pocketrec bench` compared: what became better, what worse, and what is worse beyond a threshold.

- Bytes are exact, and a ranking metric of the same users on the same data is as good as exact: it has no noise between two
  runs, only between two samples of users, and its interval is of those. What is beyond the threshold counts. Where
  the reference is the same too, the share kept of it is compared, else the metric itself.
- A latency is compared as the speed-up over the run's own reference where both runs measured the same reference, because
  two machines, or one machine on two days, are never equally fast; else as milliseconds, and only between runs of one
  machine. It counts where it is beyond the threshold and the intervals do not overlap.
- Peak memory is compared as what the system adds to numpy and onnxruntime.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..runtime.errors import InputError
from .number_format import FORMATS, interval_text, metric_title, operation_title
from .ranking_metrics import Interval

Json = Mapping[str, Any]
Verdict = Literal["worse", "better", "same"]
METRICS = ("ndcg@10", "hr@10", "mrr@10")
TIMED = ("ms", "ratio")
"""Kinds of figures that differ from run to run by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Relative changes that are tolerated: 0.01 is 1%."""

    accuracy: float = 0.01
    size: float = 0.01
    latency: float = 0.1
    memory: float = 0.1


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of one system in both runs."""

    system: str
    figure: str
    """Such as "bytes", "NDCG@10 kept", "rerank 100, 1 thread, speed-up"."""
    kind: str
    """How it is printed: a key of `number_format.FORMATS`."""
    before: Interval
    after: Interval
    relative: float
    """How much worse, relative to before: positive is worse, whichever direction that is."""
    verdict: Verdict

    def cells(self) -> tuple[str, ...]:
        """For a table: system, figure, before, after, change for the worse, verdict."""
        return (
            self.system,
            self.figure,
            _shown(self.before, self.kind),
            _shown(self.after, self.kind),
            better_text(self.relative),
            self.verdict,
        )


def compare_results(
    before: Json, after: Json, thresholds: Thresholds = Thresholds()
) -> tuple[list[Change], list[str]]:
    """Every figure that both runs have, and one line for each that cannot be compared.

    Systems are matched by name; where each run has one bundle beside its reference, those two are.

    Raises:
        InputError: the runs have no system in common.
    """
    changes: list[Change] = []
    notes: list[str] = []
    same_questions = _questions(before) == _questions(after)
    if not same_questions:
        notes.append(
            f"accuracy is not compared: {before['data']['source']} ({before['settings']['protocol']}) and "
            f"{after['data']['source']} ({after['settings']['protocol']}) ask different questions"
        )
    same_reference = _reference_fingerprint(before) is not None and (
        _reference_fingerprint(before) == _reference_fingerprint(after)
    )
    same_machine = _machine(before) == _machine(after)
    if not (same_reference or same_machine):
        notes.append("latency is not compared: neither the machine nor the reference is the same")
    for old, new in _pairs(before, after):
        name = new["name"]
        changes.append(
            _change(name, "bytes", "bytes", _exact(old["size_bytes"]), _exact(new["size_bytes"]), thresholds.size, lower=True)
        )  # fmt: skip
        if same_questions:
            changes += _accuracy(name, before, after, old, new, thresholds, same_reference)
        if same_reference or same_machine:
            changes += _latency(name, before, after, old, new, thresholds, same_reference)
        for task in ("rerank", "recommend"):
            was, is_now = (_exact(entry["memory"][task]["added_bytes"]) for entry in (old, new))
            changes.append(
                _change(name, f"memory, {task}", "bytes", was, is_now, thresholds.memory, lower=True)
            )
    return changes, notes


def better_text(relative: float) -> str:
    """How much better, from how much worse.

    >>> better_text(0.05), better_text(0.0)
    ('-5.0%', '+0.0%')
    """
    return f"{0.0 - relative:+.1%}"


def regressions(changes: list[Change]) -> list[Change]:
    """What is worse beyond its threshold."""
    return [change for change in changes if change.verdict == "worse"]


def _accuracy(
    name: str, before: Json, after: Json, old: Json, new: Json, thresholds: Thresholds, same_reference: bool
) -> Iterator[Change]:
    for metric in METRICS:
        kept = [_kept(run, entry, metric) for run, entry in ((before, old), (after, new))]
        if same_reference and kept[0] is not None and kept[1] is not None:
            title, kind, values = f"{metric_title(metric)} kept", "percent", kept
        else:
            title, kind = metric_title(metric), "metric"
            values = [_interval(entry["accuracy"]["metrics"].get(metric)) for entry in (old, new)]
        if values[0] is not None and values[1] is not None:
            yield _change(name, title, kind, values[0], values[1], thresholds.accuracy, lower=False)


def _latency(
    name: str, before: Json, after: Json, old: Json, new: Json, thresholds: Thresholds, as_speedup: bool
) -> Iterator[Change]:
    found = {_operation(row): row for row in before["latency"] if row["system"] == old["name"]}
    for row in after["latency"]:
        other = found.get(_operation(row))
        if row["system"] != new["name"] or other is None:
            continue
        threads = f"{row['threads']} thread{'s' if row['threads'] > 1 else ''}"
        title = f"{operation_title(row['operation'], row['size'])}, {threads}"
        if as_speedup and row["speedup"] and other["speedup"]:
            values = [_interval(entry["speedup"]["ratio"]) for entry in (other, row)]
            title, kind, lower = f"{title}, speed-up", "ratio", False
        elif as_speedup and _machine(before) != _machine(after):
            continue  # the reference itself, on another machine
        else:
            values = [_interval(entry["p50"]) for entry in (other, row)]
            title, kind, lower = f"{title}, p50", "ms", True
        if values[0] is not None and values[1] is not None:
            yield _change(name, title, kind, values[0], values[1], thresholds.latency, lower=lower)


def _change(
    system: str, figure: str, kind: str, before: Interval, after: Interval, threshold: float, *, lower: bool
) -> Change:
    """`lower`: whether less is better."""
    difference = after.value - before.value if lower else before.value - after.value
    relative = difference / before.value if before.value else 0.0
    verdict: Verdict = "same"
    if abs(relative) > threshold and (kind not in TIMED or not before.overlaps(after)):
        verdict = "worse" if relative > 0 else "better"
    return Change(system, figure, kind, before, after, relative, verdict)


def _pairs(before: Json, after: Json) -> list[tuple[Json, Json]]:
    ours, theirs = _bundles(before), _bundles(after)
    common = [(ours[name], theirs[name]) for name in theirs if name in ours]
    if not common and len(ours) == len(theirs) == 1:
        common = [(next(iter(ours.values())), next(iter(theirs.values())))]
    if not common:
        raise InputError(
            f"the runs have no bundle in common: {', '.join(ours) or 'none'} against {', '.join(theirs) or 'none'}; "
            "measure bundles of the same names"
        )
    return common


def _bundles(run: Json) -> dict[str, Json]:
    systems = {system["name"]: system for system in run["systems"]}
    others = {name: system for name, system in systems.items() if name != run["reference"]}
    return others or systems


def _questions(run: Json) -> tuple[Any, ...]:
    """What the systems were asked: the same for both runs where accuracy may be compared."""
    data, settings = run["data"], run["settings"]
    of_run = data["sha256"], data["users_evaluated"], settings["protocol"], settings["keep_repeats"]
    return *of_run, settings.get("split", {}).get("cut")


def _reference_fingerprint(run: Json) -> str | None:
    return next((s["fingerprint"] for s in run["systems"] if s["name"] == run["reference"]), None)


def _machine(run: Json) -> tuple[Any, ...]:
    return run["machine"]["cpu"], run["machine"]["cores"], run["settings"]["device"]


def _operation(row: Json) -> tuple[Any, ...]:
    return row["operation"], row["size"], row["threads"], row["device"]


def _kept(run: Json, system: Json, metric: str) -> Interval | None:
    comparison = run["comparisons"].get(system["name"])
    found = comparison["accuracy"]["metrics"].get(metric) if comparison else None
    return _interval(found["ratio"]) if found else None


def _interval(described: Json | None) -> Interval | None:
    if described is None or described["value"] is None:
        return None
    ends = (described[end] if described[end] is not None else described["value"] for end in ("low", "high"))
    return Interval(described["value"], *ends)


def _exact(value: float) -> Interval:
    return Interval(value, value, value)


def _shown(interval: Interval, kind: str) -> str:
    text = FORMATS[kind](interval.value)
    if interval.low == interval.high:
        return text
    return f"{text} ({interval_text(interval.to_json(), kind)})"
