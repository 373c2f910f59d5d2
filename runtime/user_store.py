"""Many users' states on one machine, a server or a kiosk: one SQLite file, the standard library's.

    store = UserStore("users.db")
    user = ranker.user(store.user("alice"))   # learns and saves as with a file of its own
    user.save()

What holds:

- A state is the bytes of a state file (`user_state.to_bytes`): versioned, checksummed, bounded; with a `Cipher`, encrypted.
- A save is one transaction, durable when it returns (write-ahead log, `synchronous=FULL`): kill -9 at any point leaves the
  old state or the new one.
- Any number of threads and processes may share the file. Readers wait for nobody; writers take turns, each for the length
  of one save, and give up after `BUSY_SECONDS`. Two that write one user lose nothing: changes are merged (`state_merge`).
- What was erased is overwritten with zeros (`secure_delete`), in the log too, and saving a user erased meanwhile is a
  `StateError`.

Names of users are stored as they are, also with a cipher: give pseudonyms where names are secret.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

from .errors import StateError
from .state_export import exported
from .state_file import Cipher, decrypted, encrypted, merged
from .user_state import UserState, from_bytes, to_bytes

APPLICATION_ID = 0x504B5552  # "PKUR", so that `file` and we know the file
SCHEMA_VERSION = 1
BUSY_SECONDS = 10.0
_SCHEMA = """
CREATE TABLE users (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    state BLOB NOT NULL
)
"""
_PUT = "INSERT INTO users (name, state) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET state = excluded.state"


class UserStore:
    """States by the user's name; to be closed, or used as a context manager."""

    def __init__(self, path: str | os.PathLike[str], cipher: Cipher | None = None) -> None:
        """Open the store, or make it where there is no such file yet.

        Raises:
            StateError: the file is something else, damaged, or of a newer version.
            OSError: the folder is missing.
        """
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise FileNotFoundError(2, os.strerror(2), os.fspath(self.path.parent))
        self._cipher = cipher
        self._lock = threading.RLock()  # one connection, used by one thread at a time
        with self._errors():
            self._connection = sqlite3.connect(
                self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        try:
            self._open()
        except BaseException:
            self._connection.close()
            raise

    def user(self, name: str) -> StoredState:
        """The place of one user's state: what `Reranker.user` takes."""
        return StoredState(self, name)

    def get(self, name: str) -> UserState | None:
        """A user's state; None where there is none.

        Raises:
            StateError: damaged, of another version, or it cannot be decrypted.
        """
        return self.user(name).load()

    def put(self, name: str, state: UserState) -> int:
        """Write a user's state whatever the store has of that user; returns its size in bytes."""
        return self.put_many([(name, state)])

    def put_many(self, states: Iterable[tuple[str, UserState]]) -> int:
        """As `put` of each, all in one transaction: much faster, and all or none; returns their size in bytes."""
        size_bytes = 0
        with self._writing():
            for name, state in states:
                raw = encrypted(to_bytes(state), self._cipher)
                self._write(name, raw)
                size_bytes += len(raw)
        return size_bytes

    def read(self, name: str) -> bytes | None:
        """A user's state as the bytes of a file; None where there is none."""
        row = self._row(name)
        return None if row is None else decrypted(row, self._cipher, self.called(name))

    def save(self, name: str, own: bytes, base: bytes | None) -> int:
        """Write a user's state, merged with what others wrote meanwhile; returns its size in bytes.

        Args:
            own: the bytes of a file.
            base: where it began; None for a new user.

        Raises:
            StateError: the user was erased since, or what the store has now cannot be trusted; nothing is written.
        """
        with self._writing():
            now = self.read(name)
            if now is None and base is not None:
                raise StateError(
                    f"{self.called(name)}: erased since it was read; nothing was written, start the user anew"
                )
            written = own if now in (None, base) else merged(base, own, now, self.called(name))
            raw = encrypted(written, self._cipher)
            self._write(name, raw)
        return len(raw)

    def called(self, name: str) -> str:
        """What an error calls a user."""
        return f"{self.path}, user {name!r}"

    def erase(self, name: str) -> None:
        """Remove a user; nothing happens where there is none. The bytes are overwritten, in the log too.

        While another process reads, the log keeps them until the last reader's next pause: the next erasure, `vacuum` or
        close finishes it.
        """
        with self._writing():
            self._connection.execute("DELETE FROM users WHERE name = ?", (name,))
        self._empty_log()

    def names(self) -> Iterator[str]:
        """The users in the order in which they first came; whoever comes or goes meanwhile may be among them or not."""
        last = 0
        while rows := self._rows("SELECT id, name FROM users WHERE id > ? ORDER BY id LIMIT 1000", last):
            yield from (name for _, name in rows)
            last = rows[-1][0]

    def __len__(self) -> int:
        return self._rows("SELECT count(*) FROM users")[0][0]

    def __contains__(self, name: str) -> bool:
        return self._row(name) is not None

    def export(self, name: str) -> dict[str, Any] | None:
        """All that is known of a user as plain JSON; None where there is nothing."""
        state = self.get(name)
        return None if state is None else exported(state)

    def migrate(self, change: Callable[[UserState], UserState]) -> int:
        """Change every state, each in a transaction of its own; returns how many changed.

        Whoever saves meanwhile is merged as always. Interrupted, it can be run again.

        Args:
            change: for instance `lambda state: migrate(state, new, old)` of `state_transfer`; the state itself where there
                is nothing to do.
        """
        n_changed = 0
        for name in self.names():
            with self._writing():
                raw = self.read(name)
                if raw is None:
                    continue
                before = from_bytes(raw, self.called(name))
                after = change(before)
                if after is not before:
                    self._write(name, encrypted(to_bytes(after), self._cipher))
                    n_changed += 1
        return n_changed

    def vacuum(self) -> None:
        """Give unused space back to the file system; takes as long as copying the file."""
        with self._lock, self._errors():
            self._connection.execute("VACUUM")
        self._empty_log()

    def size_bytes(self) -> int:
        """What the store takes on the disk, its log included."""
        beside = (self.path.with_name(self.path.name + suffix) for suffix in ("", "-wal", "-shm"))
        return sum(path.stat().st_size for path in beside if path.exists())

    def close(self) -> None:
        """Give the file back; with the last one to close it, its log is gone."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> UserStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _writing(self) -> Generator[None]:
        """One transaction: nobody else writes while it runs, and it is undone where it fails."""
        with self._lock, self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def _open(self) -> None:
        with self._errors():
            self._connection.execute("PRAGMA secure_delete = ON")
            application, version = self._pragma("application_id"), self._pragma("user_version")
            if application == 0 and version == 0 and self._pragma("schema_version") == 0:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._make()
                application, version = self._pragma("application_id"), self._pragma("user_version")
        if application != APPLICATION_ID:
            raise StateError(f"{self.path}: a database of something else; give the store a file of its own")
        if version != SCHEMA_VERSION:
            raise StateError(
                f"{self.path}: store version {version}, this pocketrec reads {SCHEMA_VERSION}; upgrade pocketrec"
            )
        with self._errors():
            self._connection.execute("PRAGMA synchronous = FULL")

    def _make(self) -> None:
        with self._writing():
            if self._pragma("schema_version") == 0:  # else another process was faster
                self._connection.execute(_SCHEMA)
                self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _pragma(self, name: str) -> int:
        return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])

    def _rows(self, query: str, *values: Any) -> list[Any]:
        with self._lock, self._errors():
            return self._connection.execute(query, values).fetchall()

    def _row(self, name: str) -> bytes | None:
        rows = self._rows("SELECT state FROM users WHERE name = ?", name)
        return rows[0][0] if rows else None

    def _write(self, name: str, raw: bytes) -> None:
        self._rows(_PUT, name, raw)

    def _empty_log(self) -> None:
        with self._lock, self._errors():
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextlib.contextmanager
    def _errors(self) -> Generator[None]:
        """What SQLite says of a file that we cannot use, as ours."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                raise StateError(
                    f"{self.path}: another process writes for more than {BUSY_SECONDS:g} s; end it, or try again later"
                ) from error
            raise OSError(f"{self.path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise StateError(f"{self.path}: not a store of users, or damaged ({error})") from error


class StoredState:
    """A `SavedState` of one user in a `UserStore`."""

    def __init__(self, store: UserStore, name: str) -> None:
        self.name = name
        self._store = store
        self._own: bytes | None = None
        """What the last `load` read, or the last `save` was given."""

    def load(self) -> UserState | None:
        """As `SavedState.load`."""
        self._own = raw = self._store.read(self.name)
        return None if raw is None else from_bytes(raw, self._store.called(self.name))

    def save(self, state: UserState) -> int:
        """As `SavedState.save`.

        Raises:
            StateError: the user was erased since, or what the store has now cannot be trusted; nothing is written.
        """
        own = to_bytes(state)
        size_bytes = self._store.save(self.name, own, self._own)
        self._own = own
        return size_bytes

    def erase(self) -> None:
        """As `SavedState.erase`."""
        self._store.erase(self.name)
        self._own = None
