"""Our own checkpoint: what is saved is what is loaded, and what was edited is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from pocketrec.compress.item_bias import fold_item_bias
from pocketrec.compress.layouts import load_teacher, native
from pocketrec.compress.models.sasrec import SASRec, SASRecConfig
from pocketrec.compress.native_checkpoint import read_metadata, save_checkpoint
from pocketrec.compress.prune import PruneConfig, prune
from pocketrec.runtime.errors import InputError
from pocketrec.runtime.item_ids import ItemIds

from .models.families import FAMILIES, N_ITEMS, lively

CONFIG = SASRecConfig(
    n_items=9,
    width=8,
    n_layers=2,
    n_heads=(1, 2),
    head_width=4,
    inner_widths=(5, 32),
    max_length=6,
    positions="start",
)


@pytest.fixture
def model() -> SASRec:
    return SASRec(CONFIG, seed=4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "teacher.safetensors"


@pytest.mark.parametrize(
    "ids", [list(range(1, 10)), [0, 5, 3, 9, 2**40, -7, 8, 11, 12], [f"item {i} ü" for i in range(9)]]
)
def test_comes_back_whole(model: SASRec, path: Path, ids: list[Any]) -> None:
    size = save_checkpoint(path, model, ItemIds.from_sequence(ids), training={"seed": 4, "data": "x.tsv"})
    assert size == path.stat().st_size
    teacher = load_teacher(path)
    assert teacher.layout == "pocketrec"
    assert teacher.model.config == CONFIG
    assert not teacher.model.training
    assert teacher.item_ids.ids(range(9)) == ids
    assert teacher.notes == ()
    assert read_metadata(teacher.source)["training"] == {"seed": 4, "data": "x.tsv"}
    assert teacher.source.weights_bytes == 4 * sum(p.numel() for p in model.parameters())
    for (name, a), (other, b) in zip(
        model.state_dict().items(), teacher.model.state_dict().items(), strict=True
    ):
        assert name == other
        assert torch.equal(a, b)


def test_the_same_model_is_the_same_file(model: SASRec, tmp_path: Path) -> None:
    ids = ItemIds.from_sequence(range(9))
    save_checkpoint(tmp_path / "a", model, ids)
    save_checkpoint(tmp_path / "b", SASRec(CONFIG, seed=4), ids)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_saving_refuses(model: SASRec, path: Path) -> None:
    with pytest.raises(InputError, match="8 item ids for 9 items"):
        save_checkpoint(path, model, ItemIds.from_sequence(range(8)))
    assert not path.exists()
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        save_checkpoint(path, model, ItemIds.from_sequence(range(9)), overwrite=False)
    assert path.read_text() == "mine"


def edited(
    path: Path, model: SASRec, metadata: dict[str, Any], tensors: dict[str, Any] | None = None
) -> Path:
    """The saved file with other metadata and other tensors (None: taken out)."""
    save_checkpoint(path, model, ItemIds.from_sequence(range(1, 10)))
    with safe_open(path, framework="pt") as file:
        document = json.loads(file.metadata()["pocketrec"]) | metadata
    state = model.state_dict() | (tensors or {})
    document = {name: value for name, value in document.items() if value is not None}
    kept = {name: tensor for name, tensor in state.items() if tensor is not None}
    save_file(kept, path, {"pocketrec": json.dumps(document)})
    return path


def config_with(**fields: Any) -> dict[str, Any]:
    whole = {
        "n_items": 9,
        "width": 8,
        "n_layers": 2,
        "n_heads": [1, 2],
        "head_width": 4,
        "inner_widths": [5, 32],
    }
    return {"config": {**whole, "max_length": 6, "positions": "start", **fields}}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format_version": 2}, "checkpoint format 2, this pocketrec reads 1; upgrade pocketrec"),
        ({"format_version": None}, "checkpoint format None"),
        ({"architecture": "os.system"}, "architecture 'os.system'; expected one of sasrec"),
        ({"architecture": []}, r"architecture \[\]; expected one of sasrec"),
        ({"config": None}, "its metadata have no config"),
        ({"config": [1]}, "its metadata have no config"),
        (config_with(colour=1), "config has an unknown field 'colour'"),
        (config_with(n_layers=10**9), "config says 1000000000 layers in 36 tensors"),
        (config_with(n_layers="2"), "config says '2' layers"),
        (config_with(n_heads=[1, 2, 3]), "config: SASRecConfig: n_heads .*expected 2 numbers"),
        (config_with(width="8"), "config: "),
        (config_with(n_items=10**9), r"item_table has shape \(9, 8\), expected \(1000000000, 8\)"),
        (config_with(width=10**30), "config makes no model"),
        (config_with(width=4), r"item_table has shape \(9, 8\), expected \(9, 4\)"),
        (
            config_with(inner_widths=[32, 5]),
            r"layers.0.dense_1.weight has shape \(5, 8\), expected \(32, 8\)",
        ),
        ({"item_ids": {"first": 1, "count": 1000000000000}}, "item ids do not number the 9 items"),
        ({"item_ids": {"ids": [1, 2]}}, "item ids do not number the 9 items"),
        ({"item_ids": {"ids": [1, 1, 2, 3, 4, 5, 6, 7, 8]}}, "1 occurs twice"),
        ({"item_ids": {"ids": [1, [], 2, 3, 4, 5, 6, 7, 8]}}, "item ids"),
    ],
)
def test_edited_metadata(model: SASRec, path: Path, metadata: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_teacher(edited(path, model, metadata))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"norm.bias": None}, r"norm.bias \(8\) is missing"),
        ({"other": torch.zeros(2)}, "other belong to no part of the model"),
        ({"item_table": torch.zeros(8, 9)}, "item ids do not number the 8 items"),
        ({"item_table": torch.tensor(1.0)}, "item ids do not number the 0 items"),
        (
            {"norm.bias": torch.full((8,), float("nan"))},
            "norm.bias has 8 of 8 values that are NaN or infinite",
        ),
    ],
)
def test_edited_tensors(model: SASRec, path: Path, tensors: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_teacher(edited(path, model, {}, tensors))


@pytest.mark.parametrize(
    "metadata", [None, {}, {"pocketrec": "x"}, {"pocketrec": "[" * 100_000}, {"pocketrec": "[1]"}]
)
def test_tensors_without_metadata(model: SASRec, path: Path, metadata: dict[str, str] | None) -> None:
    save_file(model.state_dict(), path, metadata)
    with pytest.raises(InputError, match="pocketrec's tensors without its metadata"):
        load_teacher(path)


def test_heads_are_recorded(model: SASRec, path: Path) -> None:
    save_checkpoint(path, model, ItemIds.from_sequence(range(9)))
    with pytest.raises(InputError, match="4 heads asked for, but the file records them"):
        load_teacher(path, n_heads=4)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_comes_back_whole_pruned_or_not(family: str, path: Path) -> None:
    random = np.random.default_rng(0)
    sequences = [random.integers(N_ITEMS, size=6) for _ in range(20)]
    whole = lively(family)
    config = PruneConfig(inner_multiple=1, keep_hidden=0.5, calibration_batches=2)
    pruned, _ = prune(whole, sequences, config, seed=0)
    for model in (whole, pruned):
        save_checkpoint(path, model, ItemIds.from_sequence(range(1, N_ITEMS + 1)))
        teacher = load_teacher(path)
        assert teacher.layout == "pocketrec"
        assert type(teacher.model) is type(model)
        assert teacher.model.config == model.config
        assert all(map(native.LAYOUT.knows, teacher.source.tensors))
        assert not teacher.model.training
        state, expected = teacher.model.state_dict(), model.state_dict()
        assert list(state) == list(expected)
        assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_sizes_are_bounded_before_modules_are_made(path: Path) -> None:
    save_checkpoint(path, lively("caser"), ItemIds.from_sequence(range(1, N_ITEMS + 1)))
    with safe_open(path, framework="pt") as file:
        document = json.loads(file.metadata()["pocketrec"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    document["config"]["max_length"] = 10**9
    save_file(tensors, path, {"pocketrec": json.dumps(document)})
    with pytest.raises(InputError, match=f"config says 1000000000 max_length in {len(tensors)} tensors"):
        load_teacher(path)


def test_what_is_no_architecture_is_not_saved(path: Path) -> None:
    with pytest.raises(InputError, match="BiasAsDimension: cannot be saved; expected one of sasrec, pmixer"):
        save_checkpoint(path, fold_item_bias(lively("bert4rec")), ItemIds.from_sequence(range(N_ITEMS)))
    assert not path.exists()
