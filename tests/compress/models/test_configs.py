"""What the configs refuse, in one line that names the field."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pocketrec.compress.models.bert4rec import BERT4RecConfig
from pocketrec.compress.models.caser import CaserConfig
from pocketrec.compress.models.lightsans import LightSANsConfig
from pocketrec.compress.models.narm import NARMConfig

BERT4REC, CASER, LIGHTSANS, NARM = (
    config(n_items=5) for config in (BERT4RecConfig, CaserConfig, LightSANsConfig, NARMConfig)
)


@pytest.mark.parametrize(
    ("config", "fields", "message"),
    [
        (BERT4REC, {"n_heads": 3}, "3 heads do not divide the width 64"),
        (BERT4REC, {"max_length": 0}, "max_length 0; expected at least 1"),
        (BERT4REC, {"activation": "softplus"}, "activation 'softplus'; expected one of gelu, relu"),
        (CASER, {"n_vertical": 0}, "CaserConfig: n_vertical 0; expected at least 1"),
        (CASER, {"dropout": 1.0}, "CaserConfig: dropout 1.0; expected 0 <= dropout < 1"),
        (LIGHTSANS, {"n_heads": 3}, "LightSANsConfig: 3 heads do not divide the width 64"),
        (LIGHTSANS, {"n_interests": 0}, "LightSANsConfig: n_interests 0; expected at least 1"),
        (LIGHTSANS, {"activation": "softplus"}, "LightSANsConfig: activation 'softplus'; expected one of"),
        (LIGHTSANS, {"eps": -1.0}, "LightSANsConfig: dropout 0.5, eps -1.0; expected at least 0"),
        (NARM, {"hidden_width": 0}, "NARMConfig: hidden_width 0; expected at least 1"),
        (NARM, {"output_dropout": 1.0}, "NARMConfig: dropout 0.25, output_dropout 1.0; expected at least 0"),
    ],
)
def test_refuses(config: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(config, **fields)
