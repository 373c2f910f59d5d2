"""What is taken of the forms of an encoder: the fastest that is as good."""

from __future__ import annotations

from typing import Any

import pytest

from pocketrec.compress.encoder_form import MOST_LOST, choose_form
from pocketrec.compress.recipe import EncoderConfig
from pocketrec.compress.report import Measure


class Meter:
    """Says what it is told."""

    def __init__(self, forms: list[str], figures: dict[str, float]) -> None:
        self.forms, self.figures, self.asked = forms, figures, list[str]()

    def faster_forms(self, model: object, bits: int, seed: int) -> tuple[list[str], dict[str, float]]:
        return self.forms, dict.fromkeys(self.forms, 1.0)

    def measure(self, draft: str, model: object, *, bits: object, form: str) -> Measure:
        self.asked.append(form)
        return Measure(size_bytes=1, parameters=1, ndcg10=self.figures[form])


def chosen(meter: Any, **config: Any) -> tuple[str, dict[str, Any]]:
    model: Any = object()
    return choose_form(model, EncoderConfig(**config), meter, None, seed=0)


SLIGHTLY, MUCH = 0.5 * (1 - MOST_LOST / 2), 0.5 * (1 - 2 * MOST_LOST)


@pytest.mark.parametrize(
    ("static", "dynamic", "taken", "asked"),
    [
        (0.6, 0.5, "int8-static", ["int8", "int8-static"]),
        (SLIGHTLY, 0.5, "int8-static", ["int8", "int8-static"]),
        (MUCH, SLIGHTLY, "int8-products", ["int8", "int8-static", "int8-products"]),
        (MUCH, MUCH, "int8", ["int8", "int8-static", "int8-products"]),
    ],
)
def test_the_fastest_that_is_as_good(static: float, dynamic: float, taken: str, asked: list[str]) -> None:
    figures = {"int8": 0.5, "int8-static": static, "int8-products": dynamic}
    meter = Meter(["int8-static", "int8-products", "int8"], figures)
    form, detail = chosen(meter)
    assert form == detail["form"] == taken
    assert meter.asked == asked
    assert list(detail["lost"]) == asked[1:]


def test_nothing_is_measured_where_nothing_is_faster() -> None:
    meter = Meter(["int4"], {})
    assert chosen(meter, bits=4) == ("int4", {"bits": 4, "encode_us": {"int4": 1.0}, "form": "int4"})
    assert meter.asked == []


@pytest.mark.parametrize(
    ("bits", "products", "form"),
    [(8, "float32", "int8"), (8, "int8", "int8-products"), (8, "static", "int8-static"), (4, "int8", "int4-products")],
)  # fmt: skip
def test_what_the_recipe_says_is_done(bits: int, products: str, form: str) -> None:
    assert chosen(Meter([], {}), bits=bits, products=products) == (form, {"bits": bits, "form": form})
