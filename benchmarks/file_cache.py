"""The system's cache of a file's pages: dropped, so that the next reader pays for the disk, and looked at.

`posix_fadvise(POSIX_FADV_DONTNEED)` asks the kernel to forget clean pages that nobody has mapped; it may decline, so what is
left is counted with `mincore`. Where either is missing (macOS, Windows, sandboxes that answer for the kernel), a cold
start cannot be measured, and `problem` says so in one line.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import mmap
import os
import shutil
import tempfile
from collections.abc import Generator, Mapping
from pathlib import Path

import numpy as np

COLD_SHARE = 0.02
"""A file of which no more than this is cached counts as cold: the kernel keeps a page here and there."""


def drop_from_cache(path: Path) -> None:
    """Ask the system to forget the pages of a file; objects that still map it are collected first."""
    gc.collect()
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)  # pages that are not written yet cannot be forgotten
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def cached_share(path: Path) -> float | None:
    """Share of a file's pages that are in the cache, 0 to 1; None where the system does not tell."""
    library = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
    if not hasattr(library, "mincore") or path.stat().st_size == 0:
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = np.frombuffer(mapped, np.uint8)
        pages = np.zeros(-(-len(view) // mmap.PAGESIZE), np.uint8)
        failed = library.mincore(  # type: ignore[union-attr]
            ctypes.c_void_p(view.ctypes.data), ctypes.c_size_t(len(view)), ctypes.c_void_p(pages.ctypes.data)
        )
        del view  # else the map cannot be closed
    return None if failed else float((pages & 1).mean())


@contextlib.contextmanager
def copies(paths: Mapping[str, Path]) -> Generator[dict[str, Path]]:
    """The same files in a temporary folder, for as long: what somebody has mapped cannot be dropped, a fresh copy can."""
    with tempfile.TemporaryDirectory(prefix="pocketrec-", ignore_cleanup_errors=True) as folder:
        made: dict[str, Path] = {}
        for number, (name, path) in enumerate(paths.items()):
            made[name] = Path(shutil.copyfile(path, Path(folder) / f"{number}-{path.name}"))
        yield made


def problem(path: Path) -> str | None:
    """Why a cold start of this file cannot be measured here, in one line; None where it can."""
    if not hasattr(os, "posix_fadvise"):
        return "a cold load cannot be measured: this system has no posix_fadvise"
    drop_from_cache(path)
    left = cached_share(path)
    if left is None:
        return "a cold load cannot be measured: this system does not tell which pages are cached"
    if left > COLD_SHARE:
        return f"a cold load cannot be measured: of {path.name}, {left:.0%} stayed in the cache when it was dropped"
    return None
