"""The families table: the default recipe on every checkpoint there is, each beside what its own framework says of it.

    python -m pocketrec.cli.families --checkpoints ../shared/checkpoints --data ../shared/data

For each row: `pocketrec compress` with its defaults (bundles that are there already are kept, so a run that was stopped goes
on), the framework's own figure, the teacher's figure under the framework's protocol, what the bundle keeps of the teacher on
the test items, and both models re-ranking 100 candidates in turns. One JSON a row, from which
`pocketrec.benchmarks.readme_tables` writes the table.

A published figure is the framework's own evaluator's, or the paper's. RecBole's sequential evaluation leaves the items of a
history among the candidates, ours masks them: `reproduced` is the teacher under the framework's protocol, `accuracy` ours.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..runtime.errors import InputError
from .main import EXIT_INTERRUPTED
from .main import main as pocketrec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..benchmarks.evaluate import Scorer
    from ..benchmarks.protocols import Split
    from ..runtime.item_ids import ItemIds

SCHEMA_VERSION = 1
CANDIDATES = 100
ROUNDS, LATENCY_USERS, SEED = 1000, 400, 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One checkpoint: where it lies, and what is known of it."""

    name: str
    """Of its JSON, and of its bundle."""
    family: str
    framework: str
    data_name: str
    checkpoint: str
    """Below --checkpoints."""
    data: str
    """Below --data."""
    published: float | None
    """The metric on the test items, by the framework's own evaluator or its paper; None where it measured another."""
    metric: str = "ndcg@10"
    masks_history: bool = True
    """Whether the published figure leaves out the items of the history."""
    sees_validation: bool = True
    """Whether it is of users whose history has the validation item: RecBole's EASE scores by the training part."""


def _recbole(model: str, published: float | None, **options: Any) -> Row:
    """A row of the checkpoints that RecBole 1.2.1 trained."""
    return Row(
        name=f"recbole-{model.lower()}", family=model, framework="RecBole 1.2.1", data_name="MovieLens-100K",
        checkpoint=f"recbole/{model}-ml100k.pth", data="ml-100k/ml-100k.inter", published=published, **options,
    )  # fmt: skip


BEAUTY: dict[str, Any] = {"data_name": "Amazon Beauty", "data": "beauty/Beauty.txt"}
ROWS: tuple[Row, ...] = (
    Row(name="icsrec-sasrec", family="SASRec", framework="ICSRec", checkpoint="icsrec-sasrec-beauty.pt", published=0.0578, **BEAUTY),
    Row(name="iclrec-sasrec", family="SASRec", framework="ICLRec", checkpoint="iclrec-sasrec-beauty.pt", published=0.0403, **BEAUTY),
    Row(name="icsrec-gru4rec", family="GRU4Rec", framework="ICSRec", checkpoint="icsrec-gru4rec-beauty.pt", published=0.0437, **BEAUTY),
    Row(
        name="pmixer-sasrec", family="SASRec", framework="pmixer/SASRec.pytorch", data_name="MovieLens-1M",
        checkpoint="pmixer-sasrec-ml1m.pth", data="ml-1m/ml-1m.txt", published=0.1321,
    ),
    *(
        _recbole(model, published, masks_history=False)
        for model, published in (
            ("SASRec", 0.0589), ("BERT4Rec", 0.0394), ("GRU4Rec", 0.0482),
            ("Caser", 0.0425), ("NARM", 0.0197), ("LightSANs", 0.0156),
        )
    ),
    *(_recbole(model, published) for model, published in (("BPR", 0.0670), ("LightGCN", 0.0448))),
    _recbole("EASE", 0.0706, sees_validation=False),
    _recbole("NeuMF", None, metric="auc"),  # RecBole ranked the catalogue with it: NDCG@10 .0606
    *(
        _recbole(model, published, metric="auc")
        for model, published in (
            ("DeepFM", 0.7838), ("DCNV2", 0.7750), ("AutoInt", 0.7802), ("WideDeep", 0.7801), ("DIN", 0.7086),
        )
    ),
    *(
        Row(
            name=f"fuxictr-{model.lower()}", family=model, framework="FuxiCTR", data_name="Avazu, 1,000 rows", metric="auc",
            checkpoint=f"fuxictr-{model.lower()}-avazu.model", data="avazu-tiny/test.parquet", published=published,
        )
        for model, published in (("DeepFM", 0.635), ("AutoInt", 0.642), ("FM", 0.493))
    ),
)  # fmt: skip
"""Published figures: `METRICS.md` and `README.md` beside the checkpoints; FuxiCTR's AutoInt: the log of its training."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the rows; 1 where one of them failed, the others are written all the same."""
    parser = argparse.ArgumentParser(
        prog="python -m pocketrec.cli.families",
        description="The default recipe on every checkpoint, beside its framework's own figure.",
        allow_abbrev=False,
    )
    add_folders(parser, json_dir=Path("benchmarks/results/families"), out=Path("out/families"))
    parser.add_argument("--only", metavar="NAME", nargs="+", choices=[row.name for row in ROWS])
    args = parser.parse_args(argv)
    return measure_all([(row, None) for row in ROWS if args.only is None or row.name in args.only], args)


def add_folders(parser: argparse.ArgumentParser, *, json_dir: Path, out: Path) -> None:
    """The options of this table and of `cli.recipes`."""
    parser.add_argument("--checkpoints", metavar="FOLDER", type=Path, required=True)
    parser.add_argument("--data", metavar="FOLDER", type=Path, required=True)
    parser.add_argument("--json-dir", metavar="FOLDER", type=Path, default=json_dir)
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=out, help="for the bundles")
    parser.add_argument(
        "--threads", metavar="N", default="1", help="of torch while it compresses (default: 1)"
    )
    parser.add_argument("--force", action="store_true", help="compress again where a bundle is there")


def measure_all(pairs: Sequence[tuple[Row, str | None]], args: argparse.Namespace) -> int:
    """Measure rows, each with a recipe (None is the default one); the exit code: 1 where one failed."""
    args.out.mkdir(parents=True, exist_ok=True)
    args.json_dir.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []
    try:
        for row, recipe in pairs:
            print(f"\n== {row.name}: {row.family}, {row.framework}, {row.data_name}", flush=True)
            if not measure(row, args, recipe):
                failed.append(row.name)
    except KeyboardInterrupt:
        print("pocketrec: interrupted; the rows before this one are written", file=sys.stderr)
        return EXIT_INTERRUPTED
    if failed:
        print(f"pocketrec: not measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def measure(row: Row, args: argparse.Namespace, recipe: str | None = None) -> bool:
    """Compress, compare, time, write; False where the checkpoint could not be compressed (it has been said why)."""
    bundle, teacher = (args.out / f"{row.name}{suffix}.pocket" for suffix in ("", ".teacher"))
    command = [
        "compress", f"{args.checkpoints / row.checkpoint}", "--data", f"{args.data / row.data}", "-o", f"{bundle}",
        "--teacher-out", f"{teacher}", "--threads", args.threads, *([] if recipe is None else ["--recipe", recipe]),
    ]  # fmt: skip
    if args.force or not (bundle.exists() and teacher.exists()):
        code = pocketrec([*command, "--force"])
        if code == EXIT_INTERRUPTED:
            raise KeyboardInterrupt
        if code != 0:
            return False
    try:
        found = row_results(row, bundle, teacher, args.data / row.data)
    except InputError as error:
        print(f"pocketrec: {error}", file=sys.stderr)
        return False
    found["command"] = "pocketrec " + " ".join(Path(part).name if "/" in part else part for part in command)
    path = args.json_dir / f"{row.name}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{path}: {found['ratio']:.2f}x, {_kept(found)}")
    return True


def row_results(row: Row, bundle: Path, teacher: Path, data: Path) -> dict[str, Any]:
    """What the table shows of a row, from its two bundles and the data."""
    from ..benchmarks.machine import describe_machine
    from ..runtime.bundle import Bundle

    manifest, size_bytes = Bundle.open(bundle).manifest, bundle.stat().st_size
    metrics, provenance = manifest["metrics"], manifest["provenance"]
    if row.metric not in metrics["accuracy"]["metrics"]:
        raise InputError(
            f"{bundle}: measured by {', '.join(metrics['accuracy']['metrics'])}; expected {row.metric} in the row {row.name}"
        )
    names = sorted({row.metric, "hr@10"} & metrics["accuracy"]["metrics"].keys())
    weights_bytes = provenance["checkpoint"]["weights_bytes"]
    times = rerank_times if row.metric == "ndcg@10" else row_times
    return {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **asdict(row),
        "seed": SEED,
        "provenance": provenance,
        "checkpoint_bytes": weights_bytes,
        "size_bytes": size_bytes,
        "teacher_bytes": teacher.stat().st_size,
        "ratio": weights_bytes / size_bytes,
        "recipe": manifest["recipe"],
        "steps": [_brief(step) for step in manifest["steps"]],
        "reproduced": reproduced(row, metrics, teacher, data),
        "accuracy": {
            system: {name: metrics[system]["metrics"][name] for name in names}
            for system in ("teacher", "accuracy", "popularity")
            if system in metrics
        },
        "kept": {name: metrics["kept"]["metrics"][name]["ratio"] for name in names},
        "own_users": _own_users(metrics),
        "overlap": metrics["kept"].get("overlap", {}),
        "rerank": times(bundle, teacher, data),
        "machine": describe_machine(),
    }


def _brief(step: dict[str, Any]) -> dict[str, Any]:
    """A step without its log of epochs."""
    detail = {key: value for key, value in step["detail"].items() if not isinstance(value, list | dict)}
    return {**step, "detail": detail}


def reproduced(row: Row, metrics: dict[str, Any], teacher: Path, data: Path) -> float | None:
    """The metric of the uncompressed model under the framework's own protocol; None where it is not known."""
    if "own_users" in metrics:  # which the framework ranks by
        return metrics["own_users"]["metrics"][row.metric]["value"]
    if row.masks_history and row.sees_validation:
        return metrics["teacher"]["metrics"][row.metric]["value"]
    from ..benchmarks.evaluate import EngineScorer, evaluate_ranks
    from ..benchmarks.ranking_metrics import per_user
    from ..runtime.engine import Engine

    engine = Engine.load(teacher)
    split, scorer = _test_split(engine.item_ids, data), EngineScorer(engine)
    scores = scorer if row.sees_validation else _WithoutTheLast(scorer)
    ranking = evaluate_ranks(scores, split, keep_repeats=not row.masks_history, n_top=0)
    return float(per_user(ranking.ranks, row.metric).mean())


def _own_users(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """What is kept of the checkpoint's own user vectors; None where it has none."""
    if "own_users" not in metrics:
        return None
    own, name = metrics["own_users"], "ndcg@10"
    return {
        name: own["metrics"][name],
        **{share: own[share]["metrics"][name]["ratio"] for share in ("folded_kept", "kept")},
    }


class _WithoutTheLast:
    """The `Scorer` of another one by histories without their last event, which are at least two long."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer, self.n_items = scorer, scorer.n_items

    def __call__(self, histories: NDArray[np.int64]) -> NDArray[np.float32]:
        """int64 (B, n) -> float32 (B, N)."""
        return self.scorer(histories[:, :-1])


def rerank_times(bundle: Path, teacher: Path, data: Path) -> dict[str, Any]:
    """One new event, then 100 candidates ranked: the two bundles in turns, one thread, histories of real users."""
    from ..benchmarks.operations import Workload, sample_histories, user_operations
    from ..runtime.reranker import Reranker

    rankers = {"teacher": Reranker.load(teacher, threads=1), "bundle": Reranker.load(bundle, threads=1)}
    ids = rankers["bundle"].engine.item_ids
    split = _test_split(ids, data)
    drawn = sample_histories(split.histories, LATENCY_USERS, SEED)
    work = Workload(
        histories=[ids.ids(rows) for rows in drawn],
        catalogue=ids.ids(range(len(ids))),
        candidates=(min(CANDIDATES, len(ids)),),
        seed=SEED,
    )
    operation = next(one for one in user_operations(work) if one.name == "rerank")
    return _timed(rankers, operation.prepare, work.candidates[0])


def row_times(bundle: Path, teacher: Path, data: Path) -> dict[str, Any] | None:
    """100 candidates scored for a user by a model of features; None where neither the item nor the user is one of them."""
    from ..runtime.pointwise import PointwiseRanker

    rankers = {
        "teacher": PointwiseRanker.load(teacher, threads=1),
        "bundle": PointwiseRanker.load(bundle, threads=1),
    }
    engine = rankers["bundle"].engine
    if engine.item is None or engine.user is None:
        return None
    user_field, users, items = engine.user, engine.vocabularies[engine.user], engine.vocabularies[engine.item]
    count = min(CANDIDATES, len(items))

    def prepare(ranker: PointwiseRanker, n: int) -> Callable[[], object]:
        random = np.random.default_rng([SEED, n])
        candidates = items.ids(random.choice(len(items), count, replace=False))
        user = {user_field: users.ids([int(random.integers(len(users)))])[0]}
        return lambda: ranker.rerank(candidates, user=user, k=10)

    return _timed(rankers, prepare, count)


def _timed(
    rankers: Mapping[str, Any], prepare: Callable[[Any, int], Callable[[], object]], candidates: int
) -> dict[str, Any]:
    """The two in turns: medians, and how many times faster the bundle is."""
    from ..benchmarks.latency import Timing, compare, summarize, time_interleaved

    samples = time_interleaved(rankers, prepare, Timing(n_rounds=ROUNDS))
    p50 = {name: summarize(samples_ms)["p50"] for name, samples_ms in samples.items()}
    speedup = compare(samples["bundle"], samples["teacher"], seed=SEED).to_json()
    return {"candidates": candidates, "n": len(samples["bundle"]), "p50_ms": p50, "speedup": speedup}


def _test_split(item_ids: ItemIds, data: Path) -> Split:
    from ..benchmarks.interactions import map_items, read_interactions
    from ..benchmarks.protocols import leave_one_out

    return leave_one_out(map_items(read_interactions(data), item_ids).sequences, stage="test")


def _kept(found: dict[str, Any]) -> str:
    kept = found["kept"][found["metric"]]
    return f"{found['metric']} kept {kept['value']:.1%} ({kept['low']:.1%} to {kept['high']:.1%})"


if __name__ == "__main__":
    raise SystemExit(main())
