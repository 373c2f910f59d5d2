"""Nine hostile or broken variants of a file of every layout: each ends in one clear line, or loads where nothing is lost.

A layout that is known has its tiny file in `layout_checkpoints` or `pointwise_checkpoints` (whose own contract test has
these variants beside the data that such models need): one without fails here.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from pocketrec.compress.layouts import LAYOUTS, load_teacher
from pocketrec.runtime.errors import InputError
from pocketrec.runtime.item_ids import ItemIds

from .hostile_checkpoints import (
    Runs,
    calling_pickles,
    claiming_record,
    command_leaving,
    on_cuda,
    rewritten,
    saved,
)
from .layout_checkpoints import N_ITEMS, RECORDED, Recorded
from .pointwise_checkpoints import POINTWISE

ITEM_ITEM = ("pocketrec-item-item", "recbole-ease", "recbole-itemknn")
"""Item-item weights have no item table to turn; their own tests have what may be wrong with them."""
SECONDS = 2.0
"""A file of a few kilobytes is read or refused in milliseconds; a claim that is believed would take minutes."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A file and what becomes of it: a part of the one line, or None where it loads."""

    file: bytes
    refused: str | None
    item_ids: ItemIds | None = None


def as_bytes(made: Any) -> bytes:
    return made if isinstance(made, bytes) else saved(made)


def missing(recorded: Recorded, trace: Path) -> Variant:
    state = recorded.state_dict()
    key = [key for key in state if key != recorded.items][-1]
    return Variant(as_bytes(recorded.file({k: t for k, t in state.items() if k != key})), "")


def extra(recorded: Recorded, trace: Path) -> Variant:
    state = recorded.state_dict() | {"teleporter.weight": torch.zeros(3, 3)}
    refused = "teleporter.weight" if recorded.extras_are_refused else None
    return Variant(as_bytes(recorded.file(state)), refused)


def transposed(recorded: Recorded, trace: Path) -> Variant:
    state = recorded.state_dict()
    turned = state[recorded.items].T.contiguous()
    refused = "(transposed?)" if recorded.metadata is None else "item ids do not number"
    return Variant(as_bytes(recorded.file(state | {recorded.items: turned})), refused)


def half(recorded: Recorded, trace: Path) -> Variant:
    return Variant(as_bytes(recorded.file({k: t.half() for k, t in recorded.state_dict().items()})), None)


def cuda(recorded: Recorded, trace: Path) -> Variant:
    made = recorded.file()  # safetensors have no devices
    return Variant(made if isinstance(made, bytes) else on_cuda(saved(made)), None)


def truncated(recorded: Recorded, trace: Path) -> Variant:
    good = as_bytes(recorded.file())
    return Variant(good[: len(good) * 2 // 3], "truncated")


def wrong_vocabulary(recorded: Recorded, trace: Path) -> Variant:
    ids = ItemIds.from_sequence(range(N_ITEMS - 1))
    return Variant(as_bytes(recorded.file()), f"{N_ITEMS} items, but {N_ITEMS - 1} item ids", ids)


def system_beside(recorded: Recorded, trace: Path) -> Variant:
    """A call of os.system beside good weights: it is left where it lies."""
    made = recorded.file()
    if isinstance(made, bytes):  # the same tensors as torch saves them, without the metadata
        return Variant(
            saved({**recorded.state_dict(), "x": Runs(command_leaving(trace))}), "without its metadata"
        )
    wrapped = made if "state_dict" in made else {"state_dict": made}
    return Variant(saved({**wrapped, "x": Runs(command_leaving(trace))}), None)


def system_instead(recorded: Recorded, trace: Path) -> Variant:
    """A pickle that is nothing but the call."""
    good = saved(recorded.state_dict())
    return Variant(rewritten(good, {"data.pkl": calling_pickles(command_leaving(trace))["REDUCE"]}), "")


def claim(recorded: Recorded, trace: Path) -> Variant:
    good = as_bytes(recorded.file())
    if good[8:9] == b"{":
        return Variant((1 << 32).to_bytes(8, "little") + good[8:], "header of 4294967296 bytes claimed")
    return Variant(claiming_record(good, 0xFFFFFFF0), "claims 4294967280 bytes")


def tensor_claim(recorded: Recorded, trace: Path) -> Variant:
    """A safetensors header in which one tensor claims 4 GB of the file."""
    good = save({k: t.contiguous() for k, t in recorded.state_dict().items()})
    return Variant(edited_header(good, {"data_offsets": [0, 1 << 32], "shape": [1 << 30]}), "safetensors")


def overlapping(recorded: Recorded, trace: Path) -> Variant:
    """A safetensors header in which all tensors are the same bytes."""
    good = save({k: t.contiguous() for k, t in recorded.state_dict().items()})
    return Variant(edited_header(good, {"data_offsets": [0, 4], "shape": [1]}), "safetensors")


def edited_header(good: bytes, first: dict[str, Any]) -> bytes:
    """The same file, with other facts about the tensor whose bytes come last."""
    (length,) = struct.unpack("<Q", good[:8])
    header = json.loads(good[8 : 8 + length])
    header[max(header, key=lambda name: header[name]["data_offsets"])] |= first
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + good[8 + length :]


VARIANTS: tuple[Callable[[Recorded, Path], Variant], ...] = (
    missing, extra, transposed, half, cuda, truncated, wrong_vocabulary, system_beside, system_instead, claim,
    tensor_claim, overlapping,
)  # fmt: skip


def test_every_layout_has_its_file() -> None:
    without = [layout.name for layout in LAYOUTS if layout.name not in {*RECORDED, *POINTWISE, *ITEM_ITEM}]
    assert without == [], "each needs an entry in RECORDED (or POINTWISE), which these tests are made from"


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.__name__)
@pytest.mark.parametrize("layout", RECORDED)
def test_one_line_and_nothing_runs(layout: str, variant: Any, tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "model.pth"
    made: Variant = variant(RECORDED[layout], trace)
    path.write_bytes(made.file)
    began = time.perf_counter()
    if made.refused is None:
        teacher = load_teacher(path, item_ids=made.item_ids)
        assert teacher.layout == layout
        assert len(teacher.model.item_table) == N_ITEMS
    else:
        with pytest.raises(InputError) as caught:
            load_teacher(path, item_ids=made.item_ids)
        message = str(caught.value)
        assert message.startswith(str(path))
        assert made.refused in message
        assert "\n" not in message
        assert len(message) < 1500
    assert time.perf_counter() - began < SECONDS
    assert not trace.exists()


@pytest.mark.parametrize("layout", [name for name, recorded in RECORDED.items() if recorded.metadata is None])
def test_safetensors_of_the_same_names(layout: str, tmp_path: Path) -> None:
    """A state dict is a state dict: without its settings, which safetensors has no place for, defaults are noted."""
    recorded = RECORDED[layout]
    torch.save(recorded.state_dict(), tmp_path / "model.pt")
    (tmp_path / "model.safetensors").write_bytes(save(recorded.state_dict()))
    expected = load_teacher(tmp_path / "model.pt", layout=layout)
    got = load_teacher(tmp_path / "model.safetensors", layout=layout)
    assert got.notes == expected.notes
    assert got.model.config == expected.model.config
    assert torch.equal(got.model.item_table, expected.model.item_table)
