"""What to do to a model: one config a step, None skips the step.

A recipe is named, or read from TOML:

    [student]
    layers = [1]
    [prune]
    keep_heads = 0.5
    [distill]
    epochs = 8
    [table]
    bits = 4
    [encoder]
    bits = 8
    [guard]
    max_drop = 0.01
    [adaptation]
    taste_width = 32

A section that is missing is a step that is skipped; a key that is missing has its default; an unknown one is an error.
The resolved recipe goes into the bundle's manifest.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ..runtime.errors import InputError
from .adapt import AdaptationConfig
from .distill_config import DistillConfig
from .fallback import GuardConfig
from .neighbor_choice import NeighborsConfig
from .prune import PruneConfig
from .sparsify import SparsifyConfig
from .student import StudentConfig
from .table_form import TableConfig


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """How the encoder's weight matrices are stored and multiplied."""

    bits: int = 8
    """8: int8 with a scale a column. 4: packed, with a scale for each block of 32 inputs, and rounded in distillation's loop
    (`fake_quantize_encoder`)."""
    products: Literal["measured", "int8", "static", "float32"] = "measured"
    """`int8`: products of rounded weights, activations rounded per call. `static`: the same with ranges calibrated on the
    users' own histories, of 8 bits. `float32`: weights restored when they are loaded. `measured`: whichever is fastest on
    this machine and the users' histories, and as good (`encoder_form`)."""

    def __post_init__(self) -> None:
        if self.bits not in (4, 8):
            raise ValueError(f"encoder: bits {self.bits}, expected 4 or 8; leave the section out for float32")
        if self.products not in ("measured", "int8", "static", "float32"):
            raise ValueError(
                f"encoder: products {self.products!r}, expected measured, int8, static or float32"
            )
        if self.products == "static" and self.bits != 8:
            raise ValueError(f"encoder: static products are of 8 bits, not of {self.bits}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All steps in their order."""

    name: str
    student: StudentConfig | None = None
    """Of another shape than the teacher: fewer layers, fewer dimensions, another architecture."""
    prune: PruneConfig | None = None
    distill: DistillConfig | None = None
    sparsify: SparsifyConfig | None = None
    table: TableConfig | None = None
    encoder: EncoderConfig | None = None
    neighbors: NeighborsConfig | None = None
    """Of item-item weights, in place of the table: None keeps all of them in float32."""
    guard: GuardConfig | None = None
    """What is taken instead where the steps above lose too much; None takes them as they are."""
    adaptation: AdaptationConfig | None = None
    seed: int = 0
    """Of everything random in compression; the same seed on the same machine gives the same weights."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed {self.seed}, expected 0 to 2**63 - 1")
        if self.prune is not None and self.prune.rounds > 1 and self.distill is None:
            raise ValueError(
                f"prune: {self.prune.rounds} rounds, but no [distill] says how to learn between them; add it, or leave rounds out"
            )

    def to_json(self) -> dict[str, Any]:
        """As the manifest has it: skipped steps are null."""
        return dataclasses.asdict(self)


RECIPES: dict[str, Recipe] = {
    "balanced": Recipe(
        name="balanced",
        prune=PruneConfig(),
        distill=DistillConfig(),
        table=TableConfig(bits=3, head_share=0.1),
        encoder=EncoderConfig(),
        neighbors=NeighborsConfig(),
        guard=GuardConfig(),
        adaptation=AdaptationConfig(),
    ),
    "lossless": Recipe(
        name="lossless",
        table=TableConfig(bits=4),
        encoder=EncoderConfig(),
        neighbors=NeighborsConfig(keep=1.0),
        adaptation=AdaptationConfig(),
    ),
    "tiny": Recipe(
        name="tiny",
        student=StudentConfig(architecture="pooled"),
        prune=PruneConfig(keep_heads=0.5, keep_inner=0.25, max_drop=1.0),
        distill=DistillConfig(table_learning_rate=3e-4, hidden_weight=1.0),
        table=TableConfig(bits=2, head_share=0.1, tail_share=0.5),
        encoder=EncoderConfig(),
        neighbors=NeighborsConfig(keep=0.95, bits=4),
        adaptation=AdaptationConfig(taste_width=0),
    ),
    "int8": Recipe(
        name="int8", table=TableConfig(bits=8), encoder=EncoderConfig(), neighbors=NeighborsConfig()
    ),
}
"""`balanced`, the default: small, fast and as good. `lossless`: rounding only, done in a minute. `tiny`: as small as it gets
while the ranking is still worth having; nothing gentler is taken where it loses. `int8`: what every other tool calls
quantization, for comparison."""

DEFAULT = "balanced"

_SECTIONS: dict[str, type[Any]] = {
    "student": StudentConfig,
    "prune": PruneConfig,
    "distill": DistillConfig,
    "sparsify": SparsifyConfig,
    "table": TableConfig,
    "encoder": EncoderConfig,
    "neighbors": NeighborsConfig,
    "guard": GuardConfig,
    "adaptation": AdaptationConfig,
}


def load_recipe(name_or_path: str) -> Recipe:
    """A named recipe, or the one in a TOML file.

    Raises:
        InputError: no such name or file, not TOML, an unknown key (the nearest known one is named), a bad value.
    """
    if name_or_path in RECIPES:
        return RECIPES[name_or_path]
    path = Path(name_or_path)
    if path.suffix != ".toml":
        raise InputError(
            f"recipe {name_or_path!r}: expected {', '.join(RECIPES)}, or a file that ends in .toml{_nearest(name_or_path, RECIPES)}"
        )
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a TOML file ({error})") from None
    return recipe_from_mapping(content, path.stem, str(path))


def recipe_from_mapping(content: Mapping[str, Any], name: str, where: str) -> Recipe:
    """The recipe of a parsed TOML file; `where` is named in errors."""
    known = (*_SECTIONS, "seed")
    for key in content:
        if key not in known:
            raise InputError(
                f"{where}: unknown key {key!r}; expected {', '.join(known)}{_nearest(key, known)}"
            )
    steps: dict[str, Any] = {}
    for section, config in _SECTIONS.items():
        if section not in content:
            continue
        values = content[section]
        if not isinstance(values, dict):
            raise InputError(f"{where}: {section} is {values!r}, expected a section [{section}]")
        kinds = get_type_hints(config)
        for key, value in values.items():
            if key not in kinds:
                raise InputError(
                    f"{where}: unknown key {key!r} in [{section}]; expected {', '.join(kinds)}{_nearest(key, kinds)}"
                )
            _check_kind(value, kinds[key], f"{where}: [{section}] {key}")
        try:
            steps[section] = config(**values)
        except ValueError as error:
            raise InputError(f"{where}: {error}") from None
    seed = content.get("seed", 0)
    _check_kind(seed, int, f"{where}: seed")
    try:
        return Recipe(name=name, seed=seed, **steps)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None


def _check_kind(value: Any, kind: Any, what: str) -> None:
    """What Python would take for a number, and compression would stumble over minutes later."""
    if kind is bool:
        good, expected = type(value) is bool, "true or false"
    elif kind is float or float in get_args(kind):  # float | None, which TOML leaves out
        good, expected = type(value) in (int, float) and math.isfinite(value), "a finite number"
    elif get_origin(kind) is Literal:
        good, expected = value in get_args(kind), f"one of {', '.join(map(repr, get_args(kind)))}"
    elif tuple[int, ...] in get_args(kind):
        good = isinstance(value, list) and all(type(one) is int for one in value)
        expected = "a list of whole numbers"
    else:  # int, or int | None, which TOML leaves out
        good, expected = type(value) is int, "a whole number"
    if not good:
        raise InputError(f"{what} is {value!r}, expected {expected}")


def _nearest(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
