"""What decides what to cut: `python -m pocketrec.compress.pruning_study CHECKPOINT --data FILE --json OUT`.

The same share of heads, units and kernels is cut by each importance that `prune` knows, without any training afterwards, and
NDCG@10 on validation items says what is left. Magnitude is what is usual where there are no data; Taylor's and Fisher's
importances read the users' own sequences, in as many batches as a row says.

With `--epochs N` what Taylor's importance left also learns from the teacher, for N passes in all: cut at once and then taught,
or cut in N rounds and taught for a pass after each (`prune_rounds`).
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np

from ..benchmarks.evaluate import evaluate_ranks
from ..benchmarks.ranking_metrics import paired_bootstrap, per_user
from ..runtime.errors import InputError
from .distill import distill
from .distill_config import DistillConfig
from .meter import TorchScorer
from .models.protocol import SequenceModel
from .prune import Importance, PruneConfig, can_prune, prune
from .prune_rounds import prune_in_rounds
from .study_setup import load_study, study_parser

METRIC = "ndcg@10"


def lines(result: Mapping[str, Any]) -> list[str]:
    """The rows, for a terminal."""
    made = [f"teacher    NDCG@10 {result['teacher_ndcg10']:.5f} on {result['users']:,} validation users"]
    for row in result["rows"]:
        kept = row["kept"]
        made.append(
            f"{row['importance']:<10} {row['batches']:>3} batches   {row['parameters_cut']:>9,} numbers cut   "
            f"{kept['value']:.1%} of it kept [{kept['low']:.1%}, {kept['high']:.1%}]"
        )
    for row in result["schedules"]:
        kept = row["kept"]
        made.append(
            f"taylor     {row['rounds']} rounds, {row['epochs']} epochs in all   {row['parameters_cut']:>9,} numbers cut   "
            f"{kept['value']:.1%} of it kept [{kept['low']:.1%}, {kept['high']:.1%}]"
        )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Cut in each way, and print what is left."""
    parser = study_parser("pruning_study", "What decides what to cut.")
    parser.add_argument("--batches", type=int, nargs="+", default=[32])
    parser.add_argument("--keep", type=float, default=0.5, help="share of heads and of feed-forward units")
    parser.add_argument(
        "--epochs", type=int, default=0, help="of distillation after cutting at once, and in rounds"
    )
    parser.add_argument("--users", type=int, default=4000)
    data = load_study(parser, argv)
    args, teacher, training = data.args, data.teacher, data.training
    if not can_prune(teacher):
        raise InputError(
            f"{args.checkpoint}: nothing says which parts of a {data.loaded.layout} model are cut together"
        )
    users = data.validation_users(args.users)

    def gains(model: SequenceModel) -> np.ndarray[Any, np.dtype[np.float64]]:
        return per_user(evaluate_ranks(TorchScorer(model), users, n_top=0).ranks, METRIC)

    before = gains(teacher)
    config = PruneConfig(keep_heads=args.keep, keep_inner=args.keep)
    rows: list[dict[str, Any]] = []
    for importance in get_args(Importance):
        for batches in args.batches if importance != "magnitude" else [0]:
            how = dataclasses.replace(config, importance=importance, calibration_batches=max(1, batches))
            pruned, _ = prune(teacher, training, how, seed=args.seed)
            rows.append(
                {
                    "importance": importance,
                    "batches": batches,
                    "parameters_cut": _parameters(teacher) - _parameters(pruned),
                    "kept": paired_bootstrap(gains(pruned), before, seed=args.seed).ratio.to_json(),
                }
            )
    schedules: list[dict[str, Any]] = []
    for rounds in (1, args.epochs) if args.epochs > 1 else ():
        how = dataclasses.replace(config, rounds=rounds, calibration_batches=args.batches[-1])

        def taught(student: SequenceModel, epochs: int) -> tuple[SequenceModel, dict[str, Any]]:
            return distill(
                student, teacher, training, DistillConfig(epochs=epochs), bits=None, seed=args.seed,
                validate=lambda one: float(gains(one).mean()),
            )  # fmt: skip

        began = time.perf_counter()
        pruned, _ = prune_in_rounds(teacher, training, how, taught, seed=args.seed)
        left = args.epochs - (rounds - 1)
        learned, _ = taught(pruned, left)
        schedules.append(
            {
                "rounds": rounds,
                "epochs": args.epochs,
                "parameters_cut": _parameters(teacher) - _parameters(learned),
                "kept": paired_bootstrap(gains(learned), before, seed=args.seed).ratio.to_json(),
                "seconds": time.perf_counter() - began,
            }
        )
    result = data.write(
        {
            "users": len(before),
            "keep": args.keep,
            "teacher_ndcg10": float(before.mean()),
            "rows": rows,
            "schedules": schedules,
        }
    )
    print("\n".join(lines(result)))
    return 0


def _parameters(model: SequenceModel) -> int:
    return sum(p.numel() for p in model.parameters())  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())
