"""The contract of a sequence model, which every family keeps."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from pocketrec.compress.models.fold_in import FoldIn
from pocketrec.compress.models.protocol import SequenceModel
from pocketrec.export.encoder_graph import export_encoder
from pocketrec.export.encoder_int8 import quantize_encoder
from pocketrec.runtime.engine import session_options

from .families import FAMILIES, MAX_LENGTH, N_ITEMS, WIDTH, lively


@pytest.fixture(params=FAMILIES, scope="module")
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(family: str) -> Any:
    return lively(family)


def vectors(batch: int, length: int, seed: int = 2) -> torch.Tensor:
    return torch.randn(batch, length, WIDTH, generator=torch.Generator().manual_seed(seed))


def test_is_a_sequence_model(model: Any) -> None:
    assert isinstance(model, SequenceModel)
    assert isinstance(model, torch.nn.Module)
    assert (model.width, model.max_length) == (WIDTH, MAX_LENGTH)
    assert model.item_table.shape == (N_ITEMS, WIDTH)
    assert model.item_bias is None or model.item_bias.shape == (N_ITEMS,)
    names = [name for name, _ in model.named_parameters()]
    assert "item_table" in names
    assert ("item_bias" in names) == (model.item_bias is not None)


def test_its_config_rebuilds_it(model: Any) -> None:
    config = model.config
    assert dataclasses.is_dataclass(config)
    assert config.__dataclass_params__.frozen
    assert type(config)(**dataclasses.asdict(config)) == config
    again = type(model)(config)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval().encode(vectors(2, 3)), model.encode(vectors(2, 3)))


def test_fresh_models_depend_on_their_seed_alone(family: str) -> None:
    torch.manual_seed(1)
    first = FAMILIES[family](5)
    torch.manual_seed(2)
    second, third = FAMILIES[family](5), FAMILIES[family](6)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.item_table, third.item_table)


@pytest.mark.parametrize("length", range(1, MAX_LENGTH + 1))
def test_encodes_every_length(model: Any, length: int) -> None:
    users = model.encode(vectors(3, length))
    assert users.shape == (3, WIDTH)
    assert users.dtype == torch.float32
    assert users.isfinite().all()
    # a user's vector does not depend on who else is in the batch; float32 sums in another order
    torch.testing.assert_close(users[1:2], model.encode(vectors(3, length)[1:2]), rtol=0, atol=5e-6)
    assert torch.equal(model(vectors(3, length)), users)


def test_right_padding_changes_nothing(model: Any) -> None:
    """`hidden_states` of a padded batch has, at the last item of each history, what `encode` gives without padding."""
    lengths = torch.tensor([MAX_LENGTH, 1, 3, MAX_LENGTH - 1])
    padded = vectors(4, MAX_LENGTH)
    with torch.inference_mode():
        states = model.hidden_states(padded, lengths)
        assert states.shape == (4, MAX_LENGTH, WIDTH)
        for b, n in enumerate(lengths.tolist()):
            alone = model.encode(padded[b : b + 1, :n])[0]
            torch.testing.assert_close(states[b, n - 1], alone, rtol=0, atol=5e-6)


def test_the_order_of_items_matters(model: Any) -> None:
    history = vectors(1, 4)
    same = torch.allclose(model.encode(history), model.encode(history.flip(1)), atol=1e-4)
    assert same == isinstance(model, FoldIn)  # which sums


def test_every_parameter_is_trained_through_encode(model: Any) -> None:
    model = copy.deepcopy(model).train()
    history = torch.randint(N_ITEMS, (64, 4), generator=torch.Generator().manual_seed(3))
    users = model.encode(model.item_table[history])
    scores = users @ model.item_table.T
    if model.item_bias is not None:
        scores = scores + model.item_bias
    scores.square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # a constant for all keys cancels in a softmax over keys, one for all queries in LightSANs's, over queries
    cancel = ("attention.k.bias", "attention.q.bias", "attention.position_q.bias")
    assert [name for name in without if not name.endswith(cancel)] == []


def test_dropout_in_training_only(model: Any) -> None:
    assert torch.equal(model.encode(vectors(2, 5)), model.encode(vectors(2, 5)))
    training = copy.deepcopy(model).train()
    for module in training.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    drops = any(isinstance(module, torch.nn.Dropout) for module in training.modules())
    assert torch.equal(training.encode(vectors(2, 5)), training.encode(vectors(2, 5))) != drops
    assert drops != isinstance(model, FoldIn)


@pytest.fixture(scope="module")
def graph(model: Any) -> Any:
    return export_encoder(model, width=WIDTH, max_length=MAX_LENGTH)


def run(graph: Any, history: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), session_options(threads=1), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"history": history.numpy()})[0]


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (3, 1), (1, MAX_LENGTH), (2, 2), (5, MAX_LENGTH - 1)])
def test_the_exported_graph_agrees_for_any_batch_and_length(
    model: Any, graph: Any, batch: int, length: int
) -> None:
    history = vectors(batch, length)
    with torch.inference_mode():
        expected = model.encode(history).numpy()
    # float32 of values near 1 in another library; a wrong graph is off by 0.1 and more
    np.testing.assert_allclose(run(graph, history), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("form", ["int8", "int8-products"])
def test_the_int8_forms_are_close(model: Any, graph: Any, form: Any) -> None:
    history = vectors(4, MAX_LENGTH)
    with torch.inference_mode():
        expected = model.encode(history).numpy()
    got = run(quantize_encoder(graph, form), history)
    # 7 or 8 bits a weight and an activation, through a few layers: a few percent of the largest value
    assert np.abs(got - expected).max() < 0.1 * np.abs(expected).max()
