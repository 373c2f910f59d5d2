"""Progress of long work: told to whoever asked, so that a library never prints."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import Any

Track = Callable[[str, int], AbstractContextManager[Callable[[int], object]]]
"""`with track(title, total) as advance:` begins a piece of work; `advance(n)` says that n more are done."""


@contextlib.contextmanager
def untracked(title: str, total: int) -> Generator[Callable[[int], Any]]:
    """Nobody watches."""
    yield lambda _done: None
