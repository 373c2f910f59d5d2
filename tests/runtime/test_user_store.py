"""Many users in one file: what is kept, who may write, what an eraser leaves."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pocketrec.runtime import Reranker
from pocketrec.runtime.errors import StateError
from pocketrec.runtime.state_file import Cipher
from pocketrec.runtime.state_transfer import migrate
from pocketrec.runtime.user_state import UserState
from pocketrec.runtime.user_store import UserStore

N_USERS = 2000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[UserStore]:
    with UserStore(tmp_path / "users.db") as store:
        yield store


def small(n: int) -> UserState:
    return UserState(history=[n, n + 1], bundle="b", learned={"u": np.full(2, n, np.float32)})


class TestMany:
    def test_each_user_is_read_back(self, store: UserStore) -> None:
        store.put_many((f"user-{n}", small(n)) for n in range(N_USERS))
        assert len(store) == N_USERS
        assert list(store.names()) == [f"user-{n}" for n in range(N_USERS)]
        for n in range(N_USERS):
            state = store.get(f"user-{n}")
            assert state is not None
            assert state.history == [n, n + 1]
            np.testing.assert_array_equal(state.learned["u"], [n, n])

    def test_many_at_once_or_none(self, store: UserStore) -> None:
        store.put("a", small(1))
        with pytest.raises(ValueError):
            store.put_many([("a", small(2)), ("b", UserState(extra={"note": "x" * 100_000}))])
        assert list(store.names()) == ["a"]
        assert store.get("a").history == [1, 2]  # type: ignore[union-attr]

    def test_nobody(self, store: UserStore) -> None:
        assert store.get("nobody") is None
        assert store.export("nobody") is None
        assert "nobody" not in store
        store.erase("nobody")
        assert (len(store), list(store.names())) == (0, [])

    @pytest.mark.parametrize("name", ["", "é", "a'; DROP TABLE users; --", "😀" * 100])
    def test_any_text_is_a_name(self, store: UserStore, name: str) -> None:
        store.put(name, small(1))
        assert name in store
        assert list(store.names()) == [name]
        assert store.export(name) == {
            "history": [1, 2],
            "dismissed": [],
            "bundle": "b",
            "counters": {},
            "learned": {"u": [1.0, 1.0]},
            "extra": {},
        }

    def test_it_lasts(self, tmp_path: Path) -> None:
        with UserStore(tmp_path / "users.db") as store:
            store.put("a", small(1))
        assert os.listdir(tmp_path) == ["users.db"]
        with UserStore(tmp_path / "users.db") as store:
            assert store.get("a").history == [1, 2]  # type: ignore[union-attr]

    def test_vacuum_gives_space_back(self, store: UserStore) -> None:
        for n in range(50):
            store.put(str(n), UserState(history=range(512)))
        before = store.size_bytes()
        for n in range(45):
            store.erase(str(n))
        store.vacuum()
        assert store.size_bytes() < before / 3
        assert len(store) == 5


class TestErase:
    @pytest.mark.parametrize("with_reader", [False, True])
    def test_no_byte_of_it_stays(self, store: UserStore, with_reader: bool) -> None:
        for n in range(20):
            store.put(f"user-{n}", UserState(history=[f"secret-{n}"] * 10))
        if with_reader:
            with UserStore(store.path) as reader:
                list(reader.names())
                store.erase("user-7")
        else:
            store.erase("user-7")
        files = [path.read_bytes() for path in store.path.parent.iterdir()]
        assert not any(b"secret-7" in raw or b"user-7" in raw for raw in files)
        assert any(b"secret-8" in raw for raw in files)

    def test_saving_afterwards_is_refused(self, store: UserStore) -> None:
        place = store.user("a")
        place.save(small(1))
        store.erase("a")
        with pytest.raises(StateError, match=r"users\.db, user 'a': erased since it was read"):
            place.save(small(2))
        assert "a" not in store
        assert place.load() is None
        place.save(small(3))
        assert "a" in store

    def test_who_came_back_is_somebody_else(self, store: UserStore) -> None:
        place = store.user("a")
        place.save(UserState(history=[1]))
        store.erase("a")
        store.put("a", UserState(history=[7]))
        place.save(UserState(history=[1, 2]))
        assert store.get("a").history == [7, 2]  # type: ignore[union-attr]


class TestWriters:
    def test_the_second_merges(self, store: UserStore) -> None:
        store.put("a", small(1))
        first, second = store.user("a"), store.user("a")
        state = first.load()
        assert state is not None
        second.load()
        first.save(replace(state, history=[1, 2, 3]))
        second.save(replace(state, history=[1, 2, 4]))
        second.save(replace(state, history=[1, 2, 4, 5]))
        first.save(replace(state, history=[1, 2, 3, 6]))
        assert store.get("a").history == [1, 2, 3, 4, 5, 6]  # type: ignore[union-attr]

    def test_threads(self, store: UserStore) -> None:
        def append(name: int) -> None:
            place = store.user("a")
            for n in range(15):
                place.save(UserState(history=[100 * name + m for m in range(n + 1)]))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(append, range(4)))
        history = store.get("a").history  # type: ignore[union-attr]
        assert sorted(history) == [100 * name + n for name in range(4) for n in range(15)]

    WRITER = """
import sys
from pocketrec.runtime.user_state import UserState
from pocketrec.runtime.user_store import UserStore
name = sys.argv[2]
with UserStore(sys.argv[1]) as store:
    place, state = store.user("shared"), UserState()
    for n in range(30):
        state = UserState(history=[*state.history, f"{name}{n}"])
        place.save(state)
        store.put(f"{name}{n}", state)
"""

    def test_processes(self, tmp_path: Path) -> None:
        """All start on a file that is not there yet."""
        path = tmp_path / "users.db"
        command = [sys.executable, "-c", self.WRITER, str(path)]
        writers = [subprocess.Popen([*command, name]) for name in "abc"]
        assert [writer.wait(60) for writer in writers] == [0, 0, 0]
        with UserStore(path) as store:
            history = list(store.get("shared").history)  # type: ignore[union-attr]
            assert len(store) == 91
        for name in "abc":
            assert [item for item in history if str(item)[0] == name] == [f"{name}{n}" for n in range(30)]

    KILLED = """
import sys
from pocketrec.runtime.user_state import UserState
from pocketrec.runtime.user_store import UserStore
store, n = UserStore(sys.argv[1]), 0
print("ready", flush=True)
while True:
    n += 1
    store.put("a", UserState(history=[n] * 500))
"""

    @pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
    def test_a_kill_at_any_moment_leaves_a_whole_state(self, tmp_path: Path) -> None:
        path, rng = tmp_path / "users.db", np.random.default_rng(0)
        for _ in range(5):
            killed = subprocess.Popen([sys.executable, "-c", self.KILLED, str(path)], stdout=subprocess.PIPE)
            assert killed.stdout is not None
            killed.stdout.readline()
            time.sleep(rng.uniform(0.01, 0.03))
            killed.kill()
            killed.wait()
            killed.stdout.close()
            with UserStore(path) as store:
                state = store.get("a")
            assert state is None or (len({*state.history}), len(state.history)) == (1, 500)

    def test_who_waits_too_long_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pocketrec.runtime.user_store.BUSY_SECONDS", 0.05)
        with UserStore(tmp_path / "users.db") as store, UserStore(tmp_path / "users.db") as other:
            with (
                other._writing(),
                pytest.raises(StateError, match=r"another process writes for more than 0\.05"),
            ):
                store.put("a", small(1))
            store.put("a", small(1))

    def test_a_write_that_fails_is_undone(self, store: UserStore) -> None:
        store.put("a", small(1))

        def fail(_: UserState) -> UserState:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            store.migrate(fail)
        store.put("b", small(2))
        assert list(store.names()) == ["a", "b"]


class TestOtherFiles:
    def test_another_database(self, tmp_path: Path) -> None:
        path = tmp_path / "other.db"
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE t (x)")
        connection.close()
        with pytest.raises(StateError, match=r"other\.db: a database of something else"):
            UserStore(path)

    def test_no_database(self, tmp_path: Path) -> None:
        path = tmp_path / "note.txt"
        path.write_bytes(b"no database" * 100)
        with pytest.raises(StateError, match=r"note\.txt: not a store of users, or damaged"):
            UserStore(path)
        assert path.read_bytes() == b"no database" * 100

    def test_a_newer_version(self, tmp_path: Path) -> None:
        UserStore(tmp_path / "users.db").close()
        with sqlite3.connect(tmp_path / "users.db") as connection:
            connection.execute("PRAGMA user_version = 9")
        connection.close()
        with pytest.raises(StateError, match="store version 9, this pocketrec reads 1; upgrade"):
            UserStore(tmp_path / "users.db")

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            UserStore(tmp_path / "no" / "users.db")
        assert os.listdir(tmp_path) == []


def hide(raw: bytes) -> bytes:
    return raw[::-1] + b"!"


def show(raw: bytes) -> bytes:
    if raw[-1:] != b"!":
        raise ValueError("not authentic")
    return raw[-2::-1]


def test_encrypted(tmp_path: Path) -> None:
    with UserStore(tmp_path / "users.db", Cipher(hide, show)) as store:
        store.put("a", UserState(history=["abcdef"]))
        assert store.get("a").history == ["abcdef"]  # type: ignore[union-attr]
        assert not any(b"abcdef" in path.read_bytes() for path in tmp_path.iterdir())
    with UserStore(tmp_path / "users.db") as store, pytest.raises(StateError, match="not a user's state"):
        store.get("a")
    told = r"user 'a': cannot be decrypted \(ValueError: not authentic\)"
    wrong = Cipher(hide, lambda raw: show(raw[:-1]))
    with UserStore(tmp_path / "users.db", wrong) as store, pytest.raises(StateError, match=told):
        store.get("a")


class TestWithARanker:
    def test_users_learn_and_go_on(self, store: UserStore, range_bundle: Path) -> None:
        ranker = Reranker.load(range_bundle)
        alice = ranker.user(store.user("alice"))
        alice.rerank(range(1, 51))
        alice.feedback(7)
        alice.save()
        ranker.user(store.user("bob")).save()
        again = ranker.user(store.user("alice"))
        assert again.rerank(range(1, 51), k=50) == alice.rerank(range(1, 51), k=50)
        alice.erase()
        assert list(store.names()) == ["bob"]
        assert alice.history == []

    def test_from_many_threads(self, store: UserStore, range_bundle: Path) -> None:
        ranker, barrier = Reranker.load(range_bundle), threading.Barrier(4)

        def live(name: int) -> list:
            barrier.wait()
            user = ranker.user(store.user(str(name)))
            for item_id in range(name + 1, name + 6):
                user.feedback(item_id)
                user.save()
            return user.history

        with ThreadPoolExecutor(4) as pool:
            histories = list(pool.map(live, range(4)))
        assert [store.get(str(name)).history for name in range(4)] == histories  # type: ignore[union-attr]

    def test_migration(self, store: UserStore, range_bundle: Path) -> None:
        old = Reranker.load(range_bundle)
        new = Reranker.load(range_bundle.with_name("tiny-taste.pocket"))
        for name in "abc":
            user = old.user(store.user(name))
            user.feedback(ord(name) - 96)
            user.save()
        assert store.migrate(lambda state: migrate(state, new, old)) == 3
        assert store.migrate(lambda state: migrate(state, new, old)) == 0
        assert [store.get(name).history for name in "abc"] == [[1], [2], [3]]  # type: ignore[union-attr]
        assert new.user(store.user("a")).state.counters["learned_events"] == 1
