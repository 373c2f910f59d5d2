"""Labelled rows: RecBole's own split, features joined by id, and data that do not fit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from pocketrec.benchmarks.labelled_rows import read_labelled
from pocketrec.benchmarks.recbole_splits import counts, random_split, torch_randperm, user_time_split
from pocketrec.runtime.errors import InputError
from pocketrec.runtime.features import FeatureSchema, Field
from pocketrec.runtime.item_ids import ItemIds

N_USERS, N_ITEMS = 6, 5


@pytest.mark.parametrize(("n", "seed"), [(1, 0), (2, 3), (100, 2020), (3001, 7)])
def test_the_permutation_is_torchs(n: int, seed: int) -> None:
    torch.manual_seed(seed)
    np.testing.assert_array_equal(torch_randperm(n, seed), torch.randperm(n).numpy())


def test_parts_hold_every_row_once() -> None:
    for parts in (random_split(103, 1), user_time_split(np.arange(103) % 7, np.arange(103.0)[::-1])):
        assert sorted(np.concatenate(parts).tolist()) == list(range(103))
    assert counts(100, (0.8, 0.1, 0.1)) == [80, 10, 10]
    assert counts(5, (0.8, 0.1, 0.1)) == [3, 1, 1]  # a part that would be empty gets one
    assert counts(1, (0.8, 0.1, 0.1)) == [1, 0, 0]


def test_each_users_oldest_rows_train() -> None:
    users, times = np.repeat([1, 2], 10), np.tile(np.arange(10.0)[::-1], 2)
    train, _, test = user_time_split(users, times)
    assert times[test].tolist() == [9.0, 9.0]
    assert times[train].max() == 7.0


def spec(**changes: Any) -> Any:
    fields = (
        Field(name="class", kind="token_seq", side="item", size=4, max_length=2),
        Field(name="user_id", kind="token", side="user", size=N_USERS + 1),
        Field(name="item_id", kind="token", side="item", size=N_ITEMS + 1),
        Field(name="age", kind="float", side="user", low=20.0, high=40.0),
    )
    users, items = (ItemIds.from_sequence(range(1, n + 1)) for n in (N_USERS, N_ITEMS))
    given: dict[str, Any] = {
        "schema": FeatureSchema(fields=fields, label="rating"),
        "vocabularies": {"user_id": users, "item_id": items, "class": ItemIds.from_sequence(["war", "comedy", "drama"])},
        "threshold": 4.0, "rows_in_data": False, "item": "item_id", "user": "user_id", "history": None,
    }  # fmt: skip
    return SimpleNamespace(**given | changes)


@pytest.fixture
def atomic(tmp_path: Path) -> Path:
    rows = [
        (u, i, 1 + 4 * ((u + i) % 2), 100 * u + i)
        for u in range(1, N_USERS + 1)
        for i in range(1, N_ITEMS + 1)
    ]
    text = "".join(f"{u}\t{i}\t{r}\t{t}\n" for u, i, r, t in rows)
    (tmp_path / "d.inter").write_text("user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + text)
    ages = "".join(f"{u}\t{18 + 2 * u}\n" for u in range(1, N_USERS + 1))
    (tmp_path / "d.user").write_text("user_id:token\tage:float\n" + ages)
    classes = "1\twar comedy\n2\t\n3\tdrama\n4\twestern drama\n5\tcomedy\n"
    (tmp_path / "d.item").write_text("item_id:token\tclass:token_seq\n" + classes)
    return tmp_path / "d.inter"


def test_features_are_joined_and_encoded(atomic: Path) -> None:
    data = read_labelled(atomic, spec(), seed=0)
    rows = [data.train, data.valid, data.test]
    assert [len(part) for part in rows] == [24, 3, 3]
    assert data.described["split"] == {"kind": "recbole-random", "seed": 0}
    order = torch_randperm(30, 0)
    users, items = np.repeat(np.arange(1, 7), 5)[order], np.tile(np.arange(1, 6), 6)[order]
    columns = {name: np.concatenate([part.columns[name] for part in rows]) for name in data.train.columns}
    np.testing.assert_array_equal(columns["user_id"], users)
    np.testing.assert_array_equal(columns["item_id"], items)
    np.testing.assert_allclose(columns["age"], (18 + 2 * users - 20) / 20, rtol=1e-6)
    classes = np.array([[0, 0], [1, 2], [0, 0], [3, 0], [3, 0], [2, 0]])  # "western" is not known
    np.testing.assert_array_equal(columns["class"], classes[items])
    labels = np.concatenate([part.labels for part in rows])
    np.testing.assert_array_equal(labels, ((users + items) % 2 == 1).astype(np.float32))
    np.testing.assert_array_equal(data.item_features["class"], classes)


def test_a_history_is_what_came_before(atomic: Path) -> None:
    fields = (
        Field(name="item_id", kind="token", side="item", size=N_ITEMS + 1),
        Field(name="item_id_list", kind="token_seq", side="user", size=N_ITEMS + 1, max_length=2),
    )
    ids = ItemIds.from_sequence(range(1, N_ITEMS + 1))
    history = spec(
        schema=FeatureSchema(fields=fields, label="rating"), user=None, history="item_id_list",
        vocabularies={"item_id": ids, "item_id_list": ids},
    )  # fmt: skip
    data = read_labelled(atomic, history)
    assert data.described["rows"] == {"train": 12, "valid": 6, "test": 6}
    assert set(data.test.columns["item_id"].tolist()) == {5}
    np.testing.assert_array_equal(data.test.columns["item_id_list"], np.tile([3, 4], (6, 1)))
    np.testing.assert_array_equal(data.train.columns["item_id_list"][:2], [[1, 0], [1, 2]])


def test_fuxictrs_rows_are_rows_already(tmp_path: Path) -> None:
    field = Field(name="site", kind="token", side="context", size=4)
    known = spec(
        schema=FeatureSchema(fields=(field,), label="click"), threshold=None, rows_in_data=True, item=None, user=None,
        vocabularies={"site": ItemIds.from_sequence(["a", "b", "c"])},
    )  # fmt: skip
    for part in ("train", "valid", "test"):
        pl.DataFrame({"site": [1, 4, 2], "click": [0, 1, 1]}).write_parquet(tmp_path / f"{part}.parquet")
    data = read_labelled(tmp_path / "train.parquet", known)
    assert data.train.columns["site"].tolist() == [1, 0, 2]  # their last row is our first: the unknown token
    assert data.described["split"] == {"kind": "files"}
    pl.DataFrame({"site": [1, 5], "click": [0, 1]}).write_parquet(tmp_path / "test.parquet")
    with pytest.raises(InputError, match="site has the row 5, its tables 4"):
        read_labelled(tmp_path / "train.parquet", known)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": 9.0}, "0 positive; expected rows of either label"),
        ({"threshold": None}, "rating has other values than 0 and 1"),
        ({"item": "movie_id"}, "has no column 'movie_id'"),
        ({"schema": FeatureSchema(fields=spec().schema.fields, label="clicks")}, "has no column 'clicks'"),
    ],
)
def test_data_that_do_not_fit(atomic: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_labelled(atomic, spec(**changes))
    assert "\n" not in str(caught.value)


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected RecBole's .inter, or FuxiCTR's train.parquet"):
        read_labelled(tmp_path / "rows.tsv", spec())
    with pytest.raises(InputError, match="no such file; expected train, valid and test"):
        read_labelled(tmp_path / "train.csv", spec())


@pytest.mark.shared
@pytest.mark.parametrize("name", ["DeepFM", "WideDeep"])
def test_the_test_rows_are_recboles(shared: Path, name: str) -> None:
    from pocketrec.compress.layouts import load_pointwise_teacher
    from pocketrec.compress.pointwise_spec import spec_of

    folder = shared / "checkpoints" / "recbole"
    data = shared / "data" / "ml-100k" / "ml-100k.inter"
    teacher = load_pointwise_teacher(folder / f"{name}-ml100k.pth", data=data)
    test = read_labelled(data, spec_of(teacher)).test
    with np.load(folder / f"{name}-ml100k.reference.npz", allow_pickle=False) as reference:
        for field in teacher.model.schema.fields:
            np.testing.assert_array_equal(test.columns[field.name], reference[f"all_{field.name}"])
        np.testing.assert_array_equal(test.labels, reference["all_label"])
