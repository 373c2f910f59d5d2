"""What each form of an encoder costs and keeps: `python -m pocketrec.compress.encoder_study CHECKPOINT --data FILE --json OUT`.

The same encoder in every form that `export.encoder_int8` knows, the item table in float32: bytes of its part of the bundle,
NDCG@10 on validation items through the runtime beside the float encoder's, and the median time of a history, on people's
histories and on the longest, all forms in turns. With `--epochs N` the encoder also learns from itself for N passes, rounded to
four bits in the loop, beside the same passes rounded afterwards.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from ..benchmarks.popularity import item_counts
from ..benchmarks.ranking_metrics import paired_bootstrap
from ..export.encoder_int8 import EncoderForm
from ..runtime.bundle import Bundle
from ..runtime.errors import InputError
from .distill import distill
from .distill_config import DistillConfig
from .fake_quantize_encoder import ENCODER_BITS, merged_for_rounding
from .meter import Meter
from .models.pooled import Pooled
from .models.protocol import SequenceModel, innermost
from .study_setup import load_study, study_parser

FORMS: tuple[EncoderForm, ...] = get_args(EncoderForm)


def lines(result: Mapping[str, Any]) -> list[str]:
    """The rows, for a terminal."""
    made = [f"float encoder: NDCG@10 {result['ndcg10']:.5f} on {result['users']:,} validation users"]
    for row in result["rows"]:
        kept = row["kept"]
        times = "".join(f"   {row[name]:7.1f} us" for name in ("encode_us", "longest_us") if name in row)
        made.append(
            f"{row['form']:<14} {row['learned']:<22} {row['bytes']:>9,} bytes   "
            f"{kept['value']:.2%} kept [{kept['low']:.2%}, {kept['high']:.2%}]{times}"
        )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every form, and print what it keeps."""
    parser = study_parser("encoder_study", "What each form of an encoder costs and keeps.")
    parser.add_argument("--epochs", type=int, default=0, help="of learning around four bits; 0 leaves it out")
    parser.add_argument("--users", type=int, default=4000)
    data = load_study(parser, argv)
    args, teacher = data.args, data.teacher
    if isinstance(innermost(teacher), Pooled):
        raise InputError(f"{args.checkpoint}: an encoder of weighted means has no graph and so no forms")
    users = data.validation_users(args.users)
    counts = item_counts(data.training, len(teacher.item_table))
    with tempfile.TemporaryDirectory() as folder:
        meter = Meter(
            Path(folder), name="study", item_ids=data.loaded.item_ids, validation=users, item_counts=counts, keep_repeats=False,
        )  # fmt: skip

        def measured(model: SequenceModel, form: EncoderForm) -> tuple[int, np.ndarray[Any, Any]]:
            path = meter.export("form", model, bits=None, form=form, manifest={})
            return len(Bundle.open(path).part("encoder.onnx")), meter.measure_bundle(path, model, form)[1]

        before = measured(teacher, "float32")[1]

        def row(model: SequenceModel, form: EncoderForm, learned: str) -> dict[str, Any]:
            n_bytes, gains = measured(model, form)
            kept = paired_bootstrap(gains, before, seed=args.seed).ratio.to_json()
            return {"form": form, "learned": learned, "bytes": n_bytes, "kept": kept}

        times = meter.form_times(teacher, FORMS, args.seed)
        longest = meter.form_times(teacher, FORMS, args.seed, longest=True)
        rows = [
            {**row(teacher, form, "no"), "encode_us": times[form], "longest_us": longest[form]}
            for form in FORMS
        ]
        for learned, bits in (("rounded afterwards", None), ("rounded in the loop", ENCODER_BITS)):
            if args.epochs:
                student, _ = distill(
                    merged_for_rounding(teacher), teacher, data.training, DistillConfig(epochs=args.epochs), bits=None,
                    encoder_bits=bits, seed=args.seed, validate=lambda one: meter.validate(one, None),
                )  # fmt: skip
                rows.append(row(student, "int4", learned))
    result = data.write(
        {"users": len(before), "epochs": args.epochs, "ndcg10": float(before.mean()), "rows": rows}
    )
    print("\n".join(lines(result)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
