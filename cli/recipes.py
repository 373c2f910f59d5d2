"""The recipes table: each named recipe on two checkpoints, from which the README says what a recipe gives.

    python -m pocketrec.cli.recipes --checkpoints ../shared/checkpoints --data ../shared/data

Each pair of a checkpoint and a recipe is one run of `pocketrec compress --recipe NAME` and one JSON, of the fields that a row
of the families table has (`families.row_results`). Bundles that are there already are kept, so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from ..benchmarks.recipes_table import RECIPES
from . import families

CHECKPOINTS = ("icsrec-sasrec", "pmixer-sasrec")
"""Of `families.ROWS`: a large catalogue with short histories, and a small one with long histories."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every pair that is asked for; 1 where one of them failed, the others are written all the same."""
    parser = argparse.ArgumentParser(
        prog="python -m pocketrec.cli.recipes",
        description="Each named recipe on two checkpoints.",
        allow_abbrev=False,
    )
    families.add_folders(parser, json_dir=Path("benchmarks/results/recipes"), out=Path("out/recipes"))
    parser.add_argument("--only", metavar="NAME", nargs="+", choices=CHECKPOINTS, help="these checkpoints")
    parser.add_argument("--recipe", metavar="NAME", nargs="+", choices=RECIPES, help="these recipes")
    args = parser.parse_args(argv)
    rows = [row for row in families.ROWS if row.name in (args.only or CHECKPOINTS)]
    pairs = [
        (dataclasses.replace(row, name=f"{row.name}-{recipe}"), recipe)
        for row in rows
        for recipe in (args.recipe or RECIPES)
    ]
    return families.measure_all(pairs, args)


if __name__ == "__main__":
    sys.exit(main())
