"""Write a file so that a crash at any moment leaves the old file or the new one, never a mixture.

The bytes go to a temporary file in the same folder, are flushed to the disk, and the file is renamed
over its destination: POSIX `rename(2)` and Windows `MoveFileEx` (through `os.replace`) are atomic within
one file system. The folder is flushed too, where the system allows it, so that the rename itself lasts.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

Bytes = bytes | bytearray | memoryview


def write_atomically(path: str | os.PathLike[str], chunks: Iterable[Bytes], *, overwrite: bool = True) -> int:
    """Write `chunks` one after the other to `path`; returns the number of bytes written.

    With `overwrite=False` an existing `path` is left alone and `FileExistsError` is raised, also when
    another process created it meanwhile. On any failure (a full disk, Ctrl-C) nothing is left behind.

    Raises:
        FileExistsError: `path` exists and `overwrite` is false.
        OSError: the folder is missing or cannot be written, or the disk is full.
    """
    path = Path(path)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    size_bytes = 0
    try:
        with os.fdopen(descriptor, "wb") as file:
            for chunk in chunks:
                size_bytes += file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        if overwrite:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)  # fails where `path` exists, unlike a rename
            os.unlink(temporary)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    flush_folder(path.parent)
    return size_bytes


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def flush_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # Windows cannot open a folder; the rename is still atomic there
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
