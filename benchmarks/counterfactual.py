"""What would each policy have earned on the Open Bandit logs? IPS, SNIPS, DR and the direct method, with intervals.

    python -m pocketrec.benchmarks.counterfactual DIR --json benchmarks/results/adaptation/counterfactual.json

Each log is evaluated with the other one as what was known before (`bandit_policies`). The random log has even propensities
and weights that stay small; the other way round they grow, and the effective number of rounds says how far to trust a
figure. Two checks come with the data: the uniform policy on the log of Thompson sampling should earn what the random log
earned, and the frequencies of Thompson sampling on the random log what its own log did; `logged` has these.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bandit_policies import POLICIES
from .measurement_file import write_measurement
from .off_policy import ESTIMATORS, Rounds, compare, estimate, item_model
from .open_bandit import BanditLog, read_items, read_logs
from .ranking_metrics import bootstrap_mean

REFERENCE = "uniform"


def main(argv: Sequence[str] | None = None) -> int:
    """The module as a command; 0."""
    parser = argparse.ArgumentParser(prog="python -m pocketrec.benchmarks.counterfactual", allow_abbrev=False)
    parser.add_argument("folder", metavar="DIR", type=Path, help="random.csv, bts.csv and item_context.csv")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    logs, items = read_logs(args.folder), read_items(args.folder)
    results = {
        name: evaluate(
            log,
            logs["bts" if name == "random" else "random"],
            items,
            n_resamples=args.resamples,
            seed=args.seed,
        )
        for name, log in logs.items()
    }
    settings = {"data": args.folder.name, "resamples": args.resamples, "seed": args.seed}
    write_measurement(args.json, "counterfactual", settings, results)
    return 0


def evaluate(
    log: BanditLog,
    other: BanditLog,
    items: NDArray[np.float32],
    *,
    n_resamples: int = 1000,
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


if __name__ == "__main__":
    raise SystemExit(main())
