"""The state file: what it holds, what it refuses, and what a crash leaves."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pocketrec.runtime.errors import StateError
from pocketrec.runtime.user_state import (
    DISMISSED_KEPT,
    EXTRA_BYTES,
    HISTORY_KEPT,
    MAGIC,
    MAX_FILE_BYTES,
    UserState,
    from_bytes,
    read_state,
    to_bytes,
    write_state,
)


def example() -> UserState:
    return UserState(
        history=[7, "é", -(2**62), ""],
        dismissed=["x"],
        bundle="abc",
        learned={"u": np.arange(3, dtype=np.float32), "h": np.eye(2)},
        counters={"events": 4},
        extra={"shown": [["é", 0.5], None], "arm": {"epsilon": 1e-3, "on": True}},
    )


def packed(text: bytes, version: int = 2) -> bytes:
    return struct.pack("<8sII32s", MAGIC, version, len(text), hashlib.sha256(text).digest()) + text


def content(**changes: object) -> bytes:
    whole = {
        "history": [],
        "dismissed": [],
        "bundle": "",
        "learned": {},
        "counters": {},
        "extra": {},
    } | changes
    return packed(json.dumps(whole).encode())


def test_what_is_written_is_read(tmp_path: Path) -> None:
    size_bytes = write_state(tmp_path / "state.bin", example())
    assert size_bytes == (tmp_path / "state.bin").stat().st_size
    state = read_state(tmp_path / "state.bin")
    assert (state.history, state.dismissed, state.bundle) == ([7, "é", -(2**62), ""], ["x"], "abc")
    assert state.counters == {"events": 4}
    assert state.extra == example().extra
    np.testing.assert_array_equal(state.learned["u"], np.arange(3, dtype=np.float32))
    assert (state.learned["u"].dtype, state.learned["h"].dtype) == (np.float32, np.float64)


def test_the_bytes_of_the_format() -> None:
    """Pinned: a change of these is a new format version."""
    raw = to_bytes(
        UserState(history=[1], dismissed=["a"], bundle="f", learned={"u": np.zeros(1, np.float32)})
    )
    text = (
        b'{"history":[1],"dismissed":["a"],"bundle":"f",'
        b'"learned":{"u":{"dtype":"<f4","shape":[1],"base64":"AAAAAA=="}},"counters":{},"extra":{}}'
    )
    assert raw == packed(text)


def test_the_newest_ids_are_kept() -> None:
    state = from_bytes(to_bytes(UserState(history=range(10_000), dismissed=range(10_000))))
    assert state.history == list(range(10_000 - HISTORY_KEPT, 10_000))
    assert state.dismissed == list(range(10_000 - DISMISSED_KEPT, 10_000))


@pytest.mark.parametrize("length", [1, 36, 500, 100_000])
def test_a_file_is_small_whatever_the_ids(length: int) -> None:
    ids = [f"{n:04}".ljust(length, "é") for n in range(1000)]
    vectors = {name: np.ones(64, np.float32) for name in "abc"}
    raw = to_bytes(
        UserState(history=ids, dismissed=ids, learned=vectors, extra={"shown": ids[-99:], "seen": ids[-99:]})
    )
    assert len(raw) <= 40 << 10
    history = from_bytes(raw).history
    assert list(history) == ids[len(ids) - len(history) :]


def test_any_text_is_an_id() -> None:
    ids = ["\ud800", '"', "\\", "\n", "\0", "😀"]
    assert from_bytes(to_bytes(UserState(history=ids))).history == ids


def test_every_truncation_is_noticed() -> None:
    raw = to_bytes(example())
    for length in range(len(raw)):
        with pytest.raises(StateError):
            from_bytes(raw[:length])
    with pytest.raises(StateError, match="longer than it should be"):
        from_bytes(raw + b"\0")


def test_every_flipped_bit_is_noticed() -> None:
    raw = to_bytes(example())
    for position in range(len(raw)):
        damaged = bytearray(raw)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(StateError):
            from_bytes(bytes(damaged))


def test_a_newer_version_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "state.bin"
    path.write_bytes(packed(b"{}", version=3))
    with pytest.raises(StateError, match=r"state\.bin: state format 3, this pocketrec reads 2; upgrade"):
        read_state(path)


@pytest.mark.parametrize("raw", [b"", b"x", b"PK\3\4" + bytes(100), MAGIC])
def test_other_files_are_refused(raw: bytes) -> None:
    with pytest.raises(StateError, match="not a user's state"):
        from_bytes(raw)


def test_a_large_file_is_not_even_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "state.bin"
    with path.open("wb") as file:
        file.write(MAGIC)
        file.truncate(1 << 40)
    with pytest.raises(StateError, match=f"more than {MAX_FILE_BYTES} bytes"):
        read_state(path)


@pytest.mark.parametrize(
    "raw",
    [
        packed(b""),
        packed(b"[]"),
        packed(b"{}"),
        packed(b"\xff"),
        packed(b"[" * 100_000),
        content(history=3),
        content(history="abc"),
        content(history=[None]),
        content(history=[True]),
        content(history=[1.5]),
        content(dismissed={"a": 1}),
        content(learned=[]),
        content(learned={"u": {"dtype": "|O", "shape": [1], "base64": "AAAAAAAAAAA="}}),
        content(learned={"u": {"dtype": "<f4", "shape": [10**12], "base64": "AAAAAA=="}}),
        content(learned={"u": {"dtype": "<f4", "shape": [-1, -1], "base64": "AAAAAA=="}}),
        content(learned={"u": {"dtype": "<f4", "shape": [1], "base64": "?"}}),
        content(counters={"n": 1.5}),
        content(extra=[1]),
    ],
)
def test_content_that_we_never_write_is_refused(raw: bytes) -> None:
    """With a good checksum: by somebody who made it so."""
    with pytest.raises(StateError, match="not a state that pocketrec writes"):
        from_bytes(raw)


def test_logs_are_cut_at_their_older_end() -> None:
    logs = {"long": list(range(10_000)), "short": ["a", "b"], "flag": True}
    raw = to_bytes(UserState(extra=logs))
    extra = from_bytes(raw).extra
    assert len(json.dumps(extra, separators=(",", ":"))) in range(EXTRA_BYTES * 15 // 16, EXTRA_BYTES + 1)
    kept = extra["long"]
    assert isinstance(kept, list)
    assert kept == logs["long"][-len(kept) :]
    assert (extra["short"], extra["flag"]) == (["a", "b"], True)
    assert len(logs["long"]) == 10_000


@pytest.mark.parametrize(
    ("extra", "error"),
    [
        ({"note": "a" * EXTRA_BYTES}, ValueError),
        ({"log": ["a"], "deep": {"log": ["a"] * EXTRA_BYTES}}, ValueError),
        ({"number": float("nan")}, ValueError),
        ({"set": {1}}, TypeError),
    ],
)
def test_an_extra_that_cannot_be_kept_is_refused(extra: dict, error: type[Exception]) -> None:
    with pytest.raises(error):
        to_bytes(UserState(extra=extra))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_none_costs_what_was_learned_and_no_more(value: float) -> None:
    state = UserState(history=[1], learned={"u": np.array([1.0, value], np.float32)})
    read = from_bytes(to_bytes(state))
    assert (read.history, dict(read.learned)) == ([1], {})


def test_a_full_disk_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.bin"
    write_state(path, UserState(history=[1]))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_state(path, UserState(history=[2]))
    monkeypatch.undo()
    assert read_state(path).history == [1]
    assert os.listdir(tmp_path) == ["state.bin"]


SAVER = """
import sys
from pocketrec.runtime.user_state import UserState, write_state
print("ready", flush=True)
n = 0
while True:
    n += 1
    write_state(sys.argv[1], UserState(history=[n] * 500))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_kill_at_any_moment_leaves_a_whole_state(tmp_path: Path) -> None:
    path, rng = tmp_path / "state.bin", np.random.default_rng(0)
    write_state(path, UserState(history=[0]))
    for _ in range(5):
        saver = subprocess.Popen([sys.executable, "-c", SAVER, str(path)], stdout=subprocess.PIPE)
        assert saver.stdout is not None
        saver.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.02))
        saver.kill()
        saver.wait()
        saver.stdout.close()
        history = read_state(path).history
        assert len({*history}) == 1
        assert len(history) in (1, 500)
