"""What each part of distillation brings: `python -m pocketrec.compress.distillation_study CHECKPOINT --data FILE --json OUT`.

Every row is a student of the checkpoint, trained in one way, then exported and ranked through the runtime as a bundle is.
Two students are small enough for distillation to matter:

    pooled   weighted means and a small network over 3 bits a value: about 10% of the teacher's bytes
    narrow   one layer of 6 dimensions in float32: less than 10% of the teacher's numbers

`alone` is a student that never met its teacher: from noise, towards the next item only. A row recovers

    (NDCG@10 of the row - NDCG@10 of `alone`) / (NDCG@10 of the teacher - NDCG@10 of `alone`)

All learn from the same histories and the same drawn items (`sampled_lessons`), so that rows differ by what their names
say and by the number of epochs, which they state. The best epoch is chosen on validation items of some users; the test is
ranked once a row, and nothing is chosen by it. The file is written after every row, and rows that are in it already are not
made again: it may be stopped and goes on where it was.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..benchmarks.evaluate import evaluate_ranks
from ..benchmarks.popularity import item_counts
from ..benchmarks.progress import Track, untracked
from ..benchmarks.protocols import leave_one_out
from ..benchmarks.ranking_metrics import paired_bootstrap, per_user
from ..runtime.errors import InputError
from .distill import distill
from .distill_config import DistillConfig
from .meter import Meter, TorchScorer
from .models.protocol import SequenceModel
from .sampled_lessons import SampledLessons
from .student import StudentConfig, make_student
from .study_setup import StudyData, load_study, study_parser

METRIC = "ndcg@10"
VALIDATED_USERS = 4000
"""Users whose validation items choose the epoch."""
SAMPLED_ITEMS = 1024
PREFIXES = 1
"""Random shorter histories of each user, beside the whole one."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One way to train one student."""

    student: StudentConfig
    distill: DistillConfig
    bits: int | None
    """Of the item table as it ships."""
    in_the_loop: bool = True
    """Rounded while it learns; else only afterwards."""
    alone: str | None
    """The row of the same student that never met its teacher; None: this is it."""


FAR: dict[str, Any] = {"epochs": 8, "table_learning_rate": 3e-3}
"""For tables that start far from where they end: more epochs, and the table learns as fast as the encoder."""


def study_rows(n_layers: int) -> dict[str, Row]:
    """The rows by name, the telling ones first; the teacher has `n_layers` layers."""
    pooled = StudentConfig(architecture="pooled", hidden_width=32)
    noise = dataclasses.replace(pooled, start="noise")
    last = StudentConfig(layers=(n_layers - 1,))
    narrow = dataclasses.replace(last, width=6)
    hard = {"soft_weight": 0.0, "hidden_weight": 0.0}
    alone, narrow_alone = "pooled: alone", "narrow: alone"

    def of_pooled(distill: DistillConfig, student: StudentConfig = pooled, **changes: Any) -> Row:
        return dataclasses.replace(Row(student=student, distill=distill, bits=3, alone=alone), **changes)

    return {
        "pooled: soft targets, user vectors": of_pooled(_taught()),
        alone: of_pooled(_taught(**FAR, **hard), noise, alone=None),
        "narrow: soft targets, user vectors": Row(
            student=narrow, distill=_taught(**FAR), bits=None, alone=narrow_alone
        ),
        narrow_alone: Row(
            student=dataclasses.replace(narrow, start="noise"),
            distill=_taught(**FAR, **hard),
            bits=None,
            alone=None,
        ),
        "pooled: hard targets": of_pooled(_taught(**hard)),
        "pooled: soft targets": of_pooled(_taught(hidden_weight=0.0)),
        "pooled: soft targets, order": of_pooled(_taught(hidden_weight=0.0, order_weight=0.2)),
        "pooled: from noise, soft targets, user vectors": of_pooled(_taught(**FAR), noise),
        "pooled: rounded afterwards": of_pooled(_taught(), in_the_loop=False),
        "GRU: soft targets, user vectors": of_pooled(_taught(), StudentConfig(architecture="gru4rec")),
        "last layer: soft targets": of_pooled(_taught(learning_rate=1e-3, hidden_weight=0.0), last),
        "pooled: soft targets, user vectors, order": of_pooled(_taught(order_weight=0.2)),
    }


class Study:
    """A teacher, its data, and what it said of them once for all rows."""

    def __init__(self, data: StudyData, folder: Path, track: Track = untracked) -> None:
        self.teacher, self.training, self.seed, self.track = (
            data.teacher,
            data.training,
            data.args.seed,
            track,
        )
        self.validation, self.test = (
            leave_one_out(data.sequences, stage="validation"),
            leave_one_out(data.sequences, stage="test"),
        )
        self.some = data.validation_users(VALIDATED_USERS)
        self.meter = Meter(
            folder, name="student", item_ids=data.loaded.item_ids, validation=self.validation,
            item_counts=item_counts(self.training, len(self.teacher.item_table)), keep_repeats=False,
        )  # fmt: skip
        asked = _taught(sampled_items=min(SAMPLED_ITEMS, len(self.teacher.item_table) // 2))
        self.lessons = SampledLessons(
            self.teacher,
            self.training,
            asked,
            self.teacher.max_length,
            None,
            np.random.default_rng(self.seed),
        )
        self.reference = self.ranked("teacher", self.teacher, None)

    def ranked(
        self, name: str, model: SequenceModel, bits: int | None
    ) -> tuple[dict[str, Any], NDArray[np.float64]]:
        """A model as a bundle: its size and figures, and the test users' NDCG@10, (U,)."""
        form = "float32" if model is self.teacher else "int8"
        path = self.meter.export("draft", model, bits=bits, form=form, manifest={})
        validation, test = (
            per_user(self.meter.rank(path, split, name).ranks, METRIC)
            for split in (self.validation, self.test)
        )
        described = {
            "bytes": path.stat().st_size,
            "parameters": sum(p.numel() for p in model.parameters()),  # type: ignore[attr-defined]
            "validation_ndcg10": float(validation.mean()),
            "test_ndcg10": float(test.mean()),
        }
        return described, test

    def row(self, name: str, row: Row) -> dict[str, Any]:
        """Train one and rank it."""
        began = time.perf_counter()
        student, shape = make_student(self.teacher, row.student, seed=self.seed)

        def validate(model: SequenceModel) -> float:
            return float(
                per_user(
                    evaluate_ranks(TorchScorer(model, row.bits), self.some, n_top=0).ranks, METRIC
                ).mean()
            )

        best, told = distill(
            student, self.teacher, self.training, row.distill, bits=row.bits if row.in_the_loop else None,
            validate=validate, seed=self.seed, asked=self.lessons.retold, track=self.track,
        )  # fmt: skip
        described, test = self.ranked(name, best, row.bits)
        _, theirs = self.reference
        return {
            "name": name,
            **described,
            "kept": paired_bootstrap(test, theirs, seed=self.seed).ratio.to_json(),
            "student": shape,
            "distill": dataclasses.asdict(row.distill),
            "bits": row.bits,
            "in_the_loop": row.in_the_loop,
            "alone": row.alone,
            "best_epoch": told["best_epoch"],
            "seconds": round(time.perf_counter() - began, 1),
        }


def with_recovered(rows: Sequence[Mapping[str, Any]], teacher: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows with `recovered`, the share of the gap above; null where `alone` is not there yet, or is as good as the teacher.

    >>> rows = [{"name": "a", "alone": None, "test_ndcg10": 0.2}, {"name": "b", "alone": "a", "test_ndcg10": 0.35}]
    >>> [row["recovered"] for row in with_recovered(rows, {"test_ndcg10": 0.4})]
    [None, 0.75]
    """
    of = {row["name"]: row["test_ndcg10"] for row in rows}
    made: list[dict[str, Any]] = []
    for row in rows:
        start = of.get(row["alone"])
        gap = None if start is None else teacher["test_ndcg10"] - start
        recovered = None if not gap or gap < 0 else round((row["test_ndcg10"] - start) / gap, 4)
        made.append({**row, "recovered": recovered})
    return made


def lines(result: Mapping[str, Any]) -> list[str]:
    """The table, for a terminal."""
    teacher = result["teacher"]
    made = [
        f"teacher   {teacher['bytes']:>9,} B   {teacher['parameters']:>9,} parameters   test NDCG@10 {teacher['test_ndcg10']:.5f}"
    ]
    for row in result["rows"]:
        recovered = "" if row["recovered"] is None else f"   {row['recovered']:.0%} of the gap recovered"
        made.append(
            f"{row['name']:<48} {row['bytes'] / teacher['bytes']:6.1%} of the bytes   "
            f"{row['parameters'] / teacher['parameters']:6.1%} of the numbers   "
            f"test NDCG@10 {row['test_ndcg10']:.5f} ({row['kept']['value']:.1%} kept){recovered}"
        )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Make the rows that are missing, write the file after each, and print the table."""
    parser = study_parser("distillation_study", "What each part of distillation brings.")
    parser.add_argument(
        "--rows", help="names, or the beginnings of names, with semicolons between (default: all)"
    )
    data = load_study(parser, argv)
    args = data.args
    known = study_rows(len(getattr(data.loaded.model, "layers", [])) or 1)
    wanted = [name for name in known if args.rows is None or name.startswith(tuple(args.rows.split(";")))]
    if not wanted:
        raise InputError(f"--rows {args.rows}: no such row; expected beginnings of {'; '.join(known)}")
    before = json.loads(args.json.read_text())["rows"] if args.json.exists() else []
    done = {row["name"]: row for row in before if row["name"] in known}
    with tempfile.TemporaryDirectory() as folder:
        study = Study(data, Path(folder))
        reference, _ = study.reference
        for name in [name for name in wanted if name not in done]:
            done[name] = study.row(name, known[name])
            result = data.write(
                {
                    "validated_users": len(study.some.targets),
                    "teacher": reference,
                    "rows": with_recovered([done[name] for name in known if name in done], reference),
                }
            )
            print(
                lines({**result, "rows": [r for r in result["rows"] if r["name"] == name]})[-1],
                file=sys.stderr,
                flush=True,
            )
    print("\n".join(lines(json.loads(args.json.read_text()))))
    return 0


def _taught(**changes: Any) -> DistillConfig:
    basis = DistillConfig(
        epochs=4, patience=99, learning_rate=5e-3, hidden_weight=1.0, sampled_items=SAMPLED_ITEMS, prefixes_per_user=PREFIXES,
        least_histories=1,
    )  # fmt: skip
    return dataclasses.replace(basis, **changes)


if __name__ == "__main__":
    sys.exit(main())
