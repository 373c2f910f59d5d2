"""Reading files: what torch reads is read the same, and nothing that a file wants to run is run."""

from __future__ import annotations

import argparse
import collections
import io
import os
import pickle
import random
import resource
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pocketrec.compress import inert_unpickler
from pocketrec.compress.checkpoint import Checkpoint, read_checkpoint
from pocketrec.compress.inert_unpickler import Inert, MalformedPickleError, Name, unpickle
from pocketrec.runtime.errors import InputError

from .hostile_checkpoints import (
    Runs,
    calling_pickles,
    command_leaving,
    directory_claiming,
    legacy_claiming,
    nested_records,
    nested_tuples,
    on_cuda,
    record,
    rewritten,
    saved,
    state_dict,
    tensor_claiming,
    unfolding_lists,
)


def read_bytes(tmp_path: Path, raw: bytes, name: str = "model.pt") -> Checkpoint:
    path = tmp_path / name
    path.write_bytes(raw)
    return read_checkpoint(path)


def refused(tmp_path: Path, raw: bytes) -> str:
    """The message, which is one line and begins with the path."""
    with pytest.raises(InputError) as caught:
        read_bytes(tmp_path, raw)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    assert message.startswith(str(tmp_path / "model.pt"))
    return message


# What is read


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_the_same_tensors_as_torch_load(tmp_path: Path, zipped: bool, protocol: int) -> None:
    whole = torch.arange(24.0)
    expected = {
        "float": torch.randn(3, 4),
        "double": torch.randn(2, dtype=torch.float64),
        "half": torch.randn(5).half(),
        "bfloat": torch.randn(5).bfloat16(),
        "long": torch.arange(4),
        "bool": torch.tensor([True, False]),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "transposed": whole.view(4, 6).T,
        "tail": whole[7:],
        "tied": whole,
        "parameter": torch.nn.Parameter(torch.randn(2, 2)),
    }
    raw = saved(expected, zipped=zipped, protocol=protocol)
    got = read_bytes(tmp_path, raw).tensors
    reference = torch.load(io.BytesIO(raw), weights_only=False)
    assert list(got) == list(reference)
    for name, tensor in reference.items():
        assert got[name].dtype == tensor.dtype, name
        assert got[name].shape == tensor.shape, name
        assert torch.equal(got[name], tensor), name
    assert got["tail"].untyped_storage().data_ptr() == got["tied"].untyped_storage().data_ptr()


def test_file_facts(tmp_path: Path) -> None:
    weights = state_dict("s3-rec")
    raw = saved(weights)
    checkpoint = read_bytes(tmp_path, raw)
    assert checkpoint.size_bytes == len(raw)
    assert len(checkpoint.sha256) == 64
    assert checkpoint.weights_bytes == sum(t.nbytes for t in weights.values())
    assert checkpoint.settings == {}
    assert checkpoint.extra == ()


def test_tied_tensors_and_half_precision_count_as_stored(tmp_path: Path) -> None:
    table = torch.randn(10, 4).half()
    assert read_bytes(tmp_path, saved({"a": table, "tied": table})).weights_bytes == 80


def test_a_trainers_dict_with_settings(tmp_path: Path) -> None:
    raw = saved(
        {
            "epoch": 3,
            "args": argparse.Namespace(n_heads=4, name="x", when=collections.Counter(), odd=(1, [2.5, None])),
            "optimizer": {"state": {0: torch.zeros(9)}},
            "state_dict": collections.OrderedDict(state_dict("s3-rec")),
        }
    )
    checkpoint = read_bytes(tmp_path, raw)
    assert checkpoint.extra == ("epoch", "args", "optimizer")
    assert checkpoint.settings == {
        "n_heads": 4,
        "name": "x",
        "when": "collections.Counter",
        "odd": [1, [2.5, None]],
    }
    assert "item_embeddings.weight" in checkpoint.tensors


def test_a_whole_pickled_module_and_data_parallel(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    whole = read_bytes(tmp_path, saved(module))
    assert list(whole.tensors) == list(module.state_dict())
    assert all(torch.equal(whole.tensors[name], tensor) for name, tensor in module.state_dict().items())
    parallel = torch.nn.DataParallel(module).state_dict()
    assert list(read_bytes(tmp_path, saved(parallel)).tensors) == list(module.state_dict())


def test_cuda_tags_are_ignored(tmp_path: Path) -> None:
    weights = state_dict("s3-rec")
    got = read_bytes(tmp_path, on_cuda(saved(weights))).tensors
    assert all(t.device.type == "cpu" and torch.equal(t, weights[name]) for name, t in got.items())


def test_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save

    weights = state_dict("s3-rec")
    raw = save(weights, {"made": "here"})
    checkpoint = read_bytes(tmp_path, raw, "model.safetensors")
    assert checkpoint.metadata == {"made": "here"}
    assert checkpoint.tensors.keys() == weights.keys()
    for cut in (9, 100, len(raw) // 2, len(raw) - 1):
        assert "truncated" in refused(tmp_path, raw[:cut])
    assert "header of 4294967296 bytes" in refused(tmp_path, (1 << 32).to_bytes(8, "little") + raw[8:])


# What is refused


def test_no_file_empty_file_directory_and_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing.pt: no such file"):
        read_checkpoint(tmp_path / "nothing.pt")
    with pytest.raises(InputError, match="a directory; expected a checkpoint file"):
        read_checkpoint(tmp_path)
    assert "an empty file" in refused(tmp_path, b"")
    assert "a text file that begins with 'user\\titem\\ttime\\n1" in refused(
        tmp_path, b"user\titem\ttime\n1\t2\t3\n" * 9
    )
    assert "an unknown format that begins with bytes 89 50 4e 47" in refused(
        tmp_path, b"\x89PNG\r\n\x1a\n" + bytes(99)
    )
    assert "a bare pickle" in refused(tmp_path, pickle.dumps({"a": "b" * 99}))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(saved(state_dict("s3-rec")))
    path.chmod(0)
    with pytest.raises(InputError, match="cannot be read"):
        read_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_truncated_anywhere(tmp_path: Path, zipped: bool) -> None:
    raw = saved(state_dict("s3-rec"), zipped=zipped)
    cuts = {1, 3, 4, 15, 16, 17, 40, 200, 1000, len(raw) // 2, len(raw) - 100, len(raw) - 23, len(raw) - 1}
    for cut in sorted(cuts):
        message = refused(tmp_path, raw[:cut])
        assert any(word in message for word in ("truncated", "damaged", "too few")), (cut, message)


@pytest.mark.filterwarnings("ignore:invalid escape sequence")  # pickletools, of damaged strings
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_damaged_anywhere(tmp_path: Path, zipped: bool) -> None:
    """Random bytes changed: either it still reads, or it is one line; never another exception."""
    good = saved(state_dict("s3-rec"), zipped=zipped)
    choose = random.Random(5)
    messages: list[str] = []
    for _ in range(300):
        raw = bytearray(good)
        for _ in range(choose.randint(1, 4)):
            raw[choose.randrange(min(2500, len(raw)))] = choose.choice((0, 255, *b"(.0tRcib)]}pqhXJ\x93\x81"))
        try:
            read_bytes(tmp_path, bytes(raw))
        except InputError as error:
            messages.append(str(error))
    assert len(messages) > 100
    assert [message for message in messages if "\n" in message] == []


def test_flipped_weights_fail_the_zips_checksum(tmp_path: Path) -> None:
    raw = bytearray(saved({"w": torch.full((100,), 0.123)}))
    at = raw.index(torch.tensor([0.123]).numpy().tobytes())
    raw[at] ^= 1
    assert "Bad CRC-32" in refused(tmp_path, bytes(raw))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "holds a list; expected a state dict"),
        ({"a": 1, "b": {"c": 2}}, "no tensors, neither here (a, b) nor under state_dict"),
        ({}, "no tensors, neither here (nothing)"),
        ({"a\nb": torch.zeros(1)}, r"a tensor is named 'a\nb'"),
        ({"a" * 999: torch.zeros(1)}, "expected at most 300 printable characters"),
        (
            {"a": torch.zeros(1, dtype=torch.complex64)},
            "is a 'ComplexFloatStorage'; expected one of DoubleStorage",
        ),
    ],
)
def test_without_usable_weights(tmp_path: Path, value: Any, message: str) -> None:
    assert message in refused(tmp_path, saved(value))


def test_a_zip_that_is_no_checkpoint(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("notes.txt", "hello")
    assert "a zip file with 0 data.pkl" in refused(tmp_path, file.getvalue())


def test_claims_of_gigabytes_are_refused_without_allocating_them(tmp_path: Path) -> None:
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    assert f"claims {4 << 30} bytes, the file holds 4000" in refused(tmp_path, tensor_claiming(1 << 30))
    assert "no natural number" in refused(tmp_path, tensor_claiming(1 << 62))
    assert "the file is truncated" in refused(tmp_path, legacy_claiming(1 << 30))
    assert "claims 4294967280 bytes, expected at most" in refused(tmp_path, directory_claiming(0xFFFFFFF0))
    assert "claims 4294967280 bytes" in refused(tmp_path, directory_claiming(0xFFFFFFF0, "data.pkl"))
    assert time.perf_counter() - started < 5
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    assert grown_kib < 300_000 or sys.platform == "darwin"  # which counts bytes


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    good = saved({"w": torch.zeros(100)})
    bomb = rewritten(good, {"data/0": bytes(50_000_000)}, compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    assert "is compressed or encrypted" in refused(tmp_path, bomb)


def test_records_inside_others_are_refused(tmp_path: Path) -> None:
    """By us, or by a zipfile that looks for it (Python 3.11.8 and later)."""
    message = refused(tmp_path, nested_records(40_000))
    assert "b overlaps other tensors' bytes" in message or "Overlapped entries" in message


def test_tensors_beyond_their_storage(tmp_path: Path) -> None:
    good = saved({"w": torch.zeros(4, 8)})
    data = record(good, "data.pkl")
    assert data.count(b"K\x04K\x08\x86") == 1  # its shape
    assert data.count(b"K\x08K\x01\x86") == 1  # its stride
    larger = rewritten(good, {"data.pkl": data.replace(b"K\x04K\x08\x86", b"K\x05K\x08\x86")})
    assert "w claims 40 elements, the file holds 32" in refused(tmp_path, larger)
    expanded = data.replace(b"K\x04K\x08\x86", b"M\xff\xffK\x08\x86").replace(
        b"K\x08K\x01\x86", b"K\x00K\x01\x86"
    )
    assert "w claims 524280 elements" in refused(tmp_path, rewritten(good, {"data.pkl": expanded}))
    missing = data.replace(b"X\x01\x00\x00\x000", b"X\x01\x00\x00\x007")
    assert "w has no record 'data/7'" in refused(tmp_path, rewritten(good, {"data.pkl": missing}))
    big_endian = rewritten(good, {"byteorder": b"big"})
    assert "big-endian" in refused(tmp_path, big_endian)


# What wants to run


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_os_system_beside_good_weights_does_not_run(tmp_path: Path, zipped: bool, protocol: int) -> None:
    trace = tmp_path / "trace"
    raw = saved(
        {"state_dict": state_dict("s3-rec"), "x": Runs(command_leaving(trace))},
        zipped=zipped,
        protocol=protocol,
    )
    checkpoint = read_bytes(tmp_path, raw)
    assert not trace.exists()
    assert checkpoint.extra == ("x",)
    torch.load(io.BytesIO(raw), weights_only=False)
    assert trace.exists()  # the trap was armed


@pytest.mark.parametrize("way", calling_pickles(""))
def test_no_opcode_calls_anything(tmp_path: Path, way: str) -> None:
    trace = tmp_path / "trace"
    pickled = calling_pickles(command_leaving(trace))[way]
    good = saved({"w": torch.zeros(4)})
    refused(tmp_path, rewritten(good, {"data.pkl": pickled}))
    assert not trace.exists()


def test_nothing_named_is_imported(tmp_path: Path) -> None:
    (tmp_path / "imported_by_a_pickle.py").write_text("raise SystemExit('imported')")
    pickled = b"\x80\x02cimported_by_a_pickle\nThing\n)\x81."
    sys.path.insert(0, str(tmp_path))
    try:
        thing = unpickle(pickled)
    finally:
        sys.path.remove(str(tmp_path))
    assert isinstance(thing, Inert)
    assert str(thing.name) == "imported_by_a_pickle.Thing"
    assert "imported_by_a_pickle" not in sys.modules


# The machine itself


class Slotted:
    def __init__(self) -> None:
        self.value = [1, {"a": (2, 3)}]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        [False, -1, 255, 70_000, -(2**31), 2**40, 2**2000, 1.5, -0.0, float("inf")],
        ["", "text", "über ☃ \\ \n ' \x00", "x" * 300],
        [b"", b"\x00\xff" * 200, bytearray(b"abc")],
        [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], {}, {"a": {1: [2]}, (1, "b"): None}],
        {1, "a", (2, 3)},
        frozenset({1, 2}),
        collections.OrderedDict(a=1, b=2),
    ],
)
def test_plain_values_are_as_pickle_reads_them(value: Any, protocol: int) -> None:
    assert unpickle(pickle.dumps(value, protocol)) == value


def test_shared_and_circular_references_stay() -> None:
    shared: list[Any] = [1]
    shared.append(shared)
    got = unpickle(pickle.dumps([shared, shared], 4))
    assert got[0] is got[1]
    assert got[0][1] is got[0]


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_objects_are_records_of_how_they_would_be_made(protocol: int) -> None:
    got = unpickle(pickle.dumps(Slotted(), protocol))
    assert isinstance(got, Inert)
    assert got.state == {"value": [1, {"a": (2, 3)}]}
    assert isinstance(unpickle(pickle.dumps(os.system)), Name)


@pytest.mark.parametrize("number", [np.float64(0.25), np.float32(0.5), np.int64(-7), np.bool_(True)])
@pytest.mark.parametrize("protocol", [2, 4])
def test_numpy_numbers_are_numbers(number: np.generic, protocol: int) -> None:
    got = unpickle(pickle.dumps(number, protocol))
    assert got == number.item()
    assert type(got) is type(number.item())


def test_numpy_arrays_stay_records() -> None:
    got = unpickle(pickle.dumps(np.arange(3), 4))
    assert isinstance(got, Inert)
    assert got.name.name == "_reconstruct"


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (b"\x80\x02", "damaged|ends before"),
        (b"\x80\x02.", "takes more values"),
        (b"\x80\x02N\x85\x85\x86.", "takes more values"),
        (b"\x80\x02h\x05.", "damaged"),
        (b"\x80\x02\x82\x01.", "uses EXT1"),
        (b"\x80\x05\x97.", "uses NEXT_BUFFER"),
        (b"\x80\x02K\x01K\x02\x85R.", "calls a int"),
        (b"\x80\x02K\x01}b.", "sets the state of a int"),
        (b"\x80\x02K\x01K\x02a.", "appends to a int"),
        (b"\x80\x02K\x01K\x02K\x03s.", "sets items of a int"),
        (b"\x80\x02}]K\x01s.", "uses a list as a key"),
        (b"\x80\x02X\x03\x00\x00\x00abcQ.", "no torch storage"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nNK\x00)))t.", "damaged"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NK\x00))\x89NtR.", "without storage"),
        (b"I" + b"9" * 9999 + b"\n.", "damaged"),
        (pickle.dumps(2**5000, 2), "an integer of 5001 bits"),
        (b"\xff\xff\xff", "damaged"),
    ],
)
def test_malformed_pickles(pickled: bytes, message: str) -> None:
    with pytest.raises(MalformedPickleError, match=message):
        unpickle(pickled)


def test_deep_nesting_does_not_recurse() -> None:
    assert isinstance(unpickle(nested_tuples(500_000, b".")), tuple)
    with pytest.raises(MalformedPickleError, match="uses a tuple as a key"):
        unpickle(nested_tuples(500_000, b"q\x00}h\x00Ns."))


def test_settings_that_unfold_without_end_are_cut(tmp_path: Path) -> None:
    good = saved({"state_dict": {"w": torch.zeros(4)}, "config": {"bomb": "HERE"}})
    data = record(good, "data.pkl")
    bomb = unfolding_lists(30)[
        2:-1
    ]  # without PROTO and STOP; its memo starts at 0, as the outer one did, and overwrites
    here = b"X\x04\x00\x00\x00HERE"
    started = time.perf_counter()
    checkpoint = read_bytes(tmp_path, rewritten(good, {"data.pkl": data.replace(here, bomb)}))
    assert time.perf_counter() - started < 2
    assert isinstance(checkpoint.settings["bomb"], list)


def test_the_work_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inert_unpickler, "MAX_OPCODES", 100)
    with pytest.raises(MalformedPickleError, match="more than 100 instructions"):
        unpickle(b"\x80\x02" + b"N" * 200 + b".")
    monkeypatch.setattr(inert_unpickler, "MAX_BYTES", 1000)
    with pytest.raises(MalformedPickleError, match="longer than"):
        unpickle(pickle.dumps("x" * 2000))
