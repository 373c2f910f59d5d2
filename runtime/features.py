"""The fields of a pointwise model: what a row of features is made of, as the bundle's manifest says it.

    token       one token of a vocabulary: row 0 of its tables is any token that is not in it, the tokens are rows 1 and on
    token_seq   a list of tokens, at most `max_length` of them; a token that is not in the vocabulary is left out
    float       a number; x becomes (x - low) / (high - low)

A field describes the user, the item or the context (all that belongs to neither). Example:

>>> age = Field(name="age", kind="float", side="user", low=0.0, high=120.0)
>>> genre = Field(name="genre", kind="token", side="item", size=19)
>>> schema = FeatureSchema(fields=(age, genre), label="click")
>>> FeatureSchema.from_json(schema.to_json()) == schema
True
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

from .errors import BundleError, InputError

Kind = Literal["token", "token_seq", "float"]
Side = Literal["user", "item", "context"]
MAX_NAME = 300
"""Characters of a field's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field; raises `InputError` where it makes no sense."""

    name: str
    kind: Kind
    side: Side
    size: int = 0
    """Rows of its tables, the unknown token's with them; 0 for a float."""
    max_length: int = 1
    """Longest list of a token_seq."""
    low: float = 0.0
    """The number that becomes 0."""
    high: float = 1.0
    """The number that becomes 1."""

    def __post_init__(self) -> None:
        if not self.name.isprintable() or not 0 < len(self.name) <= MAX_NAME:
            raise InputError(
                f"field {self.name!r:.60}: expected a name of 1 to {MAX_NAME} printable characters"
            )
        if self.kind not in get_args(Kind) or self.side not in get_args(Side):
            raise InputError(
                f"field {self.name}: kind {self.kind!r:.20} of the {self.side!r:.20}; "
                f"expected one of {', '.join(get_args(Kind))} of one of {', '.join(get_args(Side))}"
            )
        if (self.size < 2) != (self.kind == "float") or self.size < 0:
            raise InputError(f"field {self.name}: {self.size} rows; expected 2 and more, and 0 for a float")
        if self.max_length < 1:
            raise InputError(f"field {self.name}: max_length {self.max_length}; expected at least 1")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InputError(
                f"field {self.name}: range {self.low} to {self.high}; expected finite, low < high"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSchema:
    """All fields of a model, in its order."""

    fields: tuple[Field, ...]
    label: str
    """The column of the data that says what is predicted."""

    def __post_init__(self) -> None:
        names = [field.name for field in self.fields]
        if not names or len(set(names)) < len(names):
            raise InputError(f"features: fields {', '.join(names)[:60] or 'none'}; expected distinct names")

    def of(self, *kinds: Kind) -> tuple[Field, ...]:
        """The fields of some kinds, in order."""
        return tuple(field for field in self.fields if field.kind in kinds)

    def field(self, name: str) -> Field:
        """The field of that name; raises `InputError` where there is none."""
        for field in self.fields:
            if field.name == name:
                return field
        raise InputError(f"no field {name!r:.60}; expected one of {', '.join(f.name for f in self.fields)}")

    def check_names(self, names: Iterable[str]) -> None:
        """Refuse a feature that is no field; raises `InputError`, with the nearest name that is one."""
        known = [field.name for field in self.fields]
        for name in names:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"expected some of {', '.join(known)}"
                raise InputError(f"no feature is named {name!r:.60}; {hint}")

    def to_json(self) -> dict[str, Any]:
        """As the manifest holds it: without what is at its default."""
        fields = [
            {name: value for name, value in asdict(field).items() if _DEFAULTS.get(name) != value}
            for field in self.fields
        ]
        return {"label": self.label, "fields": fields}

    @classmethod
    def from_json(cls, value: Any, where: str = "features") -> FeatureSchema:
        """The inverse, for the manifest of `where`; raises `BundleError` where `to_json` did not make the value."""
        try:
            match value:
                case {"label": str(label), "fields": list() as fields}:
                    return cls(label=label, fields=tuple(map(_field, fields)))
                case _:
                    raise InputError(f"features are {value!r:.60}; expected a label and fields")
        except InputError as error:
            raise BundleError(f"{where}: {error}; export the bundle again") from None


_TYPES: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "kind": (str,),
    "side": (str,),
    "size": (int,),
    "max_length": (int,),
    "low": (float, int),
    "high": (float, int),
}


_DEFAULTS: dict[str, Any] = {"size": 0, "max_length": 1, "low": 0.0, "high": 1.0}


def _field(value: Any) -> Field:
    if not isinstance(value, dict) or set(_DEFAULTS | value) != set(_TYPES):
        raise InputError(f"a field of features is {value!r:.60}; expected {', '.join(_TYPES)}")
    fields = _DEFAULTS | cast(dict[str, Any], value)
    for name, types in _TYPES.items():
        if type(fields[name]) not in types:
            raise InputError(f"{name} of a field is {fields[name]!r:.40}; expected {types[0].__name__}")
    return Field(**fields)
