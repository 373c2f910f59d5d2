"""The bundle: its bytes, and that nothing damaged, foreign or hostile is believed."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketrec.runtime import Bundle, BundleError, Engine, InputError
from pocketrec.runtime.bundle import (
    ALIGNMENT,
    FORMAT_VERSION,
    MAGIC,
    MAX_MANIFEST_BYTES,
    deflated_record,
    write_bundle,
)

PARTS = {"a": np.arange(5, dtype=np.float32), "b": b"\1\2\3", "empty": b"", "c": np.ones((2, 3), np.uint8)}


def header(manifest: bytes, version: int = FORMAT_VERSION, length: int | None = None) -> bytes:
    length = len(manifest) if length is None else length
    return struct.pack("<8sII32s", MAGIC, version, length, hashlib.sha256(manifest).digest()) + manifest


def with_parts(parts: Any, data: bytes = b"") -> bytes:
    """A bundle whose manifest has a good checksum and these parts."""
    head = header(json.dumps({"parts": parts}).encode())
    return head + b"\0" * (-len(head) % ALIGNMENT) + data


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "x.pocket", {"name": "x", "family": "sequence"}, PARTS)
    return tmp_path / "x.pocket"


def test_what_is_written_is_read(path: Path) -> None:
    bundle = Bundle.open(path)
    assert (bundle.manifest["name"], bundle.manifest["format_version"]) == ("x", FORMAT_VERSION)
    np.testing.assert_array_equal(bundle.array("a", np.float32, (5,)), PARTS["a"])
    assert bundle.part("b").tobytes() == PARTS["b"]
    assert bundle.part("empty").size == 0
    assert "a" in bundle
    assert "d" not in bundle
    assert bundle.size_bytes == path.stat().st_size


def test_the_bytes_of_the_format(tmp_path: Path) -> None:
    """Pinned: a change of these is a new format version."""
    write_bundle(tmp_path / "x", {"name": "x"}, {"a": b"\1\2"})
    raw = (tmp_path / "x").read_bytes()
    digest = hashlib.sha256(b"\1\2").hexdigest()
    text = (
        '{"format_version":1,"name":"x","parts":[{"name":"a","offset":0,"size":2,"sha256":"' + digest + '"}]}'
    ).encode()
    assert raw == header(text) + b"\0" * (-(48 + len(text)) % 64) + b"\1\2"


def test_parts_are_aligned_and_read_only(path: Path) -> None:
    bundle = Bundle.open(path)
    for name in ("a", "b", "c"):
        part = bundle.part(name)
        assert part.ctypes.data % ALIGNMENT == 0
        with pytest.raises(ValueError, match="read-only"):
            part[0] = 1


def test_a_part_that_is_not_there(path: Path) -> None:
    with pytest.raises(BundleError, match=r"x\.pocket: no part 'd', only a, b, empty, c; .* export it again"):
        Bundle.open(path).part("d")


def test_a_part_of_another_size(path: Path) -> None:
    with pytest.raises(BundleError, match=r"part 'a' has 20 bytes, shape \(6,\) of float32 needs 24"):
        Bundle.open(path).array("a", np.float32, (6,))


def test_every_truncation_is_noticed(path: Path, tmp_path: Path) -> None:
    raw, short = path.read_bytes(), tmp_path / "short"
    for length in range(len(raw)):
        short.write_bytes(raw[:length])
        with pytest.raises(BundleError):
            Bundle.open(short)
    short.write_bytes(raw + b"\0")
    with pytest.raises(BundleError, match="longer than it should be"):
        Bundle.open(short)


def test_every_flipped_bit_is_noticed(path: Path, tmp_path: Path) -> None:
    """Wherever it matters: padding between parts holds nothing."""
    raw, damaged = path.read_bytes(), tmp_path / "damaged"
    bundle = Bundle.open(path)
    start = len(raw) - max(p["offset"] + p["size"] for p in bundle.manifest["parts"])
    used = set(range(48 + struct.unpack_from("<I", raw, 12)[0]))
    for part in bundle.manifest["parts"]:
        used |= set(range(start + part["offset"], start + part["offset"] + part["size"]))
    for position in sorted(used):
        copy = bytearray(raw)
        copy[position] ^= 1 << position % 8
        damaged.write_bytes(copy)
        with pytest.raises(BundleError):
            Bundle.open(damaged)


def test_without_verification_the_manifest_is_still_checked(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    Bundle.open(path, verify=False)
    with pytest.raises(BundleError, match="part 'c' does not have the sha256 in the manifest"):
        Bundle.open(path)


def test_a_newer_version_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "new.pocket").write_bytes(header(b"{}", version=2) + bytes(64))
    with pytest.raises(BundleError, match=r"new\.pocket: bundle format 2, this pocketrec reads 1; upgrade"):
        Bundle.open(tmp_path / "new.pocket")


@pytest.mark.parametrize("raw", [b"", b"PK\3\4", b"hello, I am text\n" * 10, MAGIC])
def test_other_files_are_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "x").write_bytes(raw)
    with pytest.raises(BundleError, match="not a pocketrec bundle"):
        Bundle.open(tmp_path / "x")


def test_a_header_that_claims_much_makes_nobody_read_it(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        file.write(header(b"", length=MAX_MANIFEST_BYTES + 1))
        file.truncate(1 << 40)
    with pytest.raises(BundleError, match="the header claims a manifest of"):
        Bundle.open(tmp_path / "x")


@pytest.mark.parametrize(
    "raw",
    [
        header(b"not json"),
        header(b"[]"),
        header(b"{}"),
        header(b"\xff"),
        header(b"[" * 100_000),
        with_parts(3),
        with_parts([{"name": "a"}]),
        with_parts([{"name": "a", "offset": -64, "size": 1, "sha256": ""}], b"x"),
        with_parts([{"name": "a", "offset": 1, "size": 1, "sha256": ""}], b"xx"),
        with_parts([{"name": "a", "offset": 0, "size": -1, "sha256": ""}], b"x"),
        with_parts([{"name": "a", "offset": 0.0, "size": 1, "sha256": ""}], b"x"),
        with_parts([{"name": "a", "offset": True, "size": 1, "sha256": ""}], b"x"),
        with_parts([{"name": "a", "offset": 0, "size": 2**62, "sha256": ""}], b"x"),
        with_parts([{"name": n, "offset": 0, "size": 1, "sha256": ""} for n in "ab"], b"x"),
    ],
)
def test_manifests_that_we_never_write(tmp_path: Path, raw: bytes) -> None:
    """With a good checksum: by somebody who made it so."""
    (tmp_path / "x").write_bytes(raw)
    with pytest.raises(BundleError):
        Bundle.open(tmp_path / "x")


def test_the_fingerprint_names_the_content(path: Path, tmp_path: Path) -> None:
    write_bundle(tmp_path / "same", {"name": "x", "family": "sequence"}, PARTS)
    write_bundle(tmp_path / "other", {"name": "x", "family": "sequence"}, {**PARTS, "b": b"\1\2\4"})
    prints = [Bundle.open(p).fingerprint for p in (path, tmp_path / "same", tmp_path / "other")]
    assert prints[0] == prints[1] != prints[2]


def test_an_existing_file_is_left_alone_unless_told(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        write_bundle(path, {"name": "y"}, PARTS)
    assert path.read_bytes() == before
    write_bundle(path, {"name": "y"}, PARTS, overwrite=True)
    assert Bundle.open(path).manifest["name"] == "y"


def test_numbers_that_json_has_not(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_bundle(tmp_path / "x", {"metric": float("nan")}, {})
    assert os.listdir(tmp_path) == []


def test_a_manifest_that_could_not_be_read_again(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="put large content into a part"):
        write_bundle(tmp_path / "x", {"note": "x" * MAX_MANIFEST_BYTES}, {})


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Bundle.open(tmp_path / "absent")
    with pytest.raises(IsADirectoryError):
        Bundle.open(tmp_path)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"family": "graph"},
            "model family 'graph', this pocketrec runs 'sequence' and 'item-item'; upgrade",
        ),
        ({"items": {"count": 49, "ids": {"kind": "range", "count": 49, "first": 1}}}, "needs"),
        (
            {"items": {"count": 50, "ids": {"kind": "range", "count": 7, "first": 1}}},
            "7 item ids for 50 rows",
        ),
        (
            {"item_table": {"format": "rows", "bits": 5, "width": 16, "scale_unit": 1.0, "block": 16}},
            "bits|needs",
        ),
        ({"item_table": {"format": "quantum", "bits": 4, "width": 16}}, "item table format 'quantum'"),
        ({"item_table": {"format": "rows", "bits": 4, "width": -16}}, "width -16"),
        ({"item_table": {}}, "width None"),
    ],
)
def test_an_engine_refuses_a_manifest_that_does_not_fit_its_parts(
    range_bundle: Path, tmp_path: Path, changes: dict[str, Any], text: str
) -> None:
    bundle = Bundle.open(range_bundle)
    manifest = {k: v for k, v in bundle.manifest.items() if k not in ("parts", "format_version")}
    parts = {part["name"]: bundle.part(part["name"]) for part in bundle.manifest["parts"]}
    write_bundle(tmp_path / "x.pocket", {**manifest, **changes}, parts)
    with pytest.raises(InputError, match=text):
        Engine.load(tmp_path / "x.pocket")


def test_an_engine_refuses_a_graph_that_is_none(range_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(range_bundle)
    manifest = {k: v for k, v in bundle.manifest.items() if k not in ("parts", "format_version")}
    parts: dict[str, Any] = {part["name"]: bundle.part(part["name"]) for part in bundle.manifest["parts"]}
    parts["encoder.onnx"] = b"no graph"
    write_bundle(tmp_path / "x.pocket", manifest, parts)
    with pytest.raises(BundleError, match=r"onnxruntime .* refuses part 'encoder.onnx'"):
        Engine.load(tmp_path / "x.pocket")


def test_how_it_came_about_is_deflated_and_read_back(tmp_path: Path) -> None:
    steps = [{"name": "prune", "note": "again and again " * 50}] * 9
    said = {"recipe": None, "steps": steps, "metrics": {"ndcg@10": 0.5}, "provenance": {"seed": 0}}
    size_bytes = write_bundle(tmp_path / "x", {"name": "x", **said}, PARTS)
    assert size_bytes < len(json.dumps(steps))
    bundle = Bundle.open(tmp_path / "x")
    assert {key: bundle.manifest[key] for key in said} == said
    # and a copy with other figures has them once
    parts = {part["name"]: bundle.part(part["name"]) for part in bundle.manifest["parts"]}
    manifest = {k: v for k, v in bundle.manifest.items() if k not in ("parts", "format_version")}
    write_bundle(tmp_path / "y", {**manifest, "metrics": {}}, parts)
    copied = Bundle.open(tmp_path / "y").manifest
    assert {**said, "metrics": {}} == {key: copied[key] for key in said}
    assert [part["name"] for part in copied["parts"]] == [*PARTS, "record"]


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"not deflated",
        deflated_record({"steps": []})[:-3],
        zlib.compress(b"[1]"),
        zlib.compress(b"{"),
        zlib.compress(b"[" * 100_000),
        deflated_record({"family": "sequence"}),
        deflated_record({"parts": []}),
        zlib.compress(b" " * (MAX_MANIFEST_BYTES + 1)),
    ],
    ids=["empty", "foreign", "cut", "a list", "half", "deep", "family", "parts", "a bomb"],
)
def test_a_record_that_is_none_is_refused(tmp_path: Path, record: bytes) -> None:
    write_bundle(tmp_path / "x", {"name": "x"}, {**PARTS, "record": record})
    with pytest.raises(BundleError, match="'record' is not a record"):
        Bundle.open(tmp_path / "x")
