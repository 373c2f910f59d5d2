"""Which recipes are tried where the default one breaks the budget: from the gentlest to the harshest.

What loses too much is followed by gentler recipes, what is too large or too slow by harsher ones, one after the other and
nearest first, all judged on validation. Each is a whole compression, minutes long, so the ladder is short.
"""

from __future__ import annotations

import dataclasses

from .adapt import AdaptationConfig
from .distill_config import DistillConfig
from .neighbor_choice import NeighborsConfig
from .prune import PruneConfig
from .recipe import RECIPES, EncoderConfig, Recipe, TableConfig

_LIGHT = AdaptationConfig(taste_width=0)
"""Learns with what the item table gives: a second table would cost what a smaller first one saves."""
LADDER: tuple[Recipe, ...] = (
    Recipe(
        name="float32 encoder",
        table=TableConfig(bits=8),
        neighbors=NeighborsConfig(keep=1.0),
        adaptation=AdaptationConfig(),
    ),
    RECIPES["lossless"],
    RECIPES["balanced"],
    Recipe(
        name="small",
        prune=PruneConfig(keep_heads=0.25, keep_inner=0.25),
        distill=DistillConfig(),
        table=TableConfig(bits=3),
        encoder=EncoderConfig(),
        neighbors=NeighborsConfig(keep=0.97, bits=4),
        adaptation=_LIGHT,
    ),
    RECIPES["tiny"],
)
"""The named recipes, and what lies between and beyond them."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rungs:
    """What is tried after a recipe, nearest first."""

    gentler: tuple[Recipe, ...] = ()
    harsher: tuple[Recipe, ...] = ()


def rungs_around(recipe: Recipe) -> Rungs:
    """The ladder as seen from one of its recipes, all with its seed.

    Raises:
        ValueError: the recipe is none of the ladder's.
    """
    place = [one.name for one in LADDER].index(recipe.name)
    seeded = [dataclasses.replace(one, seed=recipe.seed) for one in LADDER]
    return Rungs(gentler=tuple(reversed(seeded[:place])), harsher=tuple(seeded[place + 1 :]))
