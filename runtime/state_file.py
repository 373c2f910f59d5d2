"""Where one user's state lives: a file that several processes may share.

    place = StateFile("state.bin")
    state = place.load()          # None where there is no such file yet
    place.save(state)

`SavedState` is what `Reranker.user` needs of such a place; `user_store` has another one. What holds of both:

- A save is atomic, and one at a time: a store has transactions, and beside a file a lock is held while it runs (`file_lock`).
- Whoever saves after somebody else did since `load` overwrites nothing: both sides' changes are merged (`state_merge`).
- A state that was erased since it was read stays erased: saving it is a `StateError`.
- With a `Cipher`, whatever reaches the disk is encrypted. What cannot be decrypted is a `StateError`.
- Erasing removes the state and what a crash may have left of it. Nothing is ever sent anywhere.
"""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from .atomic_file import flush_folder, write_atomically
from .errors import StateError
from .file_lock import exclusive
from .state_merge import merge
from .user_state import MAX_FILE_BYTES, UserState, from_bytes, to_bytes


class Cipher(NamedTuple):
    """How states are encrypted, for instance by `cryptography.fernet.Fernet(key)`: `Cipher(box.encrypt, box.decrypt)`.

    `decrypt` must raise an exception, of any type, for what was not encrypted with its key, or was changed since.
    """

    encrypt: Callable[[bytes], bytes]
    decrypt: Callable[[bytes], bytes]


class SavedState(Protocol):
    """A place that holds one user's state."""

    def load(self) -> UserState | None:
        """The state; None where there is none yet. Raises `StateError` where it cannot be trusted."""
        ...

    def save(self, state: UserState) -> int:
        """Write the state over what `load` read or the last `save` wrote, merged with what others wrote meanwhile.

        Returns its size in bytes.
        """
        ...

    def erase(self) -> None:
        """Remove it; nothing happens where there is none."""
        ...


class StateFile:
    """A `SavedState` in a file of its own."""

    def __init__(self, path: str | os.PathLike[str], cipher: Cipher | None = None) -> None:
        self.path = Path(path)
        self._cipher = cipher
        self._own: bytes | None = None
        """What the last `load` read, or the last `save` was given, as bytes of a file: where our changes begin."""
        self._is_tidy = False

    def load(self) -> UserState | None:
        """Read the state; None where there is no such file.

        Raises:
            StateError: the file is truncated, edited, of another version, no state at all, or cannot be decrypted.
            OSError: it cannot be read.
        """
        self._own = raw = self._read()
        return None if raw is None else from_bytes(raw, os.fspath(self.path))

    def save(self, state: UserState) -> int:
        """Write the state, atomically; returns the file's size in bytes.

        Where the file changed since `load` or the last `save`, both sides' changes are merged; the merged state is what
        the next `load` reads.

        Raises:
            StateError: the file was erased since, or what it holds now cannot be trusted; nothing is written. Or another
                process holds its lock.
            OSError: the folder is missing or cannot be written, or the disk is full; the old file is untouched.
        """
        with self._locked():
            self._remove_leftovers(once=True)
            raw = self._read()
            if raw is None and self._own is not None:
                raise StateError(
                    f"{self.path}: erased since it was read; nothing was written, start the user anew"
                )
            own = to_bytes(state)
            written = own if raw in (None, self._own) else merged(self._own, own, raw, os.fspath(self.path))
            size_bytes = write_atomically(self.path, [encrypted(written, self._cipher)])
            self._own = own
        return size_bytes

    def overwrite(self, state: UserState) -> int:
        """Write the state whatever the file holds; returns the file's size in bytes."""
        written = to_bytes(state)
        with self._locked():
            size_bytes = write_atomically(self.path, [encrypted(written, self._cipher)])
            self._own = written
        return size_bytes

    def erase(self) -> None:
        """Remove the file, and what a crash left of it."""
        if not self.path.parent.is_dir():
            return
        with self._locked():
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
            self._remove_leftovers(once=False)
            flush_folder(self.path.parent)
        self._own = None

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        return exclusive(os.fspath(self.path.with_name(f".{self.path.name}.lock")))

    def _read(self) -> bytes | None:
        try:
            with self.path.open("rb") as file:
                raw = file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            return None
        return decrypted(raw, self._cipher, os.fspath(self.path))

    def _remove_leftovers(self, *, once: bool) -> None:
        """Temporary files of writers that were killed; to be called with the lock held, since then no writer is alive."""
        if once and self._is_tidy:
            return
        self._is_tidy = True
        for name in glob.glob(f".{glob.escape(self.path.name)}.*.tmp", root_dir=self.path.parent):
            with contextlib.suppress(OSError):
                (self.path.parent / name).unlink()


def merged(base: bytes | None, ours: bytes, theirs: bytes, name: str) -> bytes:
    """`state_merge.merge` of files; raises `StateError` where theirs, called `name`, cannot be trusted."""
    before = UserState() if base is None else from_bytes(base)
    return to_bytes(merge(before, from_bytes(ours), from_bytes(theirs, name)))


def encrypted(raw: bytes, cipher: Cipher | None) -> bytes:
    """What goes to the disk."""
    return raw if cipher is None else bytes(cipher.encrypt(raw))


def decrypted(raw: bytes, cipher: Cipher | None, name: str) -> bytes:
    """The inverse of `encrypted`; raises `StateError` where `decrypt` refuses."""
    if cipher is None:
        return raw
    try:
        return bytes(cipher.decrypt(raw))
    except Exception as error:  # the app's own function: any type
        raise StateError(
            f"{name}: cannot be decrypted ({type(error).__name__}{f': {error}' if str(error) else ''}); give the key it was saved with, or delete it to start the user anew"
        ) from error
