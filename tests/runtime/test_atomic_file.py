"""The old file or the new one, and never a rest."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pocketrec.runtime.atomic_file import write_atomically


def test_it_writes(tmp_path: Path) -> None:
    assert write_atomically(tmp_path / "x", [b"ab", bytearray(b"c"), memoryview(b"d")]) == 4
    assert (tmp_path / "x").read_bytes() == b"abcd"
    assert os.listdir(tmp_path) == ["x"]


def test_it_replaces_or_refuses(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "x", [b"new"], overwrite=False)
    assert (tmp_path / "x").read_bytes() == b"old"
    write_atomically(tmp_path / "x", [b"new"])
    assert (tmp_path / "x").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_failure_in_the_middle_leaves_the_old_file(
    tmp_path: Path, error: BaseException, overwrite: bool
) -> None:
    (tmp_path / "x").write_bytes(b"old")

    def chunks() -> Iterator[bytes]:
        yield b"half"
        raise error

    with pytest.raises(type(error)):
        write_atomically(tmp_path / "x", chunks(), overwrite=overwrite)
    assert (tmp_path / "x").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "absent" / "x", [b""])


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
def test_the_mode_is_that_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_atomically(tmp_path / "x", [b""])
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "x")]
    assert modes[0] == modes[1]
