"""Layouts: real checkpoints score as published or as their framework scored them; broken ones are one clear line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pocketrec.benchmarks.interactions import read_interactions
from pocketrec.compress.checkpoint import read_checkpoint
from pocketrec.compress.layouts import LAYOUTS, LoadOptions, Teacher, load_teacher, recbole_item_ids
from pocketrec.compress.layouts.known_layouts import find_layout
from pocketrec.compress.models.sasrec import SASRec, SASRecConfig
from pocketrec.runtime.errors import InputError
from pocketrec.runtime.item_ids import ItemIds

from .hostile_checkpoints import MAX_LENGTH, N_ITEMS, NAMINGS, TABLE, WIDTH, on_cuda, saved, state_dict

FIRST_QUERY = {
    "s3-rec": "item_encoder.layer.0.attention.query.weight",
    "recbole-sasrec": "trm_encoder.layer.0.multi_head_attention.query.weight",
}


@pytest.fixture(params=TABLE)
def layout(request: pytest.FixtureRequest) -> str:
    return request.param


def load(tmp_path: Path, value: Any, **options: Any) -> Teacher:
    path = tmp_path / "model.pt"
    path.write_bytes(value if isinstance(value, bytes) else saved(value))
    return load_teacher(path, **options)


# Real files


def full_ranking(model: SASRec, sequences: Sequence[list[int]]) -> tuple[float, float]:
    """HR@10 and NDCG@10 of the last item of each sequence of rows; the history is masked, ties count against it."""
    by_length: dict[int, list[list[int]]] = defaultdict(list)
    for sequence in sequences:
        by_length[min(len(sequence) - 1, model.max_length)].append(sequence)
    table, ranks = model.item_table, []
    for n, group in by_length.items():
        for start in range(0, len(group), 512):
            batch = group[start : start + 512]
            users = model.encode(table[torch.tensor([s[-1 - n : -1] for s in batch])])  # (B, D)
            scores = users @ table.T  # (B, N)
            target = scores.gather(1, torch.tensor([[s[-1]] for s in batch]))  # (B, 1)
            seen = [(b, row) for b, s in enumerate(batch) for row in s[:-1] if row != s[-1]]
            scores[tuple(torch.tensor(seen).T)] = -torch.inf
            ranks.append((scores >= target).sum(1))
    rank = torch.cat(ranks).double()
    hit = (rank <= 10).double()
    return hit.mean().item(), (hit / torch.log2(rank + 1)).mean().item()


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "hr", "ndcg", "n_layers"),
    [("icsrec-sasrec-beauty.pt", 0.0960, 0.0579, 2), ("iclrec-sasrec-beauty.pt", 0.0744, 0.0403, 1)],
)
def test_published_metrics(shared: Path, name: str, hr: float, ndcg: float, n_layers: int) -> None:
    teacher = load_teacher(shared / "checkpoints" / name)
    assert teacher.layout == "s3-rec"
    assert teacher.model.config == SASRecConfig(
        n_items=12101, width=64, n_layers=n_layers, n_heads=2, max_length=50, positions="end", dropout=0.5
    )
    lines = (shared / "data" / "beauty" / "Beauty.txt").read_text().splitlines()
    sequences = [teacher.item_ids.rows(map(int, line.split()[1:])).tolist() for line in lines]
    with torch.inference_mode():
        got = full_ranking(teacher.model, sequences)
    # The figures are known to four digits; libraries that sum in another order move a few users of 22,363.
    assert got == pytest.approx((hr, ndcg), abs=0.0003)


@pytest.mark.shared
def test_checkpoint_bytes(shared: Path) -> None:
    teacher = load_teacher(shared / "checkpoints" / "icsrec-sasrec-beauty.pt")
    assert teacher.source.weights_bytes == 3_511_552
    assert teacher.source.size_bytes == 3_519_593


def recbole_scores(model: SASRec, item_lists: np.ndarray, lengths: np.ndarray) -> Tensor:
    rows = torch.from_numpy(item_lists.astype(np.int64) - 1).clamp(
        min=0
    )  # 0 pads on the right: any row will do
    n = torch.from_numpy(lengths.astype(np.int64))
    users = model.hidden_states(model.item_table[rows], n)[torch.arange(len(n)), n - 1]
    return users @ model.item_table.T


@pytest.mark.shared
def test_recboles_own_scores(shared: Path) -> None:
    folder = shared / "checkpoints" / "recbole"
    teacher = load_teacher(folder / "SASRec-ml100k.pth")
    model = teacher.model
    assert teacher.layout == "recbole-sasrec"
    assert model.config == SASRecConfig(
        n_items=1682, width=64, n_layers=2, n_heads=2, max_length=50, positions="start", dropout=0.2
    )
    assert teacher.source.settings["model"] == "SASRec"
    assert teacher.source.settings["MODEL_TYPE"] == "recbole.utils.enum_type.ModelType"
    assert "optimizer" in teacher.source.extra
    with np.load(folder / "SASRec-ml100k.reference.npz", allow_pickle=False) as file:
        reference = dict(file)
    with torch.inference_mode():
        scores = recbole_scores(model, reference["item_id_list"], reference["item_length"])
        # RecBole ran the same float32 weights; scores reach 14, and sums in another order differ in the 6th digit.
        np.testing.assert_allclose(scores, reference["scores"][:, 1:], rtol=0, atol=1e-4)
        for b in range(8):
            rows = torch.from_numpy(
                reference["item_id_list"][b, : reference["item_length"][b]].astype(np.int64) - 1
            )
            alone = model.encode(model.item_table[rows][None])[0] @ model.item_table.T
            np.testing.assert_allclose(alone, reference["scores"][b, 1:], rtol=0, atol=1e-4)
        everybody = recbole_scores(model, reference["all_item_id_list"], reference["all_item_length"])
        assert (
            everybody.topk(10).indices.numpy() + 1 == reference["all_top10"]
        ).mean() > 0.999  # but for ties


@pytest.mark.shared
def test_recboles_item_ids(shared: Path) -> None:
    """Rows are numbered by first appearance in the .inter file, and say so in the reference file."""
    folder = shared / "checkpoints" / "recbole"
    interactions = read_interactions(shared / "data" / "ml-100k" / "ml-100k.inter")
    teacher = load_teacher(folder / "SASRec-ml100k.pth", interactions=interactions)
    with np.load(folder / "SASRec-ml100k.reference.npz", allow_pickle=False) as file:
        tokens = file["item_tokens"][1:].tolist()
    assert [str(item_id) for item_id in teacher.item_ids.ids(range(1682))] == tokens
    beauty = read_interactions(shared / "data" / "beauty" / "Beauty.txt")
    with pytest.raises(InputError, match="12101 distinct items, the RecBole checkpoint 1682"):
        load_teacher(folder / "SASRec-ml100k.pth", interactions=beauty)


@pytest.mark.shared
def test_recbole_state_dict_alone(shared: Path) -> None:
    teacher = load_teacher(shared / "checkpoints" / "recbole-sasrec-ml1m.pth")
    assert teacher.model.config == SASRecConfig(
        n_items=3706, width=64, n_layers=2, n_heads=2, max_length=50, positions="start", dropout=0.5
    )
    assert len(teacher.notes) == 2
    assert "heads: 2 assumed (RecBole's default)" in teacher.notes[0]


@pytest.mark.shared
@pytest.mark.parametrize("name", ["BPR", "NeuMF", "LightGCN", "EASE", "DeepFM"])
def test_other_models_are_not_taken_for_sasrec(shared: Path, name: str) -> None:
    checkpoint = read_checkpoint(shared / "checkpoints" / "recbole" / f"{name}-ml100k.pth")
    assert find_layout(checkpoint).name == f"recbole-{name.lower()}"
    with pytest.raises(
        InputError, match=r"item_embedding.weight|layers are numbered \[\]|settings say model"
    ):
        find_layout(checkpoint, "recbole-sasrec").load(checkpoint, LoadOptions())


# What a layout reads


def test_rows_that_are_no_items_are_stripped(tmp_path: Path, layout: str) -> None:
    weights = state_dict(layout)
    teacher = load(tmp_path, weights)
    assert teacher.layout == layout
    assert teacher.model.config.n_items == N_ITEMS
    assert torch.equal(teacher.model.item_table, weights[TABLE[layout]][1 : N_ITEMS + 1])
    assert teacher.item_ids.ids([0, N_ITEMS - 1]) == [1, N_ITEMS]
    assert not teacher.model.training
    assert teacher.model.item_table.dtype == torch.float32
    assert any("item ids: " in note for note in teacher.notes)


def test_item_ids_that_the_user_knows(tmp_path: Path, layout: str) -> None:
    ids = ItemIds.from_sequence([f"i{n}" for n in range(N_ITEMS)])
    teacher = load(tmp_path, state_dict(layout), item_ids=ids, n_heads=4)
    assert teacher.item_ids is ids
    assert teacher.model.config.n_heads == (4, 4)
    assert teacher.notes == ()
    with pytest.raises(InputError, match="30 items, but 29 item ids were given"):
        load(tmp_path, state_dict(layout), item_ids=ItemIds.from_sequence(range(29)))


def test_heads_change_the_model(tmp_path: Path, layout: str) -> None:
    # not so large that softmax saturates
    weights = {name: tensor * 5 for name, tensor in state_dict(layout).items()}
    vectors = torch.randn(1, 4, WIDTH, generator=torch.Generator().manual_seed(0))
    one, two = (load(tmp_path, weights, n_heads=n).model.encode(vectors) for n in (1, 2))
    assert not torch.allclose(one, two)


def test_half_precision_and_cuda_tags(tmp_path: Path, layout: str) -> None:
    half = {name: tensor.half() for name, tensor in state_dict(layout).items()}
    teacher = load(tmp_path, on_cuda(saved(half)))
    assert teacher.model.item_table.dtype == torch.float32
    assert torch.equal(teacher.model.item_table, half[TABLE[layout]][1 : N_ITEMS + 1].float())
    assert teacher.source.weights_bytes == sum(tensor.nbytes for tensor in half.values())


def test_extra_heads_of_s3_rec_are_left_out_and_named(tmp_path: Path) -> None:
    extra = {"aap_norm.weight": torch.zeros(8, 8), "step": torch.tensor(3)}
    teacher = load(tmp_path, state_dict("s3-rec") | extra)
    assert teacher.notes[-1] == "left out, no part of the encoder: aap_norm.weight, step"


def test_settings_of_recbole(tmp_path: Path) -> None:
    settings = {
        "model": "SASRec",
        "n_heads": 4,
        "layer_norm_eps": 1e-6,
        "hidden_act": "relu",
        "hidden_dropout_prob": 0.1,
    }
    value = {"config": {"final_config_dict": settings}, "state_dict": state_dict("recbole-sasrec")}
    teacher = load(tmp_path, value)
    assert teacher.model.config == SASRecConfig(
        n_items=N_ITEMS,
        width=WIDTH,
        n_layers=2,
        n_heads=4,
        max_length=MAX_LENGTH,
        positions="start",
        activation="relu",
        eps=1e-6,
        dropout=0.1,
    )
    assert load(tmp_path, value, n_heads=4).model.config == teacher.model.config
    with pytest.raises(InputError, match="2 heads asked for, but its settings record 4"):
        load(tmp_path, value, n_heads=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "BERT4Rec"}, "its settings say model 'BERT4Rec'"),
        ({"n_heads": "2"}, "its setting n_heads is '2'; expected int"),
        ({"n_heads": 3}, "3 heads do not divide the width 8"),
        ({"n_heads": 0}, "0 heads do not divide"),
        ({"hidden_act": "mish"}, "hidden_act 'mish'; expected one of gelu"),
        ({"hidden_act": ["gelu"]}, "its setting hidden_act is"),
        ({"layer_norm_eps": -1.0}, "eps -1.0; expected"),
        ({"hidden_dropout_prob": 3}, "dropout 3.0; expected"),
    ],
)
def test_settings_that_make_no_sense(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(tmp_path, {"config": settings, "state_dict": state_dict("recbole-sasrec")})


def test_recbole_item_ids_counts() -> None:
    assert recbole_item_ids(["b", "a"], 2).ids([0, 1]) == ["b", "a"]
    with pytest.raises(
        InputError, match="the data have 2 distinct items, the RecBole checkpoint 3; expected the very"
    ):
        recbole_item_ids(["b", "a"], 3)


def test_a_layout_by_name(tmp_path: Path) -> None:
    assert load(tmp_path, state_dict("s3-rec"), layout="s3-rec").layout == "s3-rec"
    with pytest.raises(InputError, match=r"item_embedding.weight|layers are numbered \[\]"):
        load(tmp_path, state_dict("s3-rec"), layout="recbole-sasrec")
    with pytest.raises(InputError, match="pocketrec's tensors without its metadata"):
        load(tmp_path, state_dict("s3-rec"), layout="pocketrec")
    with pytest.raises(
        InputError, match=r"layout 's3rec' is not known; expected one of pocketrec, s3-rec, .*recbole-sasrec"
    ):
        load(tmp_path, state_dict("s3-rec"), layout="s3rec")


# What a layout refuses


def changed(layout: str, **changes: Tensor | None) -> dict[str, Tensor]:
    """The good state dict with its table or first query replaced, or taken out."""
    keys = {"table": TABLE[layout], "query": FIRST_QUERY[layout], "norm": "LayerNorm.bias"}
    weights: dict[str, Any] = state_dict(layout) | {keys[name]: tensor for name, tensor in changes.items()}
    return {name: tensor for name, tensor in weights.items() if tensor is not None}


def with_bad_values(layout: str) -> Tensor:
    table = state_dict(layout)[TABLE[layout]]
    table[3, :2] = float("nan")
    table[4, 0] = float("-inf")
    return table


def test_broken_weights(tmp_path: Path, layout: str) -> None:
    table, query = TABLE[layout], FIRST_QUERY[layout]
    rows = N_ITEMS + NAMINGS[layout][1]
    good = state_dict(layout)
    cases = {
        f"{table} is missing": changed(layout, table=None),
        f"{query} (8, 8) is missing": changed(layout, query=None),
        "LayerNorm.bias (8) is missing": changed(layout, norm=None),
        f"{table} has shape (8, {rows}), expected (any, 8) (transposed?)": changed(
            layout, table=good[table].T
        ),
        f"{table} has shape ({rows}, 9), expected (any, 8)": changed(layout, table=torch.zeros(rows, 9)),
        f"{query} has shape (8, 6), expected (8, 8)": changed(layout, query=torch.zeros(8, 6)),
        f"{query} has shape (8, 8, 1), expected (8, 8)": changed(layout, query=torch.zeros(8, 8, 1)),
        "LayerNorm.bias has shape (), expected (8)": changed(layout, norm=torch.tensor(1.0)),
        f"{table} has 1 rows; expected items beside": changed(layout, table=torch.zeros(1, 8)),
        f"{table} is torch.int8; expected floating point": changed(
            layout, table=torch.zeros(rows, 8, dtype=torch.int8)
        ),
        f"{table} has 3 of {rows * 8} values that are NaN or infinite": changed(
            layout, table=with_bad_values(layout)
        ),
    }
    for message, weights in cases.items():
        with pytest.raises(InputError) as caught:
            load(tmp_path, weights)
        assert message in str(caught.value)
        assert str(caught.value).startswith(str(tmp_path / "model.pt"))
        assert "\n" not in str(caught.value)


def test_heads_that_do_not_divide_the_width(tmp_path: Path, layout: str) -> None:
    for n_heads in (3, 0, -2):
        with pytest.raises(InputError, match=f"{n_heads} heads do not divide the width 8"):
            load(tmp_path, state_dict(layout), n_heads=n_heads)


def test_layers_that_are_not_numbered_from_0(tmp_path: Path, layout: str) -> None:
    renamed = {name.replace(".layer.1.", ".layer.999999."): t for name, t in state_dict(layout).items()}
    with pytest.raises(InputError, match=r"layers are numbered \[0, 999999\]; expected 0 to 1"):
        load(tmp_path, renamed)


def test_extra_keys_make_another_model_of_recbole(tmp_path: Path) -> None:
    weights = state_dict("recbole-sasrec") | {"teleporter.weight": torch.zeros(8, 8)}
    with pytest.raises(
        InputError, match=r"its layout is not known \(keys teleporter.weight\); known are pocketrec"
    ):
        load(tmp_path, weights)
    with pytest.raises(InputError, match=r"teleporter\.weight and 0 more tensors are not SASRec's"):
        load(tmp_path, weights, layout="recbole-sasrec")


def test_unknown_layout_is_one_error_with_keys_and_layouts(tmp_path: Path) -> None:
    weights = {"LayerNorm.weight": torch.zeros(1)} | {f"tower.{i}.weight": torch.zeros(1) for i in range(9)}
    with pytest.raises(InputError) as caught:
        load(tmp_path, weights)
    message = str(caught.value)
    assert "(keys tower.0.weight, tower.1.weight, tower.2.weight and 6 more)" in message
    assert all(known.name in message for known in LAYOUTS)
    assert message.endswith("a module of your own: --model")


def test_every_layout_matches_its_own_only() -> None:
    for name in TABLE:
        assert [layout.name for layout in LAYOUTS if layout.matches(tuple(state_dict(name)))] == [name]
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)
