"""The progress bar of every command: on stderr, and silent where that is no terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator
from typing import Any


@contextlib.contextmanager
def terminal_track(title: str, total: int) -> Generator[Callable[[int], Any]]:
    """A `Track` (see `pocketrec.benchmarks.progress`) drawn by tqdm."""
    from tqdm import tqdm

    with tqdm(total=total, desc=title, disable=not sys.stderr.isatty(), leave=False, file=sys.stderr) as bar:
        yield bar.update
