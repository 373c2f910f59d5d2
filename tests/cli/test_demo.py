"""`make demo`: past and future are kept apart, and the whole road runs, on small data in MovieLens' form."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pocketrec.benchmarks import datasets
from pocketrec.benchmarks.datasets import MovieLens100K
from pocketrec.benchmarks.interactions import read_interactions
from pocketrec.benchmarks.replay import Stream
from pocketrec.cli import demo
from pocketrec.runtime.errors import InputError
from pocketrec.runtime.item_ids import ItemIds
from pocketrec.runtime.reranker import Reranker

N_FILMS, N_USERS, N_EVENTS = 40, 90, 16
TINY = Path(__file__).parent.parent / "runtime" / "data" / "tiny-range.pocket"  # ids 1..50


@pytest.fixture
def small_movielens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MovieLens100K:
    """90 users who walk the films in order; each begins a little later than the one before."""
    generator = np.random.default_rng(0)
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for user in range(N_USERS):
        start = int(generator.integers(N_FILMS))
        for step in range(N_EVENTS):
            film = (start + step) % N_FILMS + 1
            lines.append(f"{user + 1}\t{film}\t{4}\t{880_000_000 + 3600 * (10 * user + 8 * step)}")
    inter, items = tmp_path / "ml-100k.inter", tmp_path / "ml-100k.item"
    inter.write_text("\n".join(lines) + "\n")
    titles = [f"{film}\tThe Film No. {film}\t1997\tDrama" for film in range(1, N_FILMS + 1)]
    items.write_text(
        "\n".join(["item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq", *titles])
    )
    found = MovieLens100K(inter, items, "a test")
    monkeypatch.setattr(datasets, "movielens_100k", lambda path=None, cache_dir=None: found)
    return found


def calls_of(monkeypatch: pytest.MonkeyPatch, exit_code_of: Callable[[str], int]) -> list[list[str]]:
    """Stand-ins for the commands; returns the list that will hold what was run."""
    calls: list[list[str]] = []

    def command(argv: list[str]) -> int:
        calls.append(argv)
        return exit_code_of(argv[0])

    monkeypatch.setattr(demo, "pocketrec", command)
    return calls


def test_the_whole_road(
    small_movielens: MovieLens100K, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "made"
    assert demo.main(["--folder", str(folder), "--quick"]) == 0
    out = capsys.readouterr().out
    for command in ("train", "compress", "bench"):
        assert f"$ pocketrec {command} " in out
    assert "adaptive" in out
    assert "One new user, of whom nothing is known. Recommended:" in out
    assert "The Film No. " in out
    made = {path.name for path in folder.iterdir()}
    assert {"ml-100k.pocket", "teacher.pocket", "report.html", "report.json", "replay.json"} <= made
    assert json.loads((folder / "replay.json").read_text())["users"] > 5
    ids = Reranker.load(folder / "ml-100k.pocket").engine.item_ids
    assert len(ids) == N_FILMS


def test_commands_are_printed_as_typed_and_the_first_that_fails_ends_the_demo(
    small_movielens: MovieLens100K,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls = calls_of(monkeypatch, lambda command: 1 if command == "compress" else 0)
    monkeypatch.chdir(tmp_path)
    assert demo.main(["--folder", "my demo"]) == 1
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("$ ")]
    assert printed == [
        "$ pocketrec train 'my demo/ml-100k-past.inter' -o 'my demo/teacher.safetensors' --force",
        "$ pocketrec compress 'my demo/teacher.safetensors' --data 'my demo/ml-100k-past.inter'"
        " -o 'my demo/ml-100k.pocket' --teacher-out 'my demo/teacher.pocket' --force",
    ]
    assert [call[0] for call in calls] == ["train", "compress"]


def test_the_past_ends_where_the_future_begins(small_movielens: MovieLens100K, tmp_path: Path) -> None:
    interactions = read_interactions(small_movielens.inter)
    past = demo.write_past(small_movielens.inter, tmp_path / "past.inter")
    written = read_interactions(past.file)
    assert written.times is not None
    assert interactions.times is not None
    assert written.n_interactions == past.n_events == int((interactions.times < past.cut).sum())
    assert past.n_events / interactions.n_interactions == pytest.approx(0.9, abs=0.02)

    item_ids = ItemIds.from_sequence(range(1, N_FILMS + 1))
    future = demo.future_of(interactions, item_ids, past.cut)
    n_future = sum(len(stream.events) for stream in future.streams)
    assert n_future + past.n_events == interactions.n_interactions
    past_of = {user: written.history(u) for u, user in enumerate(written.user_ids)}
    for stream in future.streams:
        user = interactions.user_ids[stream.user]
        known = [written.item_ids[item] for item in past_of.get(user, [])]
        assert item_ids.ids(stream.history) == known
    assert any(len(stream.history) == 0 for stream in future.streams), "somebody is new"


def test_films_that_the_bundle_never_saw_are_left_out_of_the_future(small_movielens: MovieLens100K) -> None:
    interactions = read_interactions(small_movielens.inter)
    future = demo.future_of(interactions, ItemIds.from_sequence(range(1, 11)), cut=0.0)
    assert {int(row) for stream in future.streams for row in stream.events} == set(range(10))


def test_one_new_user_is_shown_titles_before_and_after(tmp_path: Path) -> None:
    ranker = Reranker.load(TINY)
    old = Stream(0, np.array([1]), np.arange(20))
    new = Stream(1, np.empty(0, np.int64), np.arange(20))
    titles = {film: f"Film {film}" for film in range(1, 50)}  # that of the last is not known
    lines = demo.one_new_user(ranker, [old, new], titles)
    assert [line.strip() for line in lines[7:12]] == [f"Film {film}" for film in range(1, 6)]
    before, after = lines[1:6], lines[13:18]
    assert before != after
    assert not {line.strip(" *") for line in after} & {f"Film {film}" for film in range(1, 6)}, (
        "chosen already"
    )
    for line in before + after:
        later = line.strip(" *") in {f"Film {film}" for film in range(6, 21)}
        assert line.startswith("  * ") == later
    assert demo.one_new_user(ranker, [old], titles) == []


def test_a_user_error_and_ctrl_c_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for error, exit_code, line in (
        (InputError("MovieLens-100K was not found"), 2, "demo: error: MovieLens-100K was not found\n"),
        (KeyboardInterrupt(), 130, "demo: interrupted\n"),
    ):

        def failing(path: Path | None, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(datasets, "movielens_100k", failing)
        assert demo.main(["--folder", str(tmp_path / "made")]) == exit_code
        assert capsys.readouterr().err == line
