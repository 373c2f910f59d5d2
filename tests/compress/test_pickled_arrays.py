"""Arrays and sparse matrices inside a pickle are read as they are, and nothing of numpy or scipy is called."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pocketrec.compress.checkpoint import read_checkpoint
from pocketrec.compress.inert_unpickler import MalformedPickleError, unpickle
from pocketrec.compress.pickled_arrays import pickled_tensors
from pocketrec.runtime.errors import InputError

from .hostile_checkpoints import Runs, command_leaving, saved
from .sparse_pickles import sparse_matrix

pytestmark = pytest.mark.usefixtures("no_scipy_left_behind")


def read(value: Any, protocol: int = 4) -> dict[str, torch.Tensor]:
    return pickled_tensors("w", unpickle(pickle.dumps(value, protocol)))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", "<i4", "<i8", "|u1", "<u2", "|b1"])
def test_arrays_of_numbers(protocol: int, dtype: str) -> None:
    array = np.arange(12).reshape(3, 4).astype(dtype)
    for given in (array, np.asfortranarray(array), array[:0], array.astype(dtype).view(np.matrix)):
        (found,) = read(given, protocol).values()
        assert found.shape == given.shape
        np.testing.assert_array_equal(found.numpy(), np.asarray(given))


@pytest.mark.parametrize("kind", ["csr", "csc"])
def test_sparse_matrices(kind: str) -> None:
    arrays = {
        "indptr": np.array([0, 1, 3], np.int32),
        "indices": np.array([2, 0, 1], np.int32),
        "data": np.ones(3),
    }
    found = read(sparse_matrix(kind, (2, 3), **arrays))
    assert list(found) == [f"w.{kind}.{part}" for part in ("indptr", "indices", "data", "shape")]
    assert found[f"w.{kind}.shape"].tolist() == [2, 3]
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[f"w.{kind}.{name}"].numpy(), array)


@pytest.mark.parametrize(
    "value",
    [np.array([[1], "a"], object), np.array(["a", "b"]), [1, 2], {"a": 1}, np.float32(1), None, "text"],
)
def test_anything_else_is_left(value: Any) -> None:
    assert read(value) == {}


def test_sizes_are_compared_with_the_bytes() -> None:
    good = pickle.dumps(np.zeros(1000, np.float32), 4)
    assert good.count(b"M\xe8\x03") == 1
    huge = good.replace(b"M\xe8\x03", b"\x8a\x05" + (1 << 32).to_bytes(5, "little"))
    with pytest.raises(MalformedPickleError, match=r"w is an array of 4000 bytes, shape \(4294967296,\)"):
        pickled_tensors("w", unpickle(huge))
    arrays = {name: np.zeros(2, np.int32) for name in ("indptr", "indices", "data")}
    with pytest.raises(MalformedPickleError, match="expected two sizes"):
        read(sparse_matrix("csr", (2, -3), **arrays))


def test_nothing_runs_and_nothing_is_imported(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    path = tmp_path / "model.pth"
    other = {
        "bad": Runs(command_leaving(trace)),
        "item_similarity": np.eye(3, dtype=np.float32),
        "w": sparse_matrix("csc", (1, 1), indptr=np.zeros(1), indices=np.zeros(1), data=np.zeros(1)),
    }
    path.write_bytes(
        saved({"state_dict": {"dummy_param": torch.zeros(1)}, "other_parameter": other}, protocol=4)
    )
    for name in [name for name in sys.modules if name.startswith("scipy.sparse._csc")]:
        del sys.modules[name]
    tensors = read_checkpoint(path).tensors
    assert list(tensors)[:2] == ["dummy_param", "other_parameter.item_similarity"]
    assert torch.equal(tensors["other_parameter.item_similarity"], torch.eye(3))
    assert "scipy.sparse._csc" not in sys.modules
    assert not trace.exists()


def test_a_name_that_cannot_be_printed(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(saved({"state_dict": {"a": torch.zeros(1)}, "other_parameter": {"\n": torch.zeros(1)}}))
    with pytest.raises(InputError, match="a tensor is named"):
        read_checkpoint(path)
