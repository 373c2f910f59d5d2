"""What every layout keeps, whoever's names it reads: a good file loads, a broken one is one clear line."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from pocketrec.compress.layouts import LAYOUTS, Teacher, load_teacher
from pocketrec.compress.models.protocol import SequenceModel
from pocketrec.runtime.errors import InputError
from pocketrec.runtime.item_ids import ItemIds

from .hostile_checkpoints import on_cuda, saved
from .layout_checkpoints import N_ITEMS, RECORDED, WIDTH, Recorded


@pytest.fixture(params=RECORDED)
def layout(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def recorded(layout: str) -> Recorded:
    return RECORDED[layout]


def load(tmp_path: Path, value: Any, **options: Any) -> Teacher:
    path = tmp_path / "model.pth"
    path.write_bytes(value if isinstance(value, bytes) else saved(value))
    return load_teacher(path, **options)


def refusal(tmp_path: Path, value: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(tmp_path, value, **options)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "model.pth"))
    assert "\n" not in message
    return message


def test_a_good_file(tmp_path: Path, layout: str, recorded: Recorded) -> None:
    teacher = load(tmp_path, recorded.file())
    assert teacher.layout == layout
    model = teacher.model
    assert isinstance(model, SequenceModel)
    assert isinstance(model, torch.nn.Module)
    assert not model.training
    items = recorded.state_dict()[recorded.items][recorded.first_row : recorded.first_row + N_ITEMS]
    assert torch.equal(model.item_table, items)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not any(parameter.is_meta for parameter in model.parameters())
    assert model.config.n_items == N_ITEMS
    assert model.width == WIDTH
    assert teacher.item_ids.ids([0, N_ITEMS - 1]) == [1, N_ITEMS]
    assert model.encode(model.item_table[torch.tensor([[3, 1, 4]])]).isfinite().all()


def test_item_ids_that_the_user_knows(tmp_path: Path, recorded: Recorded) -> None:
    ids = ItemIds.from_sequence([f"i{n}" for n in range(N_ITEMS)])
    assert load(tmp_path, recorded.file(), item_ids=ids).item_ids is ids
    short = ItemIds.from_sequence(range(29))
    assert "30 items, but 29 item ids were given" in refusal(tmp_path, recorded.file(), item_ids=short)


def test_the_data_number_recboles_items(tmp_path: Path, layout: str, recorded: Recorded) -> None:
    if not layout.startswith("recbole-"):
        return
    data = cast(Any, SimpleNamespace(item_ids=[f"token {n}" for n in range(N_ITEMS)]))
    assert load(tmp_path, recorded.file(), interactions=data).item_ids.ids([0, 29]) == ["token 0", "token 29"]
    data.item_ids.pop()
    with pytest.raises(InputError, match="the data have 29 distinct items, the RecBole checkpoint 30"):
        load(tmp_path, recorded.file(), interactions=data)


def test_half_precision_and_cuda_tags(tmp_path: Path, recorded: Recorded) -> None:
    half = {key: tensor.half() for key, tensor in recorded.state_dict().items()}
    file = recorded.file(half)
    got = load(tmp_path, file if isinstance(file, bytes) else on_cuda(saved(file))).model
    expected = load(tmp_path, recorded.file({key: tensor.float() for key, tensor in half.items()})).model
    vectors = torch.randn(2, 3, WIDTH)
    assert torch.equal(got.encode(vectors), expected.encode(vectors))


def test_every_tensor_is_needed(tmp_path: Path, recorded: Recorded) -> None:
    good = recorded.state_dict()
    for key in good:
        rest = {name: tensor for name, tensor in good.items() if name != key}
        message = refusal(tmp_path, recorded.file(rest))
        # named, or so much is missing that the layout cannot be told from others any more
        prefix = key.rsplit(".", 1)[0]
        assert f"{key} " in message or prefix in message or "its layout is not known" in message, message


def test_every_tensor_counts(tmp_path: Path, recorded: Recorded) -> None:
    """A tensor that is changed changes what the model says: none is read into the wrong place, or not at all."""
    good = recorded.state_dict()
    vectors = torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(4))

    def scores(state: dict[str, torch.Tensor]) -> torch.Tensor:
        teacher = load(tmp_path, recorded.file(state))
        model, users = teacher.model, teacher.user_vectors
        found = torch.cat([model.encode(vectors), vectors[:0, 0] if users is None else users])
        found = found @ model.item_table.T
        return found if model.item_bias is None else found + model.item_bias

    before = scores(good)
    for key, tensor in good.items():
        if key in recorded.spare:
            continue
        changed = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(5))
        differs = not torch.allclose(scores(good | {key: changed}), before, atol=1e-6)
        # a constant for all keys cancels in a softmax over keys, one for all queries in LightSANs's, over queries
        cancels = key.endswith(("key.bias", ".k.bias", "query.bias", "pos_q_linear.bias"))
        assert differs or cancels, key


def test_tensors_that_nobody_knows(tmp_path: Path, layout: str, recorded: Recorded) -> None:
    state = recorded.state_dict() | {"teleporter.weight": torch.zeros(3, 3)}
    if not recorded.extras_are_refused:
        teacher = load(tmp_path, recorded.file(state))
        assert teacher.notes[-1] == "left out, no part of the encoder: teleporter.weight"
        return
    if recorded.metadata is not None:  # which says what model it is
        assert "teleporter.weight belong to no part of the model" in refusal(tmp_path, recorded.file(state))
        return
    assert "its layout is not known (keys teleporter.weight)" in refusal(tmp_path, recorded.file(state))
    message = refusal(tmp_path, recorded.file(state), layout=layout)
    assert "teleporter.weight and 0 more tensors are not" in message


def test_misshapen_tensors(tmp_path: Path, recorded: Recorded) -> None:
    good = recorded.state_dict()
    for key, tensor in good.items():
        for wrong in (tensor[None], tensor.reshape(-1)[:0], torch.tensor(1.0)):
            refusal(tmp_path, recorded.file(good | {key: wrong.contiguous()}))
    turned = good[recorded.items].T.contiguous()
    message = refusal(tmp_path, recorded.file(good | {recorded.items: turned}))
    if recorded.metadata is not None:  # which counts the items
        assert "item ids do not number the 8 items" in message
        return
    assert f"{recorded.items} has shape (8, {len(good[recorded.items])})" in message
    assert "(transposed?)" in message
    message = refusal(tmp_path, recorded.file(good | {recorded.items: torch.zeros(1, WIDTH)}))
    assert "expected items beside" in message


def test_values_that_are_no_numbers(tmp_path: Path, recorded: Recorded) -> None:
    good = recorded.state_dict()
    for key, tensor in good.items():
        broken = tensor.clone()
        broken.view(-1)[0] = float("nan")
        message = refusal(tmp_path, recorded.file(good | {key: broken}))
        assert "values that are NaN or infinite" in message
        message = refusal(tmp_path, recorded.file(good | {key: (tensor * 99).to(torch.int8)}))
        assert f"{key} is torch.int8; expected floating point" in message


def test_settings_that_name_another_model(tmp_path: Path, recorded: Recorded) -> None:
    if recorded.settings:
        message = refusal(tmp_path, recorded.file(model="Telepathy"))
        assert "its settings say model 'Telepathy', its weights are" in message


def test_every_layout_matches_its_own_only() -> None:
    for name, recorded in RECORDED.items():
        keys = tuple(recorded.shapes)
        fitting = [layout for layout in LAYOUTS if layout.matches(keys)]
        assert name in {layout.name for layout in fitting}
        if len(fitting) > 1:  # then the settings decide
            assert len({layout.model for layout in fitting} - {None}) == len(fitting)
        layout = next(layout for layout in LAYOUTS if layout.name == name)
        assert all(map(layout.knows, keys))


@pytest.mark.parametrize(
    ("layout", "settings", "message"),
    [
        (
            "recbole-narm",
            {"dropout_probs": [0.1]},
            "its setting dropout_probs is [0.1]; expected two numbers",
        ),
        ("recbole-narm", {"dropout_probs": 0.1}, "its setting dropout_probs is 0.1; expected list"),
        ("recbole-gru4rec", {"MAX_ITEM_LIST_LENGTH": 0}, "max_length 0; expected at least 1"),
        ("recbole-gru4rec", {"dropout_prob": "x"}, "its setting dropout_prob is 'x'; expected float"),
        ("recbole-bert4rec", {"n_heads": 3}, "3 heads do not divide the width 8"),
        ("recbole-lightsans", {"n_heads": 0}, "n_heads 0; expected at least 1"),
        ("recbole-lightsans", {"hidden_act": "mish"}, "hidden_act 'mish'; expected one of gelu"),
        ("recbole-caser", {"dropout_prob": 2}, "dropout 2.0; expected 0 <= dropout < 1"),
    ],
)
def test_settings_that_make_no_sense(
    tmp_path: Path, layout: str, settings: dict[str, Any], message: str
) -> None:
    assert message in refusal(tmp_path, RECORDED[layout].file(**settings))


def test_heads(tmp_path: Path) -> None:
    for name in ("recbole-gru4rec", "icsrec-gru4rec", "recbole-narm", "recbole-caser"):
        assert "2 heads asked for, but a" in refusal(tmp_path, RECORDED[name].file(), n_heads=2)
    for name in ("recbole-bert4rec", "recbole-lightsans"):
        assert load(tmp_path, RECORDED[name].file()).model.config.n_heads == 4
        message = refusal(tmp_path, RECORDED[name].file(), n_heads=2)
        assert "2 heads asked for, but its settings record 4" in message
        alone = RECORDED[name].state_dict()
        assert load(tmp_path, alone, n_heads=1).model.config.n_heads == 1
        assert any("heads: 2 assumed" in note for note in load(tmp_path, alone).notes)
    pmixer = RECORDED["pmixer-sasrec"].file()
    assert load(tmp_path, pmixer, n_heads=2).model.config.n_heads == 2
    assert "3 heads do not divide the width 8" in refusal(tmp_path, pmixer, n_heads=3)


def test_layers_that_are_not_numbered_from_0(tmp_path: Path) -> None:
    for name, old, new in (
        ("recbole-gru4rec", "_l0", "_l7"),
        ("recbole-narm", "_l0", "_l7"),
        ("recbole-caser", "conv_h.5", "conv_h.999999"),
        ("recbole-bert4rec", "layer.1.", "layer.5."),
        ("recbole-lightsans", "layer.1.", "layer.5."),
        ("pmixer-sasrec", "attention_layers.1.", "attention_layers.5."),
    ):
        state = {key.replace(old, new): tensor for key, tensor in RECORDED[name].state_dict().items()}
        assert "are numbered [" in refusal(tmp_path, RECORDED[name].file(state))
