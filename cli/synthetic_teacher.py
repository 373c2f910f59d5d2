"""A SASRec of any size without a training run, and histories that it has something to say about: for sizes and times.

    python -m pocketrec.cli.synthetic_teacher --items 50000 --width 128 -o FOLDER

writes `teacher.safetensors` and `interactions.txt`. Items lie in clusters, with a spectrum that falls like that of
trained tables; a user stays in few clusters, and popular items come more often. The encoder has fresh weights, of which
residual sums carry the last items through, so a user's vector lies near the clusters of the history: ranks are far from
chance, and agreement of a quantized model with this one means what it means on a trained one. Its NDCG is that of the
made-up histories, and no claim on accuracy rests on it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CLUSTER_ITEMS = 25
"""Items of a cluster."""
SPREAD = 0.7
"""Of an item around its cluster, in units of the clusters' own deviation."""
DECAY = 0.2
"""The deviation of dimension i falls as i ** -DECAY, before a random rotation: .18 fits the singular values of ICSRec's
table of Beauty."""
DEVIATION = 0.37
"""Of the table's numbers: that of the same table."""


def clustered_table(n_items: int, width: int, seed: int) -> NDArray[np.float32]:
    """float32 (N, D), rows in clusters of `CLUSTER_ITEMS`, of the deviation `DEVIATION`."""
    rng = np.random.default_rng(seed)
    scales = np.arange(1, width + 1) ** -DECAY
    clusters = rng.standard_normal((-(-n_items // CLUSTER_ITEMS), width))
    rows = np.repeat(clusters, CLUSTER_ITEMS, axis=0)[:n_items]
    rows = (rows + SPREAD * rng.standard_normal(rows.shape)) * scales
    rotation, _ = np.linalg.qr(rng.standard_normal((width, width)))
    rows = rows @ rotation
    return (DEVIATION * rows / rows.std()).astype(np.float32)


def clustered_histories(n_users: int, n_items: int, seed: int) -> list[NDArray[np.int64]]:
    """Item rows of each user, 5 to 30 different ones, three of four from two clusters of the user's, the rest by
    popularity, which falls as 1 / rank of a random order."""
    rng = np.random.default_rng([seed, 1])
    popular, share = rng.permutation(n_items), 1 / np.arange(1, n_items + 1)
    drawn = rng.choice(popular, size=(n_users, 30), p=share / share.sum())
    own = rng.integers(-(-n_items // CLUSTER_ITEMS), size=(n_users, 2))[:, rng.integers(2, size=30)]
    inside = np.minimum(own * CLUSTER_ITEMS + rng.integers(CLUSTER_ITEMS, size=own.shape), n_items - 1)
    rows = np.where(rng.random(own.shape) < 0.75, inside, drawn)
    histories: list[NDArray[np.int64]] = []
    for user in range(n_users):
        _, first = np.unique(rows[user], return_index=True)
        histories.append(rows[user][np.sort(first)][: rng.integers(5, 31)])
    return histories


def main(argv: Sequence[str] | None = None) -> int:
    """Write both files."""
    parser = argparse.ArgumentParser(
        prog="python -m pocketrec.cli.synthetic_teacher", description="A SASRec of any size, and data for it."
    )
    parser.add_argument("-o", "--output", metavar="FOLDER", type=Path, required=True)
    parser.add_argument("--items", metavar="N", type=int, default=50_000)
    parser.add_argument("--width", metavar="N", type=int, default=128)
    parser.add_argument("--layers", metavar="N", type=int, default=2)
    parser.add_argument("--heads", metavar="N", type=int, default=2)
    parser.add_argument("--users", metavar="N", type=int, default=5_000)
    parser.add_argument("--seed", metavar="N", type=int, default=0)
    args = parser.parse_args(argv)
    import torch

    from ..compress.models.sasrec import SASRec, SASRecConfig
    from ..compress.native_checkpoint import save_checkpoint
    from ..runtime.item_ids import ItemIds

    config = SASRecConfig(n_items=args.items, width=args.width, n_layers=args.layers, n_heads=args.heads)
    model = SASRec(config, seed=args.seed).eval()
    with torch.no_grad():
        model.item_table.copy_(torch.from_numpy(clustered_table(args.items, args.width, args.seed)))
    args.output.mkdir(parents=True, exist_ok=True)
    histories = clustered_histories(args.users, args.items, args.seed)
    lines = (f"{user} {' '.join(str(row + 1) for row in rows)}\n" for user, rows in enumerate(histories, 1))
    (args.output / "interactions.txt").write_text("".join(lines), encoding="utf-8")
    save_checkpoint(
        args.output / "teacher.safetensors", model, ItemIds.from_sequence(range(1, args.items + 1))
    )
    print(f"{args.output}: teacher.safetensors, interactions.txt", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
