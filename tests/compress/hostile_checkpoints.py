"""Checkpoints made for the tests: tiny good ones in each layout, and what may be wrong with a file.

Every maker returns bytes; the tests write them where they want them.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pocketrec.compress.layouts import recbole_sasrec, s3rec
from pocketrec.compress.models.sasrec import SASRec, SASRecConfig

N_ITEMS, WIDTH, N_LAYERS, MAX_LENGTH = 30, 8, 2, 6
TABLE = {"s3-rec": "item_embeddings.weight", "recbole-sasrec": "item_embedding.weight"}
NAMINGS = {"s3-rec": (s3rec.NAMING, 2), "recbole-sasrec": (recbole_sasrec.NAMING, 1)}


def state_dict(layout: str, *, seed: int = 3) -> dict[str, Tensor]:
    """A good one, of 30 items and width 8, with the layout's rows that are no items."""
    naming, extra_rows = NAMINGS[layout]
    config = SASRecConfig(n_items=N_ITEMS + extra_rows, width=WIDTH, n_layers=N_LAYERS, max_length=MAX_LENGTH)
    parameters = dict(SASRec(config, seed=seed).named_parameters())
    return {theirs: parameters[ours].detach().clone() for ours, theirs in naming.keys(N_LAYERS).items()}


def saved(value: Any, *, zipped: bool = True, protocol: int = 2) -> bytes:
    """What `torch.save` writes."""
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    return file.getvalue()


def rewritten(
    checkpoint: bytes, records: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED
) -> bytes:
    """The same zip with other contents in some records (named without their root), its checksums right."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(checkpoint)) as source, zipfile.ZipFile(file, "w", compression) as target:
        for info in source.infolist():
            content = records.get(info.filename.split("/", 1)[1], source.read(info))
            target.writestr(info.filename, content)
    return file.getvalue()


def record(checkpoint: bytes, name: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(checkpoint)) as source:
        return source.read(next(n for n in source.namelist() if n.split("/", 1)[1] == name))


class Runs:
    """Pickles as a call of `os.system`."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def command_leaving(trace: Path) -> str:
    """A command that shows whether it ran."""
    return f"echo ran > {trace}"


def calling_pickles(command: str) -> dict[str, bytes]:
    """Each way that a pickle has to call something, without a state dict around it."""
    text = command.encode()
    short = b"\x8c" + bytes([len(text)]) + text
    global_ = b"cos\nsystem\n"
    return {
        "REDUCE": b"\x80\x02" + global_ + short + b"\x85R.",
        "INST": b"(S'" + text + b"'\nios\nsystem\n.",
        "OBJ": b"\x80\x02(" + global_ + short + b"o.",
        "NEWOBJ": b"\x80\x02" + global_ + short + b"\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04" + global_ + short + b"\x85}\x92.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + short + b"\x85R.",
        # object.__setstate__ = os.system, then BUILD with the command as the state
        "BUILD": b"\x80\x02cbuiltins\nobject\n)\x81}X\x0c\x00\x00\x00__setstate__"
        + global_
        + b"sb"
        + short
        + b"b.",
        # getattr(__import__("os"), "system")(command)
        "getattr": b"\x80\x02cbuiltins\ngetattr\ncbuiltins\n__import__\nX\x02\x00\x00\x00os\x85RX\x06\x00\x00\x00system\x86R"
        + short
        + b"\x85R.",
        "eval": b"\x80\x02cbuiltins\neval\n" + _short(f"__import__('os').system({command!r})") + b"\x85R.",
        "ADDITEMS": b"\x80\x04\x8f(" + global_ + short + b"\x85R\x90.",
    }


def _short(text: str) -> bytes:
    raw = text.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def tensor_claiming(n_elements: int) -> bytes:
    """A zip whose pickle claims a storage of so many floats, where the record has 1000."""
    good = saved({"item_embeddings.weight": torch.zeros(1000)})
    data = record(good, "data.pkl")
    claim = b"\x8a\x08" + struct.pack("<q", n_elements)
    assert data.count(b"M\xe8\x03") == 2  # elements of the storage, size of the tensor
    return rewritten(good, {"data.pkl": data.replace(b"M\xe8\x03", claim)})


def legacy_claiming(n_elements: int) -> bytes:
    """A legacy file that claims so many floats in its pickle and in its storage's header, and has 1000."""
    good = saved({"item_embeddings.weight": torch.zeros(1000)}, zipped=False)
    claim = b"\x8a\x08" + struct.pack("<q", n_elements)
    header = good[-4008:-4000]
    assert struct.unpack("<q", header) == (1000,)
    return good[:-4008].replace(b"M\xe8\x03", claim) + struct.pack("<q", n_elements) + good[-4000:]


def directory_claiming(n_bytes: int, name: str = "data/0") -> bytes:
    """A zip whose central directory claims a record of so many bytes (less than 4 GiB)."""
    return claiming_record(saved(state_dict("s3-rec")), n_bytes, name)


def claiming_record(checkpoint: bytes, n_bytes: int, name: str = "data/0") -> bytes:
    """The same zip, but its central directory claims so many bytes for a record."""
    claiming = bytearray(checkpoint)
    at = claiming.index(b"PK\x01\x02")
    while not claiming[at + 46 : at + 46 + struct.unpack_from("<H", claiming, at + 28)[0]].endswith(
        name.encode()
    ):
        at = claiming.index(b"PK\x01\x02", at + 1)
    struct.pack_into("<II", claiming, at + 20, n_bytes, n_bytes)
    return bytes(claiming)


def nested_records(n_bytes: int) -> bytes:
    """A zip in which one storage's record lies inside another's: many of them would multiply the file's size."""
    payload = bytes(n_bytes)
    inner = zipfile.ZipInfo("archive/data/1")
    inner.file_size = inner.compress_size = n_bytes
    inner.CRC = zlib.crc32(payload)
    outer = inner.FileHeader(zip64=False) + payload
    pickled = record(saved({"a": torch.zeros(len(outer) // 4), "b": torch.zeros(n_bytes // 4)}), "data.pkl")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", outer)
        around = archive.getinfo("archive/data/0")
        inner.header_offset = around.header_offset + len(around.FileHeader(zip64=False))
        archive.filelist.append(inner)
    return file.getvalue()


def on_cuda(checkpoint: bytes) -> bytes:
    """The same checkpoint as a GPU would have saved it: every storage tagged `cuda:0`."""
    data = record(checkpoint, "data.pkl")
    cpu, cuda = b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"
    assert cpu in data
    return rewritten(checkpoint, {"data.pkl": data.replace(cpu, cuda)})


def nested_tuples(depth: int, tail: bytes) -> bytes:
    """((((...)))), then `tail`: what hashing, comparing or printing would recurse into."""
    return b"\x80\x02)" + b"\x85" * depth + tail


def unfolding_lists(levels: int) -> bytes:
    """Lists of ten references to the list below: 10 ** levels leaves when walked, a few bytes here."""
    pickled: Any = [0] * 10
    for _ in range(levels):
        pickled = [pickled] * 10
    return pickle.dumps(pickled, 2)
