"""`pocketrec state`: on one user's file and on a store of many."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pocketrec.cli.main import main
from pocketrec.runtime import Reranker
from pocketrec.runtime.user_state import UserState, read_state, write_state
from pocketrec.runtime.user_store import UserStore

DATA = Path(__file__).parent.parent / "runtime" / "data"
OLD, NEW = str(DATA / "tiny-range.pocket"), str(DATA / "tiny-taste.pocket")


@pytest.fixture(scope="module")
def learned() -> UserState:
    user = Reranker.load(OLD).user()
    user.observe("\x1b[31mred")  # an item of a later bundle, or an attack
    user.feedback(3)
    user.feedback(4, clicked=False)
    return user.state


@pytest.fixture
def file(tmp_path: Path, learned: UserState) -> str:
    write_state(tmp_path / "state.bin", learned)
    return str(tmp_path / "state.bin")


@pytest.fixture
def store(tmp_path: Path, learned: UserState) -> str:
    with UserStore(tmp_path / "users.db") as store:
        store.put_many((name, learned) for name in ("alice", "bob"))
    return str(tmp_path / "users.db")


def state(*args: str) -> int:
    return main(["state", *args])


class TestShow:
    def test_a_file(self, file: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert state("show", file) == 0
        lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
        assert (lines["events"], lines["dismissed"], lines["learned_events"]) == ("2", "1", "2")

    def test_as_json(self, file: str, store: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert state("show", file, "--json") == 0
        assert json.loads(capsys.readouterr().out)["size_bytes"] == Path(file).stat().st_size
        assert state("show", store, "--json") == 0
        assert json.loads(capsys.readouterr().out)["users"] == 2
        assert state("show", store, "--json", "--user", "bob") == 0
        assert json.loads(capsys.readouterr().out)["events"] == 2


class TestExport:
    def test_everything_and_nothing_that_moves_the_cursor(
        self, file: str, learned: UserState, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert state("export", file) == 0
        text = capsys.readouterr().out
        assert "\x1b" not in text
        exported = json.loads(text)
        assert exported["history"] == ["\x1b[31mred", 3]
        assert exported["dismissed"] == [4]
        assert exported["learned"]["user_vector_0"] == learned.learned["user_vector_0"].tolist()

    def test_a_store(self, store: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert state("export", store) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["user"] for line in lines] == ["alice", "bob"]
        assert state("export", store, "--user", "bob") == 0
        assert json.loads(capsys.readouterr().out)["dismissed"] == [4]


class TestErase:
    def test_a_file(self, file: str) -> None:
        assert state("erase", file) == 0
        assert not Path(file).exists()
        assert state("erase", file) == 2

    def test_a_damaged_state(self, file: str) -> None:
        Path(file).write_bytes(Path(file).read_bytes()[:100])
        assert state("show", file) == 2
        assert state("erase", file) == 0

    def test_another_file_is_left_alone(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "letter.txt"
        path.write_text("dear")
        assert state("erase", str(path)) == 2
        assert "not a user's state; nothing was erased" in capsys.readouterr().err
        assert path.read_text() == "dear"

    def test_one_of_a_store(self, store: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert state("erase", store) == 2
        assert "name one with --user" in capsys.readouterr().err
        assert state("erase", store, "--user", "alice") == 0
        with UserStore(store) as opened:
            assert list(opened.names()) == ["bob"]
        assert state("erase", store, "--user", "alice") == 2


class TestMigrate:
    @pytest.mark.parametrize("source", [(), ("--from", OLD)])
    def test_a_file(self, file: str, source: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
        assert state("migrate", file, "--to", NEW, *source) == 0
        assert "migrated; 1 of 2 events are of items that the new bundle knows" in capsys.readouterr().out
        ranker = Reranker.load(NEW)
        assert read_state(file).bundle == ranker.engine.bundle.fingerprint
        user = ranker.user(file)
        assert user.state.learned["user_vector_0"].any()
        assert user.state.dismissed == [4]

    def test_a_store(self, store: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert state("migrate", store, "--user", "bob", "--to", NEW, "--from", OLD) == 0
        assert state("migrate", store, "--to", NEW, "--from", OLD) == 0
        assert "1 of 2 users migrated" in capsys.readouterr().out

    def test_to_what(self, file: str, capsys: pytest.CaptureFixture[str]) -> None:
        before = Path(file).read_bytes()
        assert state("migrate", file) == 2
        assert "give one with --to" in capsys.readouterr().err
        assert state("migrate", file, "--to", file) == 2  # no bundle
        assert Path(file).read_bytes() == before


@pytest.mark.parametrize(
    "args",
    [
        ("show", "missing.bin"),
        ("show", OLD),  # a bundle
        ("show", "FILE", "--user", "bob"),
        ("show", "FILE", "--to", NEW),
        ("show", "STORE", "--user", "nobody"),
        ("tell", "FILE"),
    ],
)
def test_wrong_usage(
    args: tuple[str, ...], file: str, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    named = {"FILE": file, "STORE": store}
    assert state(*(named.get(arg, arg) for arg in args)) == 2
    assert "Traceback" not in capsys.readouterr().err
