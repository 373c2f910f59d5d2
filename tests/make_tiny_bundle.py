"""Make the tiny bundles that the runtime's tests run on: `python tests/make_tiny_bundle.py [FOLDER]`.

They are committed, because the runtime is tested where nothing can make them (numpy and onnxruntime alone). Random
weights, 50 items of width 16; `tiny-range` has ids 1..50 and a 4 bit table, `tiny-text` has strings and a 3 bit table,
`tiny-taste` is `tiny-range` with a prior of the mixture and a taste table. Run it again when the format changes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from pocketrec.compress.adapt import write_adapted
from pocketrec.compress.models.sasrec import SASRec, SASRecConfig
from pocketrec.export.bundle_writer import BundleContent, export_bundle
from pocketrec.export.scorer_graph import scoring_block
from pocketrec.runtime.adaptation import OWN_EXPERTS, TASTE_EXPERTS
from pocketrec.runtime.item_ids import ItemIds
from pocketrec.runtime.item_table import quantize_rows

FOLDER = Path(__file__).parent / "runtime" / "data"
N_ITEMS, WIDTH, MAX_LENGTH = 50, 16, 8
TINY = {
    "tiny-range.pocket": (ItemIds.from_sequence(range(1, N_ITEMS + 1)), 4),
    "tiny-text.pocket": (ItemIds.from_sequence([f"item-{n:02}" for n in range(N_ITEMS)]), 3),
}
TASTE = "tiny-taste.pocket"
WEIGHTS = [0.8, 0.1, 0.5, 1.0, 1.5, 0.5, 0.5, 1.0, 0.5, 0.5]


def make_tiny_bundle(path: Path, item_ids: ItemIds, bits: int, seed: int = 0) -> int:
    """Write one; returns its size in bytes."""
    rng = np.random.default_rng(seed)
    config = SASRecConfig(
        n_items=N_ITEMS, width=WIDTH, n_layers=1, n_heads=1, max_length=MAX_LENGTH, inner_widths=16
    )
    model = SASRec(config, seed=seed).eval()
    content = BundleContent(
        name=path.stem,
        encoder=model,
        max_length=MAX_LENGTH,
        table=quantize_rows(rng.standard_normal((N_ITEMS, WIDTH)).astype(np.float32), bits),
        item_ids=item_ids,
        prior_user=rng.standard_normal(WIDTH).astype(np.float32),
        encoder_form="float32",
        manifest={},
    )
    histories = [rng.integers(0, N_ITEMS, n) for n in range(1, MAX_LENGTH)]
    return export_bundle(path, content, histories, overwrite=True)


def make_tiny_bundles(folder: Path) -> list[Path]:
    """Write all of them into `folder`."""
    for name, (item_ids, bits) in TINY.items():
        make_tiny_bundle(folder / name, item_ids, bits)
    make_taste_bundle(folder / TASTE, folder / "tiny-range.pocket")
    return [folder / name for name in (*TINY, TASTE)]


def make_taste_bundle(path: Path, draft: Path) -> int:
    """Write the one with a prior and a taste table of 8 dimensions; returns its size in bytes."""
    taste = quantize_rows(np.random.default_rng(1).standard_normal((N_ITEMS, 8)), 4)
    adaptation = {
        "experts": [*OWN_EXPERTS, *TASTE_EXPERTS],
        "weights": {"catalogue": WEIGHTS, "popularity": [WEIGHTS[0], -0.5, *WEIGHTS[2:]]},
        "calibrated": {"catalogue": [1.0, 0.2], "popularity": [1.0, -0.8]},
        "variances": [1.0] * len(WEIGHTS),
        "taste": {**taste.describe(), "block": scoring_block(taste.width)},
    }
    return write_adapted(draft, path, adaptation, taste, overwrite=True)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    target.mkdir(parents=True, exist_ok=True)
    for made in make_tiny_bundles(target):
        print(made, made.stat().st_size)
