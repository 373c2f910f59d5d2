"""The contract of a pointwise model, which every family keeps, and what each family's formula says."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from pocketrec.compress.models.autoint import AutoIntConfig
from pocketrec.compress.models.dcnv2 import DCNv2Config
from pocketrec.compress.models.deepfm import DeepFMConfig
from pocketrec.compress.models.din import DINConfig
from pocketrec.compress.models.fm import FMConfig, pairwise_products
from pocketrec.compress.models.mlp import MLP
from pocketrec.compress.models.neumf import NeuMFConfig
from pocketrec.compress.models.pointwise_protocol import PointwiseModel

from .pointwise_families import ALL, CANDIDATE_AND_HISTORY, PAIR, POINTWISE_FAMILIES, inputs, lively

# float32 sums of a few values near 1, in another order
TOLERANCE = 1e-5


@pytest.fixture(params=POINTWISE_FAMILIES, scope="module")
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(family: str) -> Any:
    return lively(family)


def test_is_a_pointwise_model(model: Any) -> None:
    assert isinstance(model, PointwiseModel)
    assert isinstance(model, nn.Module)
    own = {id(parameter) for parameter in model.parameters()}
    assert all(id(table) in own for table in model.tables.values())
    assert {lookup.table for lookup in model.lookups} == set(model.tables)
    looked_up = {field.name for field in model.schema.fields if field.kind != "float"}
    assert {lookup.field for lookup in model.lookups} == looked_up
    for lookup in model.lookups:
        assert len(model.tables[lookup.table]) == model.schema.field(lookup.field).size


def test_its_config_rebuilds_it(model: Any) -> None:
    config = model.config
    assert config.__dataclass_params__.frozen
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    assert type(config)(**fields) == config
    again = type(model)(config)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval().logits(*inputs(model, 6)), model.logits(*inputs(model, 6)))


def test_fresh_models_depend_on_their_seed_alone(family: str) -> None:
    torch.manual_seed(1)
    first = POINTWISE_FAMILIES[family](5)
    torch.manual_seed(2)
    second, third = POINTWISE_FAMILIES[family](5), POINTWISE_FAMILIES[family](6)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), third.parameters(), strict=True))


def test_a_row_does_not_depend_on_the_others(model: Any) -> None:
    vectors, lengths, numeric = inputs(model, 8)
    together = model.logits(vectors, lengths, numeric)
    assert together.shape == (8,)
    assert together.dtype == torch.float32
    for b in range(8):
        alone = model.logits([v[b : b + 1] for v in vectors], lengths[b : b + 1], numeric[b : b + 1])
        torch.testing.assert_close(alone, together[b : b + 1], rtol=0, atol=TOLERANCE)


def test_longer_padding_changes_nothing(model: Any) -> None:
    vectors, lengths, numeric = inputs(model, 8)
    padded = [torch.cat([v, torch.zeros_like(v)], 1) if v.dim() == 3 else v for v in vectors]
    torch.testing.assert_close(
        model.logits(padded, lengths, numeric),
        model.logits(vectors, lengths, numeric),
        rtol=0,
        atol=TOLERANCE,
    )


def test_every_parameter_is_trained(model: Any) -> None:
    model = copy.deepcopy(model).train()
    vectors, lengths, numeric = inputs(model, 200)
    model.logits(vectors, lengths, numeric).square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # a constant for all keys cancels in a softmax over keys
    assert [name for name in without if not name.endswith(".k.bias")] == []


def test_dropout_in_training_only(family: str, model: Any) -> None:
    training = copy.deepcopy(model).train()
    dropouts = [module for module in training.modules() if isinstance(module, nn.Dropout)]
    for module in dropouts:
        module.p = 0.5
    given = inputs(model, 20)
    assert torch.equal(model.logits(*given), model.logits(*given))
    differs = not torch.equal(training.logits(*given), training.logits(*given))
    assert differs == (family != "fm")  # which has no layers


def test_pairwise_products_are_those_of_all_pairs() -> None:
    fields = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1))
    expected = sum((fields[:, i] * fields[:, j]).sum(1) for i in range(5) for j in range(i))
    torch.testing.assert_close(pairwise_products(fields), expected)


def test_an_fm_by_hand() -> None:
    """The fields' vectors and weights put together one by one, as the module's docstring says."""
    model = lively("fm")
    (user, genres, item), lengths, numeric = inputs(model, 1)
    rows = [
        numeric[0, 0] * model.fields.numeric_table[0],
        user[0],
        torch.cat([genres[0, :, :4].sum(0) / max(int(lengths), 1), genres[0, :, 4:].sum(0)]),
        numeric[0, 1] * model.fields.numeric_table[1],
        item[0],
    ]
    expected = model.bias[0] + sum(row[4] for row in rows)
    expected = expected + sum(rows[i][:4] @ rows[j][:4] for i in range(5) for j in range(i))
    torch.testing.assert_close(
        model.logits([user, genres, item], lengths, numeric)[0], expected, rtol=0, atol=TOLERANCE
    )


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_plain_attention_is_torchs(heads: int) -> None:
    model = POINTWISE_FAMILIES["autoint"](0)
    layer = type(model.layers[0])(dataclasses.replace(model.config, n_heads=heads), 6)
    theirs = nn.MultiheadAttention(6, heads, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([layer.q.weight, layer.k.weight, layer.v.weight]))
        theirs.in_proj_bias.copy_(torch.cat([layer.q.bias, layer.k.bias, layer.v.bias]))
        theirs.out_proj.load_state_dict(layer.out.state_dict())
    x = torch.randn(4, 5, 6)
    torch.testing.assert_close(layer(x), theirs(x, x, x, need_weights=False)[0], rtol=0, atol=TOLERANCE)


def test_din_without_a_history_is_a_score_of_the_candidate_alone() -> None:
    model = lively("din")
    (candidate, history), _, numeric = inputs(model, 3)
    nothing, zero = torch.zeros(3, 1, dtype=torch.int64), torch.zeros_like(candidate)
    found = model.logits([candidate, torch.zeros_like(history)], nothing, numeric)
    expected = model.output(model.mlp(torch.cat([zero, candidate, zero], 1))).squeeze(1)
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


def test_an_mlp_is_its_layers() -> None:
    mlp = MLP([4, 3, 2], activation="silu")
    x = torch.randn(5, 4)
    expected = x
    for layer in mlp.layers:
        expected = layer(expected)
        expected = expected * expected.sigmoid()
    torch.testing.assert_close(mlp(x), expected)


@pytest.mark.parametrize(
    ("config", "fields", "message"),
    [
        (FMConfig, {"schema": ALL, "width": 0}, "FMConfig: width 0; expected at least 1"),
        (DeepFMConfig, {"schema": ALL, "hidden_widths": ()}, r"hidden_widths \(\); expected at least 1"),
        (DeepFMConfig, {"schema": ALL, "dropout": 1.0}, "dropout 1.0; expected 0 <= dropout < 1"),
        (DeepFMConfig, {"schema": ALL, "activation": "mish"}, "activation 'mish'; expected one of relu"),
        (DCNv2Config, {"schema": ALL, "structure": "beside"}, "structure 'beside'; expected stacked"),
        (AutoIntConfig, {"schema": ALL, "n_heads": 5}, "5 heads do not divide the attention width 16"),
        (NeuMFConfig, {"schema": ALL}, "expected two token fields"),
        (DINConfig, {"schema": PAIR}, "expected a token field and a token_seq field"),
    ],
)
def test_configs_that_make_no_model(config: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**fields)


def test_din_takes_its_two_fields() -> None:
    assert DINConfig(schema=CANDIDATE_AND_HISTORY).width == 32
