"""Hide some items, as if they came out tomorrow: the interactions without them, to train a checkpoint on.

Drawn with the seed among the items that have a title, which is how `pocketrec compress hf:FOLDER --hide-items` draws: a
ranker over titles and a checkpoint that hides the same share of the same data with the same seed know the same items, and
`cold_items` asks both for the same others.

    python -m pocketrec.benchmarks.hide_items DATA --items TITLES --share 10% -o warm.tsv
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..runtime.atomic_file import write_atomically
from ..runtime.errors import InputError, MissingExtraError
from .interactions import Interactions, read_interactions
from .item_texts import ItemTexts, read_item_texts


def titled_items(interactions: Interactions, texts: ItemTexts) -> list[int] | list[str]:
    """Items of the data with a title, in their order of first appearance.

    Raises:
        InputError: there is none.
    """
    ids = interactions.item_ids
    titled = [item for item, title in zip(ids, texts.of(ids), strict=True) if title]
    if not titled:
        raise InputError(
            f"{texts.source}: has a title for none of the {interactions.n_items:,} items of {interactions.source} "
            f"(such as {ids[0]!r}); are these its items?"
        )
    return titled  # type: ignore[return-value]


def hidden_items(titled: list[int] | list[str], share: float, seed: int) -> set[int | str]:
    """The items to hide: a share of `titled`, rounded.

    >>> len(hidden_items(list(range(20)), 0.1, seed=0))
    2
    """
    drawn = np.random.default_rng(seed).choice(len(titled), round(len(titled) * share), replace=False)
    return {titled[n] for n in drawn.tolist()}


def write_without(interactions: Interactions, hidden: set[int | str], path: Path) -> int:
    """Write the interactions that are left, tab-separated, each user's in time order; returns how many.

    Raises:
        FileExistsError: `path` exists.
        InputError: an id has a tab or a line break in it.
    """
    times = interactions.times
    lines = ["user_id\titem_id" + ("" if times is None else "\ttimestamp")]
    for u, user in enumerate(interactions.user_ids):
        for n in range(interactions.indptr[u], interactions.indptr[u + 1]):
            item = interactions.item_ids[interactions.items[n]]
            if item not in hidden:
                line = f"{user}\t{item}" + ("" if times is None else f"\t{times[n]:.17g}")
                lines.append(line)
    text = "\n".join(lines) + "\n"
    if len(text.split("\n")) != len(lines) + 1 or any(
        len(line.split("\t")) != len(lines[0].split("\t")) for line in lines
    ):
        raise InputError(f"{interactions.source}: ids with tabs or line breaks cannot be written as a table")
    write_atomically(path, [text.encode()], overwrite=False)
    return len(lines) - 1


def main(argv: Sequence[str] | None = None) -> int:
    """The module as a command."""
    parser = argparse.ArgumentParser(prog="python -m pocketrec.benchmarks.hide_items", allow_abbrev=False)
    parser.add_argument("data", type=Path, help="all interactions")
    parser.add_argument("--items", type=Path, required=True, help="titles of the items")
    parser.add_argument("--share", type=float, default=0.1, help="of the items with a title (default: 0.1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the interactions that are left")
    args = parser.parse_args(argv)
    try:
        if not 0 < args.share < 1 or args.seed < 0:
            raise InputError(
                f"share {args.share}, seed {args.seed}: expected between 0 and 1, and at least 0"
            )
        interactions = read_interactions(args.data)
        hidden = hidden_items(titled_items(interactions, read_item_texts(args.items)), args.share, args.seed)
        kept = write_without(interactions, hidden, args.output)
    except FileExistsError:
        print(f"hide_items: {args.output}: already exists; choose another name", file=sys.stderr)
        return 2
    except (InputError, MissingExtraError, OSError) as error:
        print(f"hide_items: {error}", file=sys.stderr)
        return 2
    print(
        f"{args.output}: {kept:,} of {interactions.n_interactions:,} interactions, {len(hidden):,} items hidden"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
