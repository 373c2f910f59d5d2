"""What would each policy have earned on the Open Bandit logs? IPS, SNIPS, DR and the direct method, with intervals.

    pocketrec replay --counterfactual DIR --json benchmarks/results/adaptation/counterfactual.json

Each log is evaluated with the other one as what was known before (`bandit_policies`). The random log has even propensities
and weights that stay small; the other way round they grow, and the effective number of rounds says how far to trust a
figure. Two checks come with the data: the uniform policy on the log of Thompson sampling should earn what the random log
earned, and the frequencies of Thompson sampling on the random log what its own log did; `logged` has these.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import InputError
from .bandit_policies import POLICIES
from .off_policy import ESTIMATORS, Rounds, compare, estimate, item_model
from .open_bandit import BanditLog, read_items, read_logs
from .progress import Track, untracked
from .ranking_metrics import bootstrap_mean

REFERENCE = "uniform"
N_RESAMPLES = 1000


def counterfactual(
    folder: Path, *, n_resamples: int = N_RESAMPLES, seed: int = 0, track: Track = untracked
) -> dict[str, Any]:
    """Every policy on both logs of a folder with `random.csv`, `bts.csv` and `item_context.csv`; ready for JSON.

    Raises:
        InputError: the folder is none, or a file of it is missing or not of the Open Bandit Dataset.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; give that of the Open Bandit Dataset: random.csv, bts.csv and item_context.csv"
        )
    items, logs = read_items(folder), read_logs(folder)
    for name, log in logs.items():
        if log.affinities.shape[1] != len(items):
            raise InputError(
                f"{folder / name}.csv: affinities of {log.affinities.shape[1]} items, item_context.csv has {len(items)}; "
                "are they of the same campaign?"
            )
    results: dict[str, Any] = {}
    with track("counterfactual", len(logs)) as advance:
        for name, log in logs.items():
            other = logs["bts" if name == "random" else "random"]
            results[name] = evaluate(log, other, items, n_resamples=n_resamples, seed=seed)
            advance(1)
    return results


def evaluate(
    log: BanditLog,
    other: BanditLog,
    items: NDArray[np.float32],
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Every policy on one log: its mean reward by each estimator, and by how much it exceeds the uniform one."""
    model = item_model(log.actions, log.positions, log.clicks, len(items), seed=seed)
    rounds = {name: logged_rounds(log, policy(log, other, items), model) for name, policy in POLICIES.items()}
    options = {"n_resamples": n_resamples, "seed": seed}
    policies: dict[str, Any] = {}
    for name, of_policy in rounds.items():
        policies[name] = {
            "effective_rounds": of_policy.effective_rounds(),
            "largest_weight": float(of_policy.weights.max()),
            **{how: estimate(of_policy, how, **options).to_json() for how in ESTIMATORS},
        }
        if name != REFERENCE:
            policies[name][f"over_{REFERENCE}"] = {
                how: compare(of_policy, rounds[REFERENCE], how, **options).to_json() for how in ESTIMATORS
            }
    return {
        "rounds": len(log),
        "clicks": int(log.clicks.sum()),
        "logged": bootstrap_mean(log.clicks, **options).to_json(),
        "policies": policies,
    }


def logged_rounds(log: BanditLog, probabilities: NDArray[np.float64], model: NDArray[np.float64]) -> Rounds:
    """What the estimators need; both matrices float64 (n, A)."""
    rows = np.arange(len(log))
    return Rounds(
        reward=log.clicks,
        propensity=log.propensities,
        probability=probabilities[rows, log.actions],
        model_of_logged=model[rows, log.actions],
        model_of_policy=(probabilities * model).sum(axis=1),
    )


def counterfactual_lines(results: Mapping[str, Any]) -> list[str]:
    """For people: of each log what its own policy earned, and each policy by the three estimators that need no model to be right."""
    lines: list[str] = []
    for name, found in results.items():
        lines += [
            f"log {name}: {found['rounds']:,} rounds, {found['clicks']:,} clicks; its own policy earned {_percent(found['logged'])}",
            f"  {'policy':<15} {'rounds worth':>12}  "
            + "".join(f"{how.upper():<23}" for how in ESTIMATORS[1:])
            + f"DR over {REFERENCE}",
        ]
        for policy, row in found["policies"].items():
            cells = "".join(f"{_percent(row[how]):<23}" for how in ESTIMATORS[1:])
            over = row.get(f"over_{REFERENCE}")
            beside = "" if over is None else _percent(over["dr"], signed=True)
            lines.append(f"  {policy:<15} {row['effective_rounds']:>12,.0f}  {cells}{beside}".rstrip())
    return lines


def _percent(interval: Mapping[str, float | None], *, signed: bool = False) -> str:
    value, low, high = (interval[name] for name in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return "n/a"
    form = "+.2%" if signed else ".2%"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"
