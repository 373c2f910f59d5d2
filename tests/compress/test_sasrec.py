"""The model against torch's own transformer, against itself without padding, and against its exported graph."""

from __future__ import annotations

import dataclasses
import io
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from pocketrec.compress.models.protocol import SequenceModel
from pocketrec.compress.models.sasrec import SASRec, SASRecConfig, with_merged_heads

UNIFORM = SASRecConfig(n_items=50, width=16, max_length=10)
CONFIGS = {
    "two layers": UNIFORM,
    "one layer": dataclasses.replace(UNIFORM, n_layers=1, n_heads=1, head_width=16, inner_widths=64),
    "pruned": SASRecConfig(
        n_items=50,
        width=16,
        n_layers=3,
        n_heads=(2, 1, 3),
        head_width=8,
        inner_widths=(8, 24, 5),
        max_length=10,
    ),
}


def lively(config: SASRecConfig, seed: int = 1) -> SASRec:
    """A model whose every parameter matters: 0.02 and zero biases would hide mistakes."""
    model = SASRec(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.empty_like(parameter).normal_(std=0.3, generator=generator)
    return model


@pytest.fixture(params=CONFIGS)
def config(request: pytest.FixtureRequest) -> SASRecConfig:
    return CONFIGS[request.param]


@pytest.mark.parametrize("positions", ["end", "start"])
def test_padded_training_pass_equals_encoding_without_padding(config: SASRecConfig, positions: str) -> None:
    model = lively(dataclasses.replace(config, positions=positions))
    assert isinstance(model, SequenceModel)
    lengths = torch.tensor([10, 1, 5, 9])
    vectors = torch.randn(4, 10, 16, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        states = model.hidden_states(vectors, lengths)
        for b, n in enumerate(lengths.tolist()):
            # float32 sums in another order, through up to 3 layers of values near 1
            torch.testing.assert_close(
                states[b, n - 1], model.encode(vectors[b : b + 1, :n])[0], rtol=0, atol=5e-6
            )


@pytest.mark.parametrize("positions", ["end", "start"])
def test_every_valid_position_equals_the_whole_computation_unpadded(
    config: SASRecConfig, positions: str
) -> None:
    """Not the last position only: the positions of a sequence depend on its own length, not on the batch's."""
    model = lively(dataclasses.replace(config, positions=positions))
    vectors = torch.randn(2, 8, 16, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        padded = model.hidden_states(vectors, torch.tensor([6, 8]))[0, :6]
        alone = model.hidden_states(vectors[:1, :6], torch.tensor([6]))[0]
        torch.testing.assert_close(padded, alone, rtol=0, atol=5e-6)


def test_nothing_later_is_seen(config: SASRecConfig) -> None:
    model = lively(config)
    lengths = torch.tensor([7])
    vectors = torch.randn(1, 7, 16, generator=torch.Generator().manual_seed(2))
    changed = vectors.clone()
    changed[:, 4:] = 100.0
    with torch.inference_mode():
        before, after = model.hidden_states(vectors, lengths), model.hidden_states(changed, lengths)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("positions", ["end", "start"])
def test_equals_torchs_own_post_norm_transformer(activation: str, positions: str) -> None:
    config = dataclasses.replace(UNIFORM, activation=activation, positions=positions)
    model = lively(config)
    layer = nn.TransformerEncoderLayer(16, 2, 64, 0.0, activation, config.eps, batch_first=True)
    reference = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    for theirs, ours in zip(reference.layers, model.layers, strict=True):
        qkv = (ours.attention.q, ours.attention.k, ours.attention.v)
        state = {
            "self_attn.in_proj_weight": torch.cat([linear.weight for linear in qkv]),
            "self_attn.in_proj_bias": torch.cat([linear.bias for linear in qkv]),
        }
        pairs = {
            "self_attn.out_proj": ours.attention.out,
            "linear1": ours.dense_1,
            "linear2": ours.dense_2,
            "norm1": ours.attention_norm,
            "norm2": ours.dense_norm,
        }
        for name, module in pairs.items():
            state |= {f"{name}.{key}": tensor for key, tensor in module.state_dict().items()}
        theirs.load_state_dict(state)
    vectors = torch.randn(3, 6, 16, generator=torch.Generator().manual_seed(2))
    rows = model.position_table[4:] if positions == "end" else model.position_table[:6]
    with torch.inference_mode():
        mask = nn.Transformer.generate_square_subsequent_mask(6)
        expected = reference(model.norm(vectors + rows), mask=mask, is_causal=True)
        got = model.hidden_states(vectors, torch.tensor([6, 6, 6]))
        torch.testing.assert_close(got, expected, rtol=0, atol=5e-6)
        torch.testing.assert_close(model(vectors), expected[:, -1], rtol=0, atol=5e-6)


@pytest.mark.filterwarnings("ignore:.*treespec")  # torch's own
@pytest.mark.parametrize(
    ("name", "positions"), [("two layers", "end"), ("one layer", "start"), ("pruned", "start")]
)
def test_exports_with_any_batch_and_length(name: str, positions: Literal["end", "start"]) -> None:
    config = dataclasses.replace(CONFIGS[name], positions=positions)
    model = lively(config)
    axes = {0: torch.export.Dim("B"), 1: torch.export.Dim("n", max=config.max_length)}
    program = torch.onnx.export(
        model, (torch.randn(2, 7, 16),), dynamo=True, dynamic_shapes={"item_vectors": axes}, verbose=False
    )
    assert program is not None
    file = io.BytesIO()
    program.save(file)
    session = ort.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(2)
    for batch, n in ((1, 1), (3, 1), (1, 10), (2, 5), (5, 10)):
        vectors = torch.randn(batch, n, 16, generator=generator)
        with torch.inference_mode():
            expected = model.encode(vectors).numpy()
        (got,) = session.run(None, {session.get_inputs()[0].name: vectors.numpy()})
        # float32 of values near 1, summed in another order by another library
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_fresh_models_depend_on_their_seed_alone() -> None:
    torch.manual_seed(1)
    first = SASRec(UNIFORM, seed=5)
    torch.manual_seed(2)
    second, third = SASRec(UNIFORM, seed=5), SASRec(UNIFORM, seed=6)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.item_table, third.item_table)
    assert first.item_table.std().item() == pytest.approx(0.02, rel=0.1)  # 800 draws: 2.5% of deviation
    assert torch.equal(first.norm.weight, torch.ones(16))
    assert not first.layers[0].dense_1.bias.any()


def test_dropout_in_training_only() -> None:
    model = lively(dataclasses.replace(UNIFORM, dropout=0.5))
    vectors, lengths = torch.randn(2, 5, 16), torch.tensor([5, 5])
    assert torch.equal(model.hidden_states(vectors, lengths), model.hidden_states(vectors, lengths))
    model.train()
    assert not torch.equal(model.hidden_states(vectors, lengths), model.hidden_states(vectors, lengths))


def test_every_parameter_is_trained() -> None:
    model = lively(UNIFORM).train()
    history = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]])
    states = model.hidden_states(model.item_table[history], torch.tensor([4, 2]))
    (states @ model.item_table.T).square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert [
        name for name in without if not name.endswith("attention.k.bias")
    ] == []  # k's bias cancels in softmax


def test_sliced_modules_and_their_config() -> None:
    model = lively(UNIFORM)
    vectors = torch.randn(2, 5, 16)
    attention = model.layers[1].attention
    with torch.no_grad():
        attention.out.weight[:, 8:] = 0.0  # the second head says nothing,
    expected = model.encode(vectors)
    for linear in (attention.q, attention.k, attention.v):
        linear.weight, linear.bias = nn.Parameter(linear.weight[:8]), nn.Parameter(linear.bias[:8])
    attention.out.weight = nn.Parameter(attention.out.weight[:, :8])
    with pytest.raises(
        ValueError, match=r"layers.1.attention: q, k, v .*expected \(16, 16\) for 2 heads of 8"
    ):
        model.refresh_config_()
    attention.n_heads = 1  # so taking it away changes nothing.
    assert model.refresh_config_().layers == ((2, 8, 64), (1, 8, 64))
    torch.testing.assert_close(model.encode(vectors), expected, rtol=0, atol=1e-6)
    again = SASRec(model.config)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval().encode(vectors), model.encode(vectors))


def test_config_fills_in_the_conventions() -> None:
    config = SASRecConfig(n_items=5, width=32, n_layers=3, n_heads=4)
    assert config.layers == ((4, 8, 128),) * 3
    assert SASRecConfig(**dataclasses.asdict(config)) == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_heads": 3}, "3 heads do not divide the width 16"),
        ({"n_heads": (2, 2, 2)}, "n_heads .*expected 2 numbers"),
        ({"inner_widths": (8, 0)}, "inner_widths .*each at least 1"),
        ({"n_items": 0}, "n_items 0; expected at least 1"),
        ({"n_layers": 0}, "n_layers 0; expected at least 1"),
        ({"activation": "softplus"}, "activation 'softplus'; expected one of gelu, relu"),
        ({"positions": "middle"}, "positions 'middle'"),
        ({"dropout": 1.0}, "dropout 1.0; expected 0 <= dropout < 1"),
        ({"eps": float("nan")}, "eps nan"),
    ],
)
def test_config_refuses(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SASRecConfig(**({"n_items": 50, "width": 16} | fields))


def test_merged_heads_are_the_same_function():
    """Matrices multiplied beforehand: float32 rounding only, hence 1e-5 of values of order 1."""
    config = SASRecConfig(n_items=20, width=16, n_layers=2, n_heads=1, head_width=8, max_length=7)
    model = SASRec(config, seed=3).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) * 0.3)
    vectors = torch.randn(3, 6, 16, generator=torch.Generator().manual_seed(1))
    merged: Any = with_merged_heads(model)
    assert [type(layer.attention).__name__ for layer in merged.layers] == ["MergedHead", "MergedHead"]
    assert torch.allclose(merged.encode(vectors), model.encode(vectors), atol=1e-5)
    assert [layer.attention.n_heads for layer in model.layers] == [1, 1], "the model itself is left alone"


def test_wide_or_many_heads_are_not_merged():
    model = SASRec(SASRecConfig(n_items=20, width=16, n_layers=1, n_heads=2, max_length=7)).eval()
    assert with_merged_heads(model) is model
