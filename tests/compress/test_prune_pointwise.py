"""Hidden units of pointwise models: what is cut is gone, what did nothing is cut first, what is left is the same."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from pocketrec.compress.prune_pointwise import (
    LabelledRows,
    PrunePointwiseConfig,
    look_up,
    mlp_groups,
    prune_pointwise,
)
from pocketrec.runtime.errors import InputError

from .models.pointwise_families import POINTWISE_FAMILIES, lively

# float32 sums over fewer terms, in another order
TOLERANCE = 1e-5


def batches(model: Any, n: int = 2, seed: int = 4) -> list[LabelledRows]:
    generator, made = torch.Generator().manual_seed(seed), []
    for _ in range(n):
        rows, lengths = [], []
        for lookup in model.lookups:
            field = model.schema.field(lookup.field)
            shape = (50,) if field.kind == "token" else (50, field.max_length)
            rows.append(torch.randint(field.size, shape, generator=generator))
            if field.kind == "token_seq":
                lengths.append(torch.randint(field.max_length + 1, (50,), generator=generator))
        n_floats = sum(field.kind == "float" for field in model.schema.fields)
        made.append(
            LabelledRows(
                rows=rows,
                lengths=torch.stack(lengths, 1) if lengths else torch.zeros(50, 0, dtype=torch.int64),
                numeric=torch.rand(50, n_floats, generator=generator),
                labels=torch.randint(2, (50,), generator=generator).float(),
            )
        )
    return made


def scores(model: Any, batch: LabelledRows) -> torch.Tensor:
    with torch.inference_mode():
        return model.logits(look_up(model, batch), batch.lengths, batch.numeric)


@pytest.mark.parametrize("family", POINTWISE_FAMILIES)
def test_units_that_do_nothing_are_cut_first(family: str) -> None:
    """Every other unit is silenced, half stay: exactly the others, and the scores are the same."""
    model = lively(family)
    groups = mlp_groups(model)
    assert (family == "fm") == (not groups)
    for group in groups:
        *own, reads = group.parts
        with torch.no_grad():
            columns = model.get_parameter(reads.parameter)
            columns[:, reads.rows[::2].flatten()] = 0.0
            for part in own:
                model.get_parameter(part.parameter)[part.rows[::2].flatten()] = 0.0
            # what a silent sigmoid or silu unit still says is said to nobody
    before = copy.deepcopy(model.state_dict())
    smaller, detail = prune_pointwise(
        model, batches(model), PrunePointwiseConfig(keep_hidden=0.5, multiple=1)
    )
    given = batches(model)[0]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    for group in groups:
        # an odd layer keeps one silent unit, since its share is rounded up
        assert detail[group.name] == [-(-group.n_units // 2), group.n_units]
    torch.testing.assert_close(scores(smaller, given), scores(model, given), rtol=0, atol=TOLERANCE)
    n_before, n_after = (sum(p.numel() for p in m.parameters()) for m in (model, smaller))  # type: ignore[attr-defined]
    assert n_after < n_before or family == "fm"
    again = type(smaller)(smaller.config)  # type: ignore[call-arg]
    again.load_state_dict(smaller.state_dict())  # type: ignore[attr-defined]


def test_layers_that_narrow_stay_whole() -> None:
    model = lively("deepfm")
    smaller, detail = prune_pointwise(model, batches(model), PrunePointwiseConfig(keep_hidden=0.5))
    assert detail == {"mlp.0": [7, 7], "mlp.1": [5, 5]}
    assert smaller.config == model.config


def test_without_rows_nothing_decides() -> None:
    with pytest.raises(InputError, match="no rows with labels"):
        prune_pointwise(lively("deepfm"), [], PrunePointwiseConfig())


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"keep_hidden": 0.0}, "keep_hidden 0.0; expected above 0"), ({"multiple": 0}, "multiple 0; expected")],
)
def test_configs_that_make_no_sense(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PrunePointwiseConfig(**fields)
