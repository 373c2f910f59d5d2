"""What every layout of a pointwise model keeps: a good file loads with its data, a broken one is one clear line."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pocketrec.compress.layouts import LAYOUTS, PointwiseTeacher, load_pointwise_teacher, load_teacher
from pocketrec.compress.models.pointwise_protocol import PointwiseModel
from pocketrec.runtime.errors import InputError

from .hostile_checkpoints import Runs, command_leaving, on_cuda, record, rewritten, saved
from .layout_checkpoints import RECORDED
from .pointwise_checkpoints import FEATURE_MAP, FEATURE_VOCAB, POINTWISE, TOKENS, PointwiseRecorded
from .pointwise_rows import logits


@pytest.fixture(params=POINTWISE)
def layout(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def recorded(layout: str) -> PointwiseRecorded:
    return POINTWISE[layout]


@pytest.fixture
def data(tmp_path: Path, recorded: PointwiseRecorded) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return recorded.write_data(folder)


def load(tmp_path: Path, value: Any, data: Path | None, **options: Any) -> PointwiseTeacher:
    path = tmp_path / "model.pth"
    path.write_bytes(value if isinstance(value, bytes) else saved(value))
    return load_pointwise_teacher(path, data=data, **options)


def refusal(tmp_path: Path, value: Any, data: Path | None, **options: Any) -> str:
    began = time.perf_counter()
    with pytest.raises(InputError) as caught:
        load(tmp_path, value, data, **options)
    assert time.perf_counter() - began < 5  # none of them takes a tenth of a second on an idle machine
    message = str(caught.value)
    assert message.startswith(str(tmp_path))
    assert "\n" not in message
    return message


def rows(model: Any, n_rows: int = 40) -> dict[str, NDArray[Any]]:
    """Rows that use every row of every table, and lists of every length."""
    generator, found = np.random.default_rng(5), dict[str, NDArray[Any]]()
    for field in model.schema.fields:
        if field.kind == "float":
            found[field.name] = generator.normal(size=n_rows)
        elif field.kind == "token":
            found[field.name] = np.arange(n_rows) % field.size
        else:
            lists = generator.integers(1, field.size, (n_rows, field.max_length))
            ends = np.arange(n_rows)[:, None] % (field.max_length + 1)
            found[field.name] = np.where(np.arange(field.max_length) < ends, lists, 0)
    return found


def scores(tmp_path: Path, value: Any, data: Path) -> torch.Tensor:
    model = load(tmp_path, value, data).model
    with torch.inference_mode():
        return logits(model, rows(model))


def test_a_good_file(tmp_path: Path, layout: str, recorded: PointwiseRecorded, data: Path) -> None:
    teacher = load(tmp_path, recorded.file(), data)
    model: Any = teacher.model
    assert teacher.layout == layout
    assert isinstance(model, PointwiseModel)
    assert isinstance(model, torch.nn.Module)
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not any(parameter.is_meta for parameter in model.parameters())
    fields = {field.name: field for field in model.schema.fields}
    assert {lookup.field for lookup in model.lookups} == {n for n, f in fields.items() if f.kind != "float"}
    for lookup in model.lookups:
        assert len(model.tables[lookup.table]) == fields[lookup.field].size
        assert len(teacher.vocabularies[lookup.field]) + 1 == fields[lookup.field].size
    found = logits(model, rows(model))
    assert found.shape == (40,)
    assert found.isfinite().all()
    assert found.std() > 0.01


def test_the_vocabularies(tmp_path: Path, layout: str, recorded: PointwiseRecorded, data: Path) -> None:
    vocabularies = load(tmp_path, recorded.file(), data).vocabularies
    if layout.startswith("recbole-"):
        expected: dict[str, list[Any]] = {name: TOKENS[name.removesuffix("_list")] for name in vocabularies}
    else:
        expected = {name: list(FEATURE_VOCAB[name])[1:-1] for name in vocabularies}
    assert {name: ids.ids(range(len(ids))) for name, ids in vocabularies.items()} == expected


def test_it_is_no_sequence_model(tmp_path: Path, layout: str, recorded: PointwiseRecorded) -> None:
    recorded.write_data(tmp_path)  # FuxiCTR's two files may lie beside the checkpoint
    path = tmp_path / "model.pth"
    path.write_bytes(saved(recorded.file()))
    message = "is a pointwise model; expected one|give the .inter file it was trained on"
    with pytest.raises(InputError, match=message):
        load_teacher(path)
    if layout.startswith("fuxictr-"):
        assert load_pointwise_teacher(path).layout == layout


def test_half_precision_and_cuda_tags(tmp_path: Path, recorded: PointwiseRecorded, data: Path) -> None:
    state = recorded.state_dict()
    half = {key: t.half() if t.is_floating_point() else t for key, t in state.items()}
    as_float = {key: t.float() if t.is_floating_point() else t for key, t in half.items()}
    got = scores(tmp_path, on_cuda(saved(recorded.file(half))), data)
    assert torch.equal(got, scores(tmp_path, recorded.file(as_float), data))


def test_every_tensor_is_needed(tmp_path: Path, recorded: PointwiseRecorded, data: Path) -> None:
    good = recorded.state_dict()
    for key in good:
        if key.endswith("num_batches_tracked") or key.startswith(recorded.idle):
            continue
        rest = {name: tensor for name, tensor in good.items() if name != key}
        if key in ("v_res_embedding.weight", "v_res_embedding.bias") or key.endswith("W_res.weight"):
            rest.pop("v_res_embedding.weight", None)
            if "v_res_embedding.bias" not in rest:
                continue  # without the pair it is an AutoInt without a residual
        message = refusal(tmp_path, recorded.file(rest), data)
        # named, or so much is missing that the layout cannot be told from others any more
        prefix = key.rsplit(".", 1)[0]
        told = (
            f"{key} " in message or prefix in message or "numbered" in message or "linear layers" in message
        )
        assert told or "its layout is not known" in message or f"{key.split('.')[-2]} of " in message, message


def test_every_tensor_counts(tmp_path: Path, recorded: PointwiseRecorded, data: Path) -> None:
    """A tensor that is changed changes what the model says: none is read into the wrong place, or not at all."""
    good, other = recorded.state_dict(), recorded.state_dict(seed=8)
    before = scores(tmp_path, recorded.file(good), data)
    for key in good:
        changes = not torch.allclose(scores(tmp_path, recorded.file(good | {key: other[key]}), data), before)
        assert changes != (key.startswith(recorded.idle) or key.endswith("num_batches_tracked")), key


def test_every_row_counts(tmp_path: Path, recorded: PointwiseRecorded, data: Path) -> None:
    """No token's row of a table is skipped or shifted out."""
    good = recorded.state_dict()
    before = scores(tmp_path, recorded.file(good), data)
    for row in range(1, len(good[recorded.table])):
        changed = good[recorded.table].clone()
        changed[row] += 1
        assert not torch.allclose(
            scores(tmp_path, recorded.file(good | {recorded.table: changed}), data), before
        )


def test_tensors_that_nobody_knows(
    tmp_path: Path, layout: str, recorded: PointwiseRecorded, data: Path
) -> None:
    state = recorded.state_dict() | {"teleporter.weight": torch.zeros(3, 3)}
    message = refusal(tmp_path, recorded.file(state), data)
    assert "its layout is not known (keys teleporter.weight)" in message
    message = refusal(tmp_path, recorded.file(state), data, layout=layout)
    assert "teleporter.weight and 0 more tensors are not" in message


def test_misshapen_tensors(tmp_path: Path, recorded: PointwiseRecorded, data: Path) -> None:
    good = recorded.state_dict()
    for i, (key, tensor) in enumerate(good.items()):
        if key.endswith("num_batches_tracked") or key.startswith(recorded.idle):
            continue
        wrong = (tensor[None], tensor.reshape(-1)[:0], torch.tensor(1.0))[i % 3]
        refusal(tmp_path, recorded.file(good | {key: wrong.contiguous()}), data)
    turned = good[recorded.table].T.contiguous()
    assert recorded.table in refusal(tmp_path, recorded.file(good | {recorded.table: turned}), data)


def test_values_that_are_no_numbers(tmp_path: Path, recorded: PointwiseRecorded, data: Path) -> None:
    good = recorded.state_dict()
    for key, tensor in good.items():
        if key.endswith("num_batches_tracked") or key.startswith(recorded.idle):
            continue
        broken = tensor.clone()
        broken.view(-1)[0] = float("nan")
        message = refusal(tmp_path, recorded.file(good | {key: broken}), data)
        assert "values that are NaN or infinite" in message
        message = refusal(tmp_path, recorded.file(good | {key: (tensor * 99).to(torch.int8)}), data)
        assert f"{key} is torch.int8; expected floating point" in message


def test_a_wrong_vocabulary(tmp_path: Path, layout: str, recorded: PointwiseRecorded, data: Path) -> None:
    if layout.startswith("recbole-"):
        with data.open("a") as file:
            file.write("u3\ti9\t5\t20\n")
        for suffix, row in ((".user", "u3\t30\n"), (".item", "i9\twar\t4\n")):
            with data.with_suffix(suffix).open("a") as file:
                file.write(row)
        message = refusal(tmp_path, recorded.file(), data)
        assert "expected the very files it was trained on" in message
        return
    vocabulary = FEATURE_VOCAB | {"site": {"__PAD__": 0, "x": 1, "__OOV__": 2}}
    (data.parent / "feature_vocab.json").write_text(json.dumps(vocabulary))
    assert "site has 3 tokens, feature_map.json says vocab_size 5" in refusal(tmp_path, recorded.file(), data)


def test_without_the_data(tmp_path: Path, layout: str, recorded: PointwiseRecorded) -> None:
    if layout == "recbole-neumf":  # two tables of two fields: nothing is packed, only the ids are RecBole's
        teacher = load(tmp_path, recorded.file(), None)
        assert teacher.vocabularies["item_id"].ids([0, 3]) == [1, 4]
        assert "RecBole's internal ones" in teacher.notes[0]
        return
    message = refusal(tmp_path, recorded.file(), None)
    expected = (
        "give the .inter file it was trained on" if "recbole" in layout else "no feature_map.json beside it"
    )
    assert expected in message


def test_files_that_are_cut_off_or_attack(tmp_path: Path, recorded: PointwiseRecorded, data: Path) -> None:
    good = saved(recorded.file())
    for length in (0, 100, len(good) // 2, len(good) - 30):
        refusal(tmp_path, good[:length], data)
    trace = tmp_path / "trace"
    hostile = recorded.state_dict() | {recorded.table: Runs(command_leaving(trace))}
    refusal(tmp_path, recorded.file(hostile), data)
    load(tmp_path, recorded.file() | {"optimizer": Runs(command_leaving(trace))}, data)
    assert not trace.exists()
    claim = b"\x8a\x08" + (1 << 30).to_bytes(8, "little")  # 4 GB of floats
    pickled = record(good, "data.pkl")
    n_elements = recorded.state_dict()[recorded.table].numel()
    claiming = pickled.replace(b"K" + bytes([n_elements]), claim)
    assert claiming != pickled
    refusal(tmp_path, rewritten(good, {"data.pkl": claiming}), data)


def test_heads(tmp_path: Path, layout: str, recorded: PointwiseRecorded, data: Path) -> None:
    match layout:
        case "recbole-autoint":
            model: Any = load(tmp_path, recorded.file(), data, n_heads=3).model
            assert model.config.n_heads == 3
            message = refusal(tmp_path, recorded.file(), data, n_heads=2)
            assert "2 heads asked for, but its settings record 3" in message
            assert "4 heads do not divide the attention width 6" in refusal(
                tmp_path, recorded.file(num_heads=4), data
            )
        case "fuxictr-autoint":
            teacher = load(tmp_path, recorded.file(), data)
            assert any("heads: 2 assumed" in note for note in teacher.notes)
            assert "5 heads do not divide the attention width 6" in refusal(
                tmp_path, recorded.file(), data, n_heads=5
            )
        case _:
            assert "heads asked for, but a" in refusal(tmp_path, recorded.file(), data, n_heads=2)


def test_settings_that_name_another_model(
    tmp_path: Path, layout: str, recorded: PointwiseRecorded, data: Path
) -> None:
    if recorded.settings:
        message = refusal(tmp_path, recorded.file(model="Telepathy"), data, layout=layout)
        assert "its settings say model 'Telepathy', its weights are" in message


def test_every_layout_matches_its_own_only() -> None:
    twins = {"recbole-deepfm", "recbole-wide-deep"}
    for name, recorded in POINTWISE.items():
        keys = tuple(recorded.shapes)
        fitting = {layout.name for layout in LAYOUTS if layout.matches(keys)}
        assert fitting == (twins if name in twins else {name})
        assert all(map(next(layout for layout in LAYOUTS if layout.name == name).knows, keys))
    for recorded in RECORDED.values():
        assert not {layout.name for layout in LAYOUTS if layout.matches(tuple(recorded.shapes))} & set(
            POINTWISE
        )


def test_twins_are_told_apart_by_their_settings(tmp_path: Path) -> None:
    recorded = POINTWISE["recbole-deepfm"]
    data = recorded.write_data(tmp_path)
    message = refusal(tmp_path, recorded.state_dict(), data)
    assert (
        "its keys are those of recbole-deepfm and recbole-wide-deep, and the file does not say which"
        in message
    )
    assert load(tmp_path, recorded.file(model="WideDeep"), data).layout == "recbole-wide-deep"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"discretization": {"price": {"method": "LD"}}}, "its setting discretization is not supported"),
        ({"alias_of_user_id": ["friend"]}, "its setting alias_of_user_id is not supported"),
        ({"threshold": {"rating": 4, "stars": 3}}, "its setting threshold is"),
        ({"threshold": {"rating": "high"}}, "its setting threshold is"),
        ({"load_col": "all"}, "its setting load_col is 'all'"),
        ({"load_col": {"inter": ["user_id", "item_id", "place"]}}, "has no column 'place'"),
        ({"load_col": {"inter": ["user_id"]}}, "has no column item_id:token"),
        ({"val_interval": {"rating": "[3,5]"}, "numerical_features": []}, "drop rows (val_interval)"),
        ({"numerical_features": ["price", "timestamp"]}, "timestamp 2, price 2"),
        ({"field_separator": ","}, "in its header; expected distinct names with their types"),
    ],
)
def test_settings_that_do_not_fit_the_data(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    recorded = POINTWISE["recbole-deepfm"]
    data = recorded.write_data(tmp_path)
    extra = (
        {"load_col": {"inter": ["user_id", "item_id"], "user": ["user_id"]}}
        if "val_interval" in settings
        else {}
    )
    assert message in refusal(tmp_path, recorded.file(**extra, **settings), data)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tiny.inter", "user_id\titem_id\n", "'user_id' in its header; expected distinct names with their types"),
        ("tiny.inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float\nu1\ti1\tgood\t2\n", ":2: rating is 'good'"),
        ("tiny.inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float\nu1\ti1\t1\t2\t3\n", "its rows do not fit its header"),
        ("tiny.inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float\nx\ty\t1\t2\n", "no interaction is left"),
        ("tiny.item", "item_id:token\tclass:token_seq\tprice:float\ni1\twar\t1\ni3\twar\t2\n", "expected the very files it was trained on"),
    ],
)  # fmt: skip
def test_data_that_are_broken(tmp_path: Path, name: str, text: str, message: str) -> None:
    recorded = POINTWISE["recbole-deepfm"]
    data = recorded.write_data(tmp_path)
    (tmp_path / name).write_text(text)
    assert message in refusal(tmp_path, recorded.file(), data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["click", "buy"]}, "expected one label and a list of features"),
        ({"features": [{"site": {"type": "embedding"}}]}, "site is of type 'embedding'; expected one of"),
        ({"features": ["site"]}, "a feature is 'site'; expected a name and what it is"),
        ({"features": [{"site": 3}]}, "site is 3; expected what it is"),
        ({"features": [{"site": {"type": "categorical", "feature_encoder": "x"}}]}, "site has feature_encoder 'x'"),
        ({"features": [{"site": {"type": "categorical", "vocab_size": 5}}]}, "has no feature 'price', but model.pth has"),
        ({"features": [{"other": {"type": "categorical"}}]}, "other is None; expected tokens and their rows"),
    ],
)  # fmt: skip
def test_feature_maps_that_are_broken(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    recorded = POINTWISE["fuxictr-deepfm"]
    data = recorded.write_data(tmp_path)
    (tmp_path / "feature_map.json").write_text(json.dumps(FEATURE_MAP | changes))
    assert message in refusal(tmp_path, recorded.file(), data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "holds a list; expected a JSON object"),
        (json.dumps(FEATURE_VOCAB | {"site": {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4}}), "expected __PAD__ and __OOV__"),
        (json.dumps(FEATURE_VOCAB | {"site": dict.fromkeys("abcde", 1)}), "are not 0 to 4; expected one row a token"),
        (json.dumps(FEATURE_VOCAB | {"site": dict.fromkeys("abcde", "1")}), "expected tokens and their rows"),
    ],
)  # fmt: skip
def test_vocabularies_that_are_broken(tmp_path: Path, text: str, message: str) -> None:
    recorded = POINTWISE["fuxictr-deepfm"]
    data = recorded.write_data(tmp_path)
    (tmp_path / "feature_vocab.json").write_text(text)
    assert message in refusal(tmp_path, recorded.file(), data)


def test_a_float_field_has_its_second_row(tmp_path: Path) -> None:
    """RecBole gives a float field two rows, and a value that is not discretized takes the second."""
    recorded = POINTWISE["recbole-fm"]
    data, good = recorded.write_data(tmp_path), recorded.state_dict()
    before = scores(tmp_path, recorded.file(good), data)
    for row, counts in ((0, False), (1, True)):
        changed = good["float_embedding_table.embedding.weight"].clone()
        changed[row] += 1
        after = scores(
            tmp_path, recorded.file(good | {"float_embedding_table.embedding.weight": changed}), data
        )
        assert torch.allclose(after, before) != counts


def test_an_items_features_are_put_behind_its_own_vector(tmp_path: Path) -> None:
    """DIN's table by hand: the mean of an item's classes, then its price between 3 and 9, or their mean, as 0 to 1."""
    recorded = POINTWISE["recbole-din"]
    data, state = recorded.write_data(tmp_path), recorded.state_dict()
    model: Any = load(tmp_path, recorded.file(state), data).model
    own, classes, price = (
        state[f"embedding_layer.{kind}_embedding_table.item.{name}.weight"]
        for kind, name in (("token", "embedding"), ("token_seq", "0"), ("float", "embedding"))
    )
    comedy, war, drama, nothing = classes[1], classes[2], classes[3], torch.zeros(4)
    expected = {
        0: (nothing, 0.5),  # what pads, and what is unknown
        1: ((drama + comedy) / 2, 0.5),  # i7, without a price
        2: (nothing, 1.0),  # i3
        3: ((comedy + war) / 2, 0.0),  # i1
        4: (war, 0.5),  # i5
    }
    for row, (mean, value) in expected.items():
        whole = torch.cat([own[row], mean, value * price[1]])
        torch.testing.assert_close(model.item_table[row], whole, rtol=0, atol=1e-6)


def test_what_the_settings_say_of_the_data(tmp_path: Path) -> None:
    recorded = POINTWISE["recbole-deepfm"]
    data = recorded.write_data(tmp_path)
    teacher = load(tmp_path, recorded.file(), data)
    fields = {field.name: field for field in teacher.model.schema.fields}
    assert list(fields) == [
        "class",
        "user_id",
        "item_id",
        "age",
        "price",
    ]  # lists, tokens, floats, as RecBole has them
    sides = {name: field.side for name, field in fields.items()}
    assert sides == {"class": "item", "user_id": "user", "item_id": "item", "age": "user", "price": "item"}
    assert (fields["price"].low, fields["price"].high) == (3.0, 9.0)
    assert fields["class"].max_length == 2
    assert (teacher.model.schema.label, teacher.threshold) == ("rating", 4.0)
    plain = load(tmp_path, recorded.file(normalize_all=None, threshold=None), data).model.schema
    assert (plain.field("price").low, plain.field("price").high) == (0.0, 1.0)
    assert plain.label == "label"
    named = load(tmp_path, recorded.file(normalize_all=False, normalize_field=["price"]), data).model.schema
    assert named.field("price").high == 9.0


def test_fuxictrs_stacked_dcn(tmp_path: Path) -> None:
    recorded = POINTWISE["fuxictr-dcnv2"]
    data = recorded.write_data(tmp_path)
    parallel = recorded.state_dict()
    stacked = {key.replace("parallel_dnn", "stacked_dnn"): tensor for key, tensor in parallel.items()}
    stacked["fc.weight"] = torch.ones(1, 5)
    model: Any = load(tmp_path, stacked, data).model
    assert model.config.structure == "stacked"
    assert model.config.hidden_widths == (6, 5)
    message = refusal(tmp_path, stacked | parallel, data)
    assert "has parallel_dnn.mlp. and stacked_dnn.mlp.; expected one of them" in message
    neither = {key: tensor for key, tensor in parallel.items() if "_dnn" not in key}
    assert "has neither parallel_dnn.mlp. nor stacked_dnn.mlp." in refusal(tmp_path, neither, data)
