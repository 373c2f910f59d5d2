"""What `pocketrec compress` prints of the bundle that it wrote."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .compress_pointwise import print_label_result

if TYPE_CHECKING:
    from ..compress.publication import Compressed


def print_done(compressed: Compressed, *, as_json: bool) -> int:
    """As text or as JSON; the exit code, 0."""
    if as_json:
        print(json.dumps(_as_json(compressed), indent=1))
    elif "auc" in compressed.metrics["accuracy"]["metrics"]:
        print_label_result(compressed)
    else:
        _print_result(compressed)
    return 0


def _print_result(done: Compressed) -> None:
    ours, theirs = done.metrics["accuracy"]["metrics"], done.metrics["teacher"]["metrics"]
    popular, kept = done.metrics["popularity"]["metrics"], done.metrics["kept"]["metrics"]
    print(f"\ntest items, full ranking {'':8} teacher    bundle      kept (95% interval)          popularity")
    for name in ("hr@10", "ndcg@10", "mrr@10"):
        share = _share(kept[name]["ratio"])
        print(
            f"  {name.upper():<30} {theirs[name]['value']:.4f}    {ours[name]['value']:.4f}    {share:<28} {popular[name]['value']:.4f}"
        )
    if "own_users" in done.metrics:
        own = done.metrics["own_users"]
        folded, bundled = (
            _share(own[name]["metrics"]["ndcg@10"]["ratio"]) for name in ("folded_kept", "kept")
        )
        print(
            f"  NDCG@10 by the checkpoint's own user vectors: {own['metrics']['ndcg@10']['value']:.4f}; "
            f"folded in, users keep {folded} of it, in the bundle {bundled}"
        )
    if popular["ndcg@10"]["value"] >= theirs["ndcg@10"]["value"]:
        print(
            "  warning: the teacher is no better than popularity; is this the data set that it was trained on?"
        )
    print(
        f"\n{done.path}: {done.size_bytes:,} bytes, {done.checkpoint_bytes / done.size_bytes:.2f}x smaller than the checkpoint's "
        f"weights ({done.checkpoint_bytes:,}), in {done.seconds:.0f} s"
    )


def _share(ratio: dict[str, float | None]) -> str:
    """101.5% (96.2% to 107.4%)."""
    if ratio["value"] is None:
        return "n/a"
    return f"{ratio['value']:.1%} ({ratio['low']:.1%} to {ratio['high']:.1%})"


def _as_json(done: Compressed) -> dict[str, Any]:
    return {
        "output": str(done.path),
        "size_bytes": done.size_bytes,
        "checkpoint_bytes": done.checkpoint_bytes,
        "ratio": done.checkpoint_bytes / done.size_bytes,
        "steps": [step.to_json() for step in done.steps],
        "metrics": done.metrics,
        "seconds": done.seconds,
    }
