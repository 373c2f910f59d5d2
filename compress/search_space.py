"""Which recipes a search goes through: a few choices of what costs bytes and what costs accuracy.

    models of histories   bits of the table; its rank, as a share of the model's width; the share of rare items whose rows are
                          codes of codebooks; what stays of the encoder, or what takes its place; distilled or not
    models of features    bits of the tables; what pruning keeps; distilled or not
    item-item weights     neighbours of each item; bits of a weight

Every recipe rounds the encoder to int8, has no guard, since what loses too much is not on the front, and learns on the device
with what the item table gives.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from ..runtime.errors import GateError
from .adapt import AdaptationConfig
from .distill_config import DistillConfig
from .item_item_road import ItemItemRoad
from .models.protocol import SequenceModel, innermost
from .neighbor_choice import NeighborsConfig
from .pipeline import SequenceRoad
from .pointwise_road import PointwiseRoad
from .prune import TRANSFORMERS, PruneConfig, can_prune
from .prune_pointwise import mlp_groups
from .recipe import EncoderConfig, Recipe, TableConfig
from .road import Road
from .student import StudentConfig

Choice = int | float | str
Params = Mapping[str, Choice]
BITS = (8, 4, 3, 2)
RANKS = (1.0, 0.75, 0.5)
KEEPS = (1.0, 0.5, 0.25)
TAILS = (0.0, 0.5)
COUNTS = (128, 64, 32, 16, 8)
POOLED = "pooled"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """What can be chosen, and the recipe of a choice."""

    choices: Mapping[str, Sequence[Choice]]
    recipe: Callable[[Params], Recipe]
    """Raises `GateError` of a choice that makes no sense, which a search leaves out."""

    def all(self) -> list[dict[str, Choice]]:
        """Every combination, in order."""
        return [
            dict(zip(self.choices, values, strict=True))
            for values in itertools.product(*self.choices.values())
        ]


def space_of(road: Road, *, epochs: int, seed: int) -> SearchSpace:
    """The space of a road's family, without what means nothing for its model.

    Args:
        epochs: of distillation inside a trial; 0 leaves distillation out.
    """
    passes = (0, epochs) if epochs else (0,)

    def recipe(name: str, params: Params, **steps: Any) -> Recipe:
        return Recipe(name=f"{name} {describe(params)}", seed=seed, encoder=EncoderConfig(), **steps)

    match road:
        case SequenceRoad():
            width, encoders = road.model.width, _encoders(road.model, epochs=epochs)

            def of_sequence(params: Params) -> Recipe:
                rank, tail = float(params["rank"]), float(params["tail"])
                student, pruned = encoders[str(params["encoder"])]
                if params["encoder"] == POOLED and not params["epochs"]:
                    raise GateError(
                        "weighted means have nothing of the teacher's encoder: they need distillation"
                    )
                return recipe(
                    "searched", params, student=student, prune=pruned, distill=_distilled(params),
                    table=TableConfig(
                        bits=int(params["bits"]), width=None if rank == 1 else max(1, round(rank * width)), tail_share=tail
                    ),
                    adaptation=AdaptationConfig(taste_width=0),
                )  # fmt: skip

            choices = {
                "bits": BITS, "rank": RANKS, "tail": TAILS, "encoder": tuple(encoders), "epochs": passes,
            }  # fmt: skip
            return SearchSpace(choices=choices, recipe=of_sequence)
        case PointwiseRoad():
            keeps = KEEPS if mlp_groups(cast(Any, road.teacher)) else (1.0,)

            def of_rows(params: Params) -> Recipe:
                keep = float(params["keep"])
                return recipe(
                    "searched", params, prune=None if keep == 1 else PruneConfig(keep_inner=keep),
                    distill=_distilled(params), table=TableConfig(bits=int(params["bits"])),
                )  # fmt: skip

            return SearchSpace(choices={"bits": BITS, "keep": keeps, "epochs": passes}, recipe=of_rows)
        case ItemItemRoad():

            def of_neighbors(params: Params) -> Recipe:
                config = NeighborsConfig(count=int(params["count"]), bits=int(params["bits"]))
                return Recipe(
                    name=f"searched count={params['count']} bits={params['bits']}",
                    seed=seed,
                    neighbors=config,
                )

            counts = [count for count in COUNTS if count < road.teacher.model.count] or [
                road.teacher.model.count
            ]
            return SearchSpace(choices={"count": counts, "bits": (8, 4, 2)}, recipe=of_neighbors)
        case _:
            raise TypeError(f"no search space of a {type(road).__name__}")


def _distilled(params: Params) -> DistillConfig | None:
    return DistillConfig(epochs=int(params["epochs"])) if params["epochs"] else None


def describe(params: Params) -> str:
    """For people.

    >>> describe({"bits": 4, "rank": 0.75, "encoder": "last layer"})
    'bits=4 rank=0.75 encoder=last layer'
    """
    return " ".join(
        f"{name}={value if isinstance(value, str) else f'{value:g}'}" for name, value in params.items()
    )


def _encoders(
    model: SequenceModel, *, epochs: int
) -> dict[str, tuple[StudentConfig | None, PruneConfig | None]]:
    """What stays of the encoder, by name: the student and the pruning that make it. What has nothing of the teacher's
    weights needs distillation."""
    found: dict[str, tuple[StudentConfig | None, PruneConfig | None]] = {"whole": (None, None)}
    pruned = {
        keep: PruneConfig(keep_heads=keep, keep_inner=keep, keep_kernels=keep, max_drop=1.0)
        for keep in KEEPS[1:]
    }
    if can_prune(model):
        found |= {f"{keep:.0%}": (None, config) for keep, config in pruned.items()}
    inner = innermost(model)
    if isinstance(inner, TRANSFORMERS) and len(inner.layers) > 1:
        last = StudentConfig(layers=(len(inner.layers) - 1,))
        found |= {"last layer": (last, None), "50% of the last layer": (last, pruned[0.5])}
    if epochs:
        found[POOLED] = StudentConfig(architecture="pooled"), None
    return found
