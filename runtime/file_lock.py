"""One writer at a time, also among processes: an advisory lock on a file of its own.

The lock is the system's (`flock(2)`, on Windows `LockFile`), so it falls with the process that holds it, whatever ends
that process. The file is removed while it is still locked; whoever waited for it then holds a file that has no name any
more, notices, and opens the new one. So nothing is left behind, and no two hold it at once.

On a file system that has no locks (some of the network) nothing is locked: one process a file is the rule there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Generator

from .errors import StateError

WAIT_SECONDS = 5.0
"""A save takes milliseconds; who waits longer than this waits for a process that hangs."""
_POLL_SECONDS = 0.001
_HELD = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def exclusive(path: str, wait_seconds: float = WAIT_SECONDS) -> Generator[None]:
    """Hold the lock `path`, a file that need not exist, in a folder that must.

    Threads of one process exclude each other too.

    Raises:
        StateError: somebody else holds it for longer than `wait_seconds`.
        OSError: the folder is missing or cannot be written.
    """
    deadline = time.monotonic() + wait_seconds
    while (descriptor := _held(path)) is None:
        if time.monotonic() > deadline:
            raise StateError(
                f"{path}: held by another process for more than {wait_seconds:g} s; end it, or try again later"
            )
        time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows does not remove a file that somebody waits for
            os.unlink(path)
        os.close(descriptor)


def _held(path: str) -> int | None:
    """A descriptor that holds the lock; None where another one does."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        if sys.platform == "win32":
            return None  # it is being removed
        raise
    try:
        _lock(descriptor)
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return descriptor
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return descriptor
        if error.errno not in _HELD:
            os.close(descriptor)
            raise
    os.close(descriptor)
    return None
