"""One user's file and who may share it: other processes, a key, an eraser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pocketrec.runtime import Reranker
from pocketrec.runtime.errors import InputError, StateError
from pocketrec.runtime.file_lock import exclusive
from pocketrec.runtime.state_file import Cipher, StateFile
from pocketrec.runtime.user_state import UserState, read_state

APPENDER = """
import sys
from dataclasses import replace
from pocketrec.runtime.state_file import StateFile
from pocketrec.runtime.user_state import UserState
name, count = sys.argv[2], int(sys.argv[3])
place = StateFile(sys.argv[1])
state = place.load() or UserState()
print("ready", flush=True)
sys.stdin.readline()
for n in range(count):
    state = replace(state, history=[*state.history, f"{name}{n}"], counters={"events": n + 1})
    place.save(state)
"""


def xor(raw: bytes) -> bytes:
    """A toy that notices changes by the last byte, a checksum."""
    hidden = bytes(value ^ 0x5A for value in raw)
    return hidden + bytes([sum(hidden) % 256])


def unxor(raw: bytes) -> bytes:
    if not raw or sum(raw[:-1]) % 256 != raw[-1]:
        raise ValueError("not authentic")
    return bytes(value ^ 0x5A for value in raw[:-1])


class TestOneProcess:
    def test_load_and_save(self, tmp_path: Path) -> None:
        place = StateFile(tmp_path / "state.bin")
        assert place.load() is None
        size_bytes = place.save(UserState(history=[1]))
        assert size_bytes == place.path.stat().st_size
        assert StateFile(place.path).load().history == [1]  # type: ignore[union-attr]
        assert os.listdir(tmp_path) == ["state.bin"]

    def test_an_unsaved_change_is_no_conflict(self, tmp_path: Path) -> None:
        place = StateFile(tmp_path / "state.bin")
        place.save(UserState(history=[1, 2]))
        place.save(UserState(history=[1]))  # an undo
        assert read_state(place.path).history == [1]

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            StateFile(tmp_path / "no" / "state.bin").save(UserState())

    def test_threads_take_turns(self, tmp_path: Path) -> None:
        path = tmp_path / "state.bin"

        def append(name: int) -> None:
            place, history = StateFile(path), []
            for n in range(20):
                history.append(100 * name + n)
                place.save(UserState(history=history))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(append, range(4)))
        assert sorted(read_state(path).history) == sorted(
            100 * name + n for name in range(4) for n in range(20)
        )


class TestSeveralProcesses:
    def test_nothing_is_lost(self, tmp_path: Path) -> None:
        path = tmp_path / "state.bin"
        StateFile(path).save(UserState(history=["before"]))
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", APPENDER, str(path), name, "40"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for name in "abc"
        ]
        for writer in writers:
            assert writer.stdout is not None
            writer.stdout.readline()
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.close()
        for writer in writers:
            assert writer.wait(60) == 0
            assert writer.stdout is not None
            writer.stdout.close()
        state = read_state(path)
        assert state.history[0] == "before"
        for name in "abc":
            own = [
                item_id for item_id in state.history if str(item_id).startswith(name) and item_id != "before"
            ]
            assert own == [f"{name}{n}" for n in range(40)]
        assert state.counters == {"events": 120}
        assert os.listdir(tmp_path) == ["state.bin"]

    def test_the_second_writer_merges(self, tmp_path: Path) -> None:
        path = tmp_path / "state.bin"
        learned = {"u": np.array([1.0, 2.0], np.float32)}
        StateFile(path).save(UserState(history=[1], bundle="b", learned=learned))
        first, second = StateFile(path), StateFile(path)
        first.load(), second.load()
        first.save(UserState(history=[1, 2], bundle="b", learned={"u": np.array([2.0, 2.0], np.float32)}))
        second.save(UserState(history=[1, 3], bundle="b", learned={"u": np.array([1.0, 5.0], np.float32)}))
        second.save(UserState(history=[1, 3, 4], bundle="b", learned={"u": np.array([1.0, 6.0], np.float32)}))
        merged = read_state(path)
        assert merged.history == [1, 2, 3, 4]
        np.testing.assert_array_equal(merged.learned["u"], [2.0, 6.0])

    def test_what_was_erased_stays_erased(self, tmp_path: Path) -> None:
        path = tmp_path / "state.bin"
        place = StateFile(path)
        place.save(UserState(history=[1]))
        StateFile(path).erase()
        with pytest.raises(StateError, match=r"state\.bin: erased since it was read; nothing was written"):
            place.save(UserState(history=[1, 2]))
        assert os.listdir(tmp_path) == []

    def test_a_state_damaged_meanwhile_is_not_overwritten(self, tmp_path: Path) -> None:
        path = tmp_path / "state.bin"
        place = StateFile(path)
        place.save(UserState(history=[1]))
        path.write_bytes(b"something else")
        with pytest.raises(StateError, match="not a user's state"):
            place.save(UserState(history=[1, 2]))
        assert path.read_bytes() == b"something else"


class TestLock:
    def test_who_waits_too_long_is_told(self, tmp_path: Path) -> None:
        path, held, done = str(tmp_path / "lock"), threading.Event(), threading.Event()

        def hold() -> None:
            with exclusive(path):
                held.set()
                done.wait(10)

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait(10)
        told = r"lock: held by another process for more than 0\.05 s"
        with pytest.raises(StateError, match=told), exclusive(path, wait_seconds=0.05):
            pass
        done.set()
        holder.join()
        with exclusive(path, wait_seconds=0.05):
            assert os.path.exists(path)
        assert not os.path.exists(path)

    def test_a_lock_of_the_dead_is_free(self, tmp_path: Path) -> None:
        path = tmp_path / "lock"
        code = "import os, sys; from pocketrec.runtime.file_lock import exclusive\nwith exclusive(sys.argv[1]): os._exit(9)"
        assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
        assert path.exists()
        with exclusive(str(path), wait_seconds=0.5):
            pass


class TestCipher:
    def test_nothing_readable_reaches_the_disk(self, tmp_path: Path) -> None:
        place = StateFile(tmp_path / "state.bin", Cipher(xor, unxor))
        place.save(UserState(history=["a secret"]))
        place.save(UserState(history=["a secret", "another"]))
        assert b"secret" not in place.path.read_bytes()
        loaded = StateFile(place.path, Cipher(xor, unxor)).load()
        assert loaded is not None
        assert loaded.history == ["a secret", "another"]

    @pytest.mark.parametrize("position", [0, 40, -1])
    def test_what_is_not_authentic_is_refused(self, tmp_path: Path, position: int) -> None:
        path = tmp_path / "state.bin"
        StateFile(path, Cipher(xor, unxor)).save(UserState(history=[1]))
        raw = bytearray(path.read_bytes())
        raw[position] ^= 1
        path.write_bytes(raw)
        with pytest.raises(
            StateError, match=r"cannot be decrypted \(ValueError: not authentic\); give the key"
        ):
            StateFile(path, Cipher(xor, unxor)).load()

    def test_a_plain_file_needs_no_key(self, tmp_path: Path) -> None:
        path = tmp_path / "state.bin"
        StateFile(path).save(UserState())
        with pytest.raises(StateError, match="cannot be decrypted"):
            StateFile(path, Cipher(xor, unxor)).load()

    def test_an_encrypted_file_without_the_key(self, tmp_path: Path) -> None:
        path = tmp_path / "state.bin"
        StateFile(path, Cipher(xor, unxor)).save(UserState())
        with pytest.raises(StateError, match="not a user's state"):
            StateFile(path).load()


class TestErase:
    def test_the_file_and_what_a_crash_left(self, tmp_path: Path) -> None:
        place = StateFile(tmp_path / "state.bin")
        place.save(UserState(history=[1]))
        for name in (".state.bin.x1.tmp", ".state.bin.lock", "other.bin", ".other.bin.x1.tmp"):
            (tmp_path / name).write_bytes(b"")
        place.erase()
        assert sorted(os.listdir(tmp_path)) == [".other.bin.x1.tmp", "other.bin"]
        place.erase()  # nothing there
        assert place.load() is None
        place.save(UserState(history=[2]))
        assert read_state(place.path).history == [2]

    def test_no_folder(self, tmp_path: Path) -> None:
        StateFile(tmp_path / "no" / "state.bin").erase()
        assert os.listdir(tmp_path) == []

    def test_leftovers_go_at_the_first_save(self, tmp_path: Path) -> None:
        (tmp_path / ".state.bin.x1.tmp").write_bytes(b"")
        StateFile(tmp_path / "state.bin").save(UserState())
        assert os.listdir(tmp_path) == ["state.bin"]


class TestWithARanker:
    @pytest.fixture
    def ranker(self, range_bundle: Path) -> Reranker:
        return Reranker.load(range_bundle)

    def test_two_users_of_one_file(self, ranker: Reranker, tmp_path: Path) -> None:
        path = tmp_path / "state.bin"
        ranker.user(path).save()
        first, second = ranker.user(path), ranker.user(path)
        first.feedback(3)
        first.feedback(9, clicked=False)
        second.feedback(4)
        second.feedback(5)
        first.save()
        second.save()
        second.feedback(6)
        second.save()
        state = ranker.user(path).state
        assert (state.history, state.dismissed) == ([3, 4, 5, 6], [9])
        assert state.counters["learned_events"] == 5
        vectors = [user.state.learned["user_vector_0"] for user in (first, second)]
        np.testing.assert_allclose(state.learned["user_vector_0"], np.sum(vectors, axis=0), atol=1e-6)

    def test_saving_does_not_keep_another_thread_from_ranking(
        self, ranker: Reranker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        user, syncing, ranked = ranker.user(tmp_path / "state.bin"), threading.Event(), threading.Event()

        def slow(_: int) -> None:
            syncing.set()
            assert ranked.wait(10)

        monkeypatch.setattr(os, "fsync", slow)
        saver = threading.Thread(target=user.save)
        saver.start()
        assert syncing.wait(10)
        assert len(user.rerank([1, 2, 3])) == 3
        user.feedback(7)
        ranked.set()
        saver.join()
        assert read_state(tmp_path / "state.bin").history == []
        user.save()
        assert read_state(tmp_path / "state.bin").history == [7]

    def test_export_is_plain_json(self, ranker: Reranker) -> None:
        user = ranker.user()
        user.rerank(range(1, 51))
        user.feedback(3)
        user.feedback(4, clicked=False)
        exported = user.export()
        assert json.loads(json.dumps(exported, allow_nan=False)) == exported
        assert (exported["history"], exported["dismissed"]) == ([3], [4])

    def test_erased_everywhere(self, ranker: Reranker, tmp_path: Path) -> None:
        user = ranker.user(tmp_path / "state.bin", cipher=Cipher(xor, unxor))
        fresh = user.rerank(range(1, 51), k=50)
        user.feedback(3)
        user.save()
        user.erase()
        assert os.listdir(tmp_path) == []
        assert user.history == []
        assert user.export()["learned"] == ranker.user().export()["learned"]
        again = user.rerank(range(1, 51), k=50)
        assert [(item.item_id, item.score) for item in again] == [
            (item.item_id, item.score) for item in fresh
        ]
        user.feedback(5)
        user.save()
        assert ranker.user(tmp_path / "state.bin", cipher=Cipher(xor, unxor)).history == [5]

    def test_copies_are_encrypted_too(self, ranker: Reranker, tmp_path: Path) -> None:
        user = ranker.user(tmp_path / "state.bin", cipher=Cipher(xor, unxor))
        user.save(tmp_path / "copy.bin")
        assert os.listdir(tmp_path) == ["copy.bin"]
        with pytest.raises(StateError, match="not a user's state"):
            read_state(tmp_path / "copy.bin")
        with pytest.raises(InputError, match="cipher: it belongs to a path"):
            ranker.user(cipher=Cipher(xor, unxor))
