"""The schema of a pointwise model's fields."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pocketrec.runtime.errors import BundleError, InputError
from pocketrec.runtime.features import FeatureSchema, Field

AGE = Field(name="age", kind="float", side="user", low=10.0, high=90.0)
GENRES = Field(name="genres", kind="token_seq", side="item", size=19, max_length=6)
HOUR = Field(name="hour", kind="token", side="context", size=25)
SCHEMA = FeatureSchema(fields=(AGE, GENRES, HOUR), label="click")


def test_it_survives_json() -> None:
    assert FeatureSchema.from_json(json.loads(json.dumps(SCHEMA.to_json()))) == SCHEMA


def test_fields_are_found() -> None:
    assert SCHEMA.of("token", "token_seq") == (GENRES, HOUR)
    assert SCHEMA.field("age") is AGE
    with pytest.raises(InputError, match="no field 'sex'; expected one of age, genres, hour"):
        SCHEMA.field("sex")
    SCHEMA.check_names({"age": 3, "hour": 9})
    with pytest.raises(InputError, match=r"no feature is named 'genre'; did you mean 'genres'\?"):
        SCHEMA.check_names(["genre"])
    with pytest.raises(InputError, match="no feature is named 'zip'; expected some of age, genres, hour"):
        SCHEMA.check_names(["zip"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "expected a name of 1 to 300 printable characters"),
        ({"name": "a\nb"}, "expected a name of 1 to 300 printable characters"),
        ({"kind": "word"}, "expected one of token, token_seq, float"),
        ({"side": "shop"}, "of one of user, item, context"),
        ({"size": 1}, "1 rows; expected 2 and more"),
        ({"size": -2}, "-2 rows; expected 2 and more"),
        ({"max_length": 0}, "max_length 0; expected at least 1"),
        ({"kind": "float", "size": 0, "low": 1.0}, "range 1.0 to 1.0; expected finite, low < high"),
        ({"kind": "float", "size": 0, "high": float("inf")}, "range 0.0 to inf"),
        ({"kind": "float"}, "19 rows; expected 2 and more, and 0 for a float"),
    ],
)
def test_fields_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    fields = {"name": "genres", "kind": "token", "side": "item", "size": 19} | changes
    with pytest.raises(InputError, match=message):
        Field(**fields)


@pytest.mark.parametrize("fields", [(), (AGE, AGE)])
def test_schemas_that_make_no_sense(fields: tuple[Field, ...]) -> None:
    with pytest.raises(InputError, match="expected distinct names"):
        FeatureSchema(fields=fields, label="click")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "features are None; expected a label and fields"),
        ({"label": 3, "fields": []}, "expected a label and fields"),
        ({"label": "y", "fields": [3]}, "a field of features is 3; expected name, kind"),
        ({"label": "y", "fields": [{"name": "a"}]}, "expected name, kind, side"),
        ({"label": "y", "fields": [SCHEMA.to_json()["fields"][0] | {"size": "0"}]}, "size of a field is '0'"),
        (
            {"label": "y", "fields": [SCHEMA.to_json()["fields"][0] | {"size": True}]},
            "size of a field is True",
        ),
    ],
)
def test_manifests_that_say_something_else(value: Any, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        FeatureSchema.from_json(value, "m.pocket")
    assert str(caught.value).startswith("m.pocket: ")
    assert str(caught.value).endswith("; export the bundle again")
