"""What a replay comes to: NDCG@10, gains with intervals, who loses, how soon a new user gains.

NDCG@10 is the mean over a user's events, over the runs (seeds of candidates, bundles of several seeds), then over
users; intervals are paired bootstrap over users. A user loses where the adaptive NDCG is more than `LOSS_TOLERANCE`
below the other's; of few events each many do so by chance, and what that comes to stands beside (`losing_by_chance`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .losing_by_chance import losing_by_chance
from .ranking_metrics import Interval, bootstrap_mean, ndcg, paired_bootstrap
from .replay import Traces
from .replay_systems import BASELINES

CURVE_EDGES = (1, 2, 3, 6, 11, 21, 51, 101)
"""First events of the spans of the learning curve: 1, 2, 3-5, 6-10, 11-20, 21-50, 51-100, 101 and later."""
LOSS_TOLERANCE = 0.02
FIRST_EVENTS = 10
"""Of a new user."""
_LEAST_USERS = 2  # fewer have no interval


def summarize_runs(runs: Sequence[Traces], *, seed: int = 0) -> dict[str, Any]:
    """The figures of one or more runs of the same systems, ready for JSON; see docs/results-schema.md."""
    systems = list(runs[0].ranks[0])
    users, by_user = _means_over_runs(runs, systems, None)
    new = np.array([user in _new_users(runs) for user in users])
    pairs = [(name, "live") for name in systems if name not in ("live", "adaptive")]
    pairs += [("adaptive", name) for name in BASELINES if {name, "adaptive"} <= {*systems}]
    found: dict[str, Any] = {
        "users": len(users),
        "new_users": int(new.sum()),
        "events": int(np.mean([sum(len(ranks[systems[0]]) for ranks in run.ranks) for run in runs])),
        "runs": len(runs),
        "ndcg@10": {name: bootstrap_mean(by_user[name], seed=seed).to_json() for name in systems},
        "gains": [_gain(by_user, a, b, seed) for a, b in pairs],
        "learning_curve": _learning_curve(runs, systems),
    }
    if "adaptive" in systems:
        others = [name for name in BASELINES if name in systems]
        found["share_of_users_that_lose"] = {name: _share_losing(by_user, name) for name in others}
        found["losing_by_chance"] = {
            name: _by_chance(runs, users, by_user[name], name, seed) for name in others
        }
        if new.sum() >= _LEAST_USERS:
            _, first = _means_over_runs(runs, systems, FIRST_EVENTS)
            first = {name: values[new] for name, values in first.items()}
            found["new_users_first_events"] = {
                "events": FIRST_EVENTS,
                "ndcg@10": {name: float(values.mean()) for name, values in first.items()},
                "gains": [_gain(first, "adaptive", name, seed) for name in others],
            }
            found["new_users_learning_curve"] = _new_users_curve(runs, systems, seed)
    found["by_user"] = {
        "user": users.tolist(),
        **{name: by_user[name].round(5).tolist() for name in systems},
    }
    return found


def gain_of(summary: dict[str, Any], system: str, over: str) -> dict[str, Any] | None:
    """One of `gains`, or None."""
    return next((g for g in summary["gains"] if (g["system"], g["over"]) == (system, over)), None)


def replay_lines(result: dict[str, Any], baseline: str | None = None) -> list[str]:
    """The result for people, a few lines; gains over one baseline, or over all."""
    runs = f", {result['runs']} runs" if result["runs"] > 1 else ""
    lines = [
        f"replay: {result['users']:,} users ({result['new_users']:,} new), {result['events']:,} events{runs}, "
        f"{result['protocol']}; candidates: {result['candidates']}"
    ]
    lines += [
        f"  {name:<10} NDCG@10 {value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
        for name, value in result["ndcg@10"].items()
    ]
    for gain in result["gains"]:
        if gain["system"] == "adaptive" and baseline in (None, gain["over"]):
            losing, chance = (
                result[name][gain["over"]] for name in ("share_of_users_that_lose", "losing_by_chance")
            )
            lines.append(
                f"  adaptive over {gain['over']:<10} {_interval(gain)}; {losing:.0%} of the users lose more than {LOSS_TOLERANCE:.0%}, "
                f"{chance['if_all_gained_alike']:.0%} would if all gained alike, {chance['beyond_noise']:.0%} beyond noise"
            )
    for gain in result.get("new_users_first_events", {}).get("gains", []):
        if baseline in (None, gain["over"]):
            lines.append(
                f"  new users, first {FIRST_EVENTS} events, over {gain['over']:<10} {_interval(gain)}"
            )
    new_curve = result.get("new_users_learning_curve", [])
    for name in BASELINES if baseline is None else (baseline,):
        gains = [next((g for g in p["gains_so_far"] if g["over"] == name), None) for p in new_curve]
        if gains and all(gain is not None for gain in gains):
            shown = (f"{p['last']} {_value(gain)}" for p, gain in zip(new_curve, gains, strict=True) if gain)
            lines.append(f"  new users, up to event, over {name:<10} {', '.join(shown)}")
    curve = result["learning_curve"]
    spans = [span_name(p) for p in curve]
    lines.append("  by event   " + " ".join(f"{span:>7}" for span in spans))
    lines += [
        f"    {name:<10} " + " ".join(f"{point[name]:>7.4f}" for point in curve) for name in result["ndcg@10"]
    ]
    return lines


def span_name(point: dict[str, Any]) -> str:
    """Of a point of a curve.

    >>> span_name({"first": 3, "last": 5}), span_name({"first": 1, "last": 1})
    ('3-5', '1')
    """
    return f"{point['first']}" + ("" if point["first"] == point["last"] else f"-{point['last']}")


def _value(gain: dict[str, Any]) -> str:
    value = gain["percent"]["value"]
    return "n/a" if value is None else f"{value:+.1f}%"


def _interval(gain: dict[str, Any]) -> str:
    percent = gain["percent"]
    if any(percent[name] is None for name in ("value", "low", "high")):
        return "n/a"
    return f"{percent['value']:+.1f}% [{percent['low']:+.1f}, {percent['high']:+.1f}]"


def _gain(by_user: dict[str, NDArray[np.float64]], a: str, b: str, seed: int) -> dict[str, Any]:
    found = paired_bootstrap(by_user[a], by_user[b], seed=seed)
    ratio = found.ratio
    percent = Interval(*(100.0 * (value - 1.0) for value in (ratio.value, ratio.low, ratio.high)))
    return {
        "system": a,
        "over": b,
        "percent": percent.to_json(),
        "difference": found.difference.to_json(),
    }


def _share_losing(by_user: dict[str, NDArray[np.float64]], other: str) -> float:
    return float(np.mean(by_user["adaptive"] < (1.0 - LOSS_TOLERANCE) * by_user[other] - 1e-12))


def _by_chance(
    runs: Sequence[Traces], users: NDArray[np.int64], baseline: NDArray[np.float64], other: str, seed: int
) -> dict[str, float]:
    """Beside the share that is counted; differences by event are means over the runs that have the user."""
    by_run: dict[int, list[NDArray[np.float64]]] = {user: [] for user in users.tolist()}
    for run in runs:
        for user, ranks in zip(run.users, run.ranks, strict=True):
            by_run[user].append(ndcg(ranks["adaptive"], 10) - ndcg(ranks[other], 10))
    shortest = [min(map(len, of_user)) for of_user in by_run.values()]
    differences = [
        np.mean([of_run[:events] for of_run in of_user], axis=0)
        for of_user, events in zip(by_run.values(), shortest, strict=True)
    ]
    found = losing_by_chance(differences, baseline, tolerance=LOSS_TOLERANCE, seed=seed)
    return {name: round(share, 4) for name, share in found._asdict().items()}


def _new_users(runs: Sequence[Traces]) -> set[int]:
    return {user for run in runs for user, new in zip(run.users, run.new_user, strict=True) if new}


def _means_over_runs(
    runs: Sequence[Traces], systems: Sequence[str], n_first: int | None
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    """Users in ascending order, and each system's NDCG@10 of theirs, over the runs that have them."""
    everybody = np.concatenate([np.array(run.users, np.int64) for run in runs])
    users, which = np.unique(everybody, return_inverse=True)
    times = np.bincount(which)
    return users, {
        name: np.bincount(which, np.concatenate([run.by_user(name, n_first) for run in runs])) / times
        for name in systems
    }


def _new_users_curve(runs: Sequence[Traces], systems: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """As the learning curve, of users without a history; and how far learning gained up to there, by user."""
    new = [_of_new_users(run) for run in runs]
    curve = _learning_curve(new, systems)
    for point in curve:
        _, so_far = _means_over_runs(new, systems, point["last"])
        point["gains_so_far"] = [
            _gain(so_far, "adaptive", name, seed) for name in BASELINES if name in systems
        ]
    return curve


def _of_new_users(run: Traces) -> Traces:
    kept = [n for n, new in enumerate(run.new_user) if new]
    return Traces([run.users[n] for n in kept], [True] * len(kept), [run.ranks[n] for n in kept])


def _learning_curve(runs: Sequence[Traces], systems: Sequence[str]) -> list[dict[str, Any]]:
    """Mean NDCG@10 by the number of the event, over the users who have such events."""
    everybody = [ranks for run in runs for ranks in run.ranks]
    curve: list[dict[str, Any]] = []
    longest = max(len(ranks[systems[0]]) for ranks in everybody)
    for first, after in pairwise((*CURVE_EDGES, max(longest + 1, CURVE_EDGES[-1] + 1))):
        span = slice(first - 1, after - 1)
        users = [ranks for ranks in everybody if len(ranks[systems[0]]) >= first]
        if not users:
            break
        point: dict[str, Any] = {
            "first": first,
            "last": min(after - 1, longest),
            "users": round(len(users) / len(runs)),
        }
        for name in systems:
            point[name] = float(np.mean([ndcg(ranks[name][span], 10).mean() for ranks in users]))
        curve.append(point)
    return curve
