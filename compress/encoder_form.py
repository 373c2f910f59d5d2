"""How the encoder's products are made: what the recipe says, or what is fastest on this machine among what is as good.

Restoring rounded weights when they are loaded is as fast as float. Rounding activations, too, is taken where it is clearly
faster (`export.encoder_timing`) and validation does not show it: the fastest first, each must keep what restored weights
keep, to within `MOST_LOST`.
"""

from __future__ import annotations

from typing import Any

from ..export.encoder_int8 import EncoderForm, form_of
from .meter import Meter
from .models.protocol import SequenceModel
from .recipe import EncoderConfig
from .report import lost
from .table_form import TableForm

MOST_LOST = 0.002
"""Of the metric: what rounding activations may cost. Between two seeds of distillation lies more."""


def choose_form(
    model: SequenceModel, config: EncoderConfig, meter: Meter, bits: TableForm | None, *, seed: int
) -> tuple[EncoderForm, dict[str, Any]]:
    """The form, and what a report says of it. `bits` are the item table's."""
    detail = dict[str, Any](bits=config.bits)
    if config.products != "measured":
        form = form_of(config.bits, config.products)
        return form, {**detail, "form": form}
    forms, detail["encode_us"] = meter.faster_forms(model, config.bits, seed)
    *faster, restored = forms
    if faster:
        detail["lost"] = dict[str, float]()
        exact = meter.measure("restored", model, bits=bits, form=restored)
        for form in faster:
            loss = lost(exact, meter.measure(form, model, bits=bits, form=form))
            detail["lost"][form] = loss
            if loss <= MOST_LOST:
                return form, {**detail, "form": form}
    return restored, {**detail, "form": restored}
