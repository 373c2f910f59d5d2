"""Item-item weights from a log to a bundle, by the command line alone; and its own file, which is refused where it is broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pocketrec.compress.layouts import ItemItemTeacher, load_ranking_teacher
from pocketrec.runtime import Reranker
from pocketrec.runtime.errors import InputError

from ..tiny_road import N_ITEMS, walks, write_sequences


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_sequences(tmp_path / "data.txt", walks(150), item_id=lambda row: f"i{row:02}")
    return tmp_path / "data.txt"


@pytest.mark.parametrize(
    ("model", "options", "neighbors"),
    [("ease", ["--regularization", "20"], N_ITEMS), ("itemknn", ["--neighbors", "7", "--shrink", "1"], 7)],
)
def test_from_a_log_to_a_bundle(
    cli_here, tmp_path: Path, data: Path, model: str, options: list[str], neighbors: int
) -> None:
    made, bundle = tmp_path / "model.safetensors", tmp_path / "model.pocket"
    trained = cli_here("train", data, "-o", made, "--model", model, *options, "--json")
    assert trained.exit_code == 0, trained.stderr
    figures = json.loads(trained.stdout)
    assert figures["size_bytes"] == made.stat().st_size
    ndcg = {name: figures["metrics"][name]["metrics"]["ndcg@10"]["value"] for name in ("model", "popularity")}
    assert ndcg["model"] > 2 * ndcg["popularity"]
    teacher = load_ranking_teacher(made)
    assert isinstance(teacher, ItemItemTeacher)
    assert (teacher.model.n_items, teacher.model.count) == (N_ITEMS, neighbors)
    done = cli_here("compress", made, "--data", data, "-o", bundle, "--neighbors", "5", "--bits", "4")
    assert done.exit_code == 0, done.stderr
    assert f"pocketrec-item-item, 50 items, {neighbors} neighbours each" in done.stdout
    assert "distill   skipped: item-item weights are solved in one go" in done.stdout
    ranker = Reranker.load(bundle)
    assert ranker.engine.manifest["model"]["neighbors"] == 5
    assert ranker.engine.manifest["item_table"]["bits"] == 4
    user = ranker.user()
    user.observe("i10", "i11")
    assert {"i12", "i09"} & {item.item_id for item in user.recommend(k=3)}
    looked = cli_here("inspect", bundle)
    assert looked.exit_code == 0
    assert "item-item" in looked.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--regularization", "0"], "regularization: got 0.0, expected above 0"),
        (["--neighbors", "0"], "neighbors: got 0, expected at least 1"),
        (["--shrink", "-1"], "shrink: got -1.0, expected at least 0"),
    ],
)
def test_options_that_make_no_sense(
    cli_here, tmp_path: Path, data: Path, options: list[str], message: str
) -> None:
    result = cli_here("train", data, "-o", tmp_path / "x.safetensors", "--model", "ease", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize(
    ("tensors", "document", "message"),
    [
        (
            {"neighbor_rows": None},
            {},
            "neighbor_weights has 7 columns for 50 items, and neighbor_rows is missing",
        ),
        (
            {"neighbor_rows": np.full((50, 7), 50, np.int32)},
            {},
            "neighbor_rows run from 50 to 50, expected 0 to 49",
        ),
        (
            {"neighbor_rows": np.zeros((50, 6), np.int32)},
            {},
            r"neighbor_rows is torch.int32 of shape \(50, 6\)",
        ),
        ({"neighbor_weights": np.full((50, 7), np.nan, np.float32)}, {}, "NaN or infinite"),
        ({"neighbor_weights": np.zeros((7, 50), np.float32)}, {}, r"neighbor_rows is torch.int32 of shape"),
        ({"more": np.zeros(1, np.float32)}, {}, "its layout is not known|more belong to no part"),
        ({}, {"architecture": "sasrec"}, "architecture 'sasrec'; expected item-item"),
        ({}, {"format_version": 9}, "checkpoint format 9, this pocketrec reads 1"),
        ({}, {"item_ids": {"first": 1, "count": 49}}, "item ids do not number the 50 items"),
    ],
)
def test_files_that_are_broken(
    cli_here, tmp_path: Path, data: Path, tensors: dict[str, Any], document: dict[str, Any], message: str
) -> None:
    made = tmp_path / "model.safetensors"
    assert cli_here("train", data, "-o", made, "--model", "itemknn", "--neighbors", "7").exit_code == 0
    changed = {name: value for name, value in (load_file(made) | tensors).items() if value is not None}
    size = int.from_bytes(made.read_bytes()[:8], "little")
    metadata = json.loads(made.read_bytes()[8 : 8 + size])["__metadata__"]
    metadata["pocketrec"] = json.dumps(json.loads(metadata["pocketrec"]) | document)
    save_file(changed, made, metadata)
    with pytest.raises(InputError, match=message) as caught:
        load_ranking_teacher(made)
    assert str(caught.value).startswith(str(made))
