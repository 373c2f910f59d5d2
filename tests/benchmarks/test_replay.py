"""Replay: the same candidates for every system, nothing from the future, and figures known by construction."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pocketrec.benchmarks.replay import (
    ReplayConfig,
    Stream,
    Traces,
    candidate_lists,
    drawn,
    replay_from_time,
    replay_last_event,
    replay_last_share,
    trace,
)
from pocketrec.benchmarks.replay_bundles import replay_one
from pocketrec.benchmarks.replay_summary import replay_lines, summarize_runs
from pocketrec.benchmarks.replay_systems import AdaptiveUser, LiveModel, StaleList, standard_systems
from pocketrec.runtime import InputError, Reranker

TINY = Path(__file__).parent.parent / "runtime" / "data" / "tiny-text.pocket"
N_ITEMS = 50


@pytest.fixture(scope="module")
def ranker() -> Reranker:
    return Reranker.load(TINY)


@pytest.fixture(scope="module")
def sequences(ranker: Reranker) -> list[np.ndarray]:
    """Everybody walks through the one half of the catalogue or the other: a taste that can be learned."""
    rng = np.random.default_rng(0)
    halves = np.argsort(ranker.engine.table.lookup(np.arange(N_ITEMS))[:, 0]).reshape(2, 25)
    return [rng.permutation(halves[user % 2])[: 16 + user % 9] for user in range(90)]


@pytest.fixture(scope="module")
def result(ranker: Reranker, sequences: list[np.ndarray]) -> dict:
    return replay_one(ranker, replay_last_share(sequences, share=0.9), ReplayConfig(n_negatives=20))


class ByRow:
    """A system that always prefers high rows, and remembers what it was asked and told."""

    def __init__(self) -> None:
        self.asked: list[np.ndarray] = []
        self.told: list[int] = []

    def score(self, candidates: np.ndarray) -> np.ndarray:
        self.asked.append(candidates)
        return candidates.astype(np.float32)

    def chosen(self, row: int) -> None:
        self.told.append(row)


class Constant(ByRow):
    def score(self, candidates: np.ndarray) -> np.ndarray:
        return np.zeros(len(candidates), np.float32)


class TestStreams:
    def test_a_moment_cuts_everybody(self) -> None:
        sequences = [np.array([1, 2, 3]), np.array([4, 5]), np.array([6])]
        times = [np.array([1.0, 2.0, 9.0]), np.array([8.0, 9.0]), np.array([1.0])]
        replay = replay_from_time(sequences, times, quantile=0.5)
        assert [(s.user, s.history.tolist(), s.events.tolist()) for s in replay.streams] == [
            (0, [1, 2], [3]),
            (1, [], [4, 5]),
        ]
        assert [sequence.tolist() for sequence in replay.training] == [[1, 2], [], [6]]

    def test_the_last_share_of_each_user(self) -> None:
        replay = replay_last_share([np.arange(10), np.arange(1), np.empty(0, np.int64)], share=0.3)
        assert [(s.history.tolist(), s.events.tolist()) for s in replay.streams] == [
            ([0, 1, 2, 3, 4, 5, 6], [7, 8, 9]),
            ([], [0]),
        ]
        assert [len(sequence) for sequence in replay.training] == [7, 0, 0]

    def test_what_cannot_be_cut(self) -> None:
        with pytest.raises(InputError, match="needs times"):
            replay_from_time([np.arange(3)], None)
        with pytest.raises(InputError, match="between 0 and 1"):
            replay_from_time([np.arange(3)], [np.arange(3.0)], quantile=1.0)
        with pytest.raises(InputError, match="between 0 and 1"):
            replay_last_share([np.arange(3)], share=0.0)
        with pytest.raises(InputError, match="one side of the cut"):
            replay_from_time([np.arange(3)], [np.zeros(3)])
        with pytest.raises(InputError, match="one side of the cut"):
            replay_last_share([np.empty(0, np.int64)])

    @pytest.mark.parametrize(
        "changes", [{"n_negatives": 0}, {"max_events": 0}, {"max_users": 0}, {"candidates": "all"}]
    )
    def test_configurations_that_mean_nothing(self, changes: dict) -> None:
        with pytest.raises(InputError, match="replay: "):
            ReplayConfig(**changes)

    def test_the_last_event_after_the_one_before_was_told(self, ranker: Reranker) -> None:
        replay = replay_last_event([np.array([1, 2, 3, 4]), np.array([5, 6])])
        assert [(s.history.tolist(), s.events.tolist(), s.n_told) for s in replay.streams] == [
            ([1, 2], [3, 4], 1)
        ]
        assert [s.tolist() for s in replay.training] == [[1, 2], []]
        told: list[ByRow] = []
        traces = trace({"live": lambda _: told.append(ByRow()) or told[-1]}, replay, N_ITEMS, ReplayConfig())
        assert told[0].told == [3, 4]
        assert len(traces.ranks[0]["live"]) == 1
        with pytest.raises(InputError, match="no user has three events"):
            replay_last_event([np.array([1, 2])])


class TestCandidates:
    stream = Stream(0, np.array([0, 1]), np.array([5, 6, 5]))

    def test_the_target_is_there_once_and_what_was_chosen_is_not(self) -> None:
        popularity = np.arange(N_ITEMS, dtype=np.float64)
        for n, (target, rows) in enumerate(
            candidate_lists(self.stream, popularity, ReplayConfig(n_negatives=10))
        ):
            assert target == self.stream.events[n]
            assert len(rows) == len(np.unique(rows)) == 11
            assert (rows == target).sum() == 1
            chosen = [0, 1, *self.stream.events[:n].tolist()]
            assert not np.isin(rows, [row for row in chosen if row != target]).any()

    def test_the_catalogue(self) -> None:
        lists = list(candidate_lists(self.stream, np.ones(N_ITEMS), ReplayConfig(candidates="catalogue")))
        assert [len(rows) for _, rows in lists] == [48, 47, 47]

    def test_the_catalogue_ends(self) -> None:
        stream = Stream(0, np.array([0]), np.array([1, 2]))
        lists = [rows.tolist() for _, rows in candidate_lists(stream, np.ones(3), ReplayConfig())]
        assert lists == [[1, 2], [2]]

    def test_popular_items_are_drawn_more_often(self) -> None:
        popularity = np.where(np.arange(N_ITEMS) < 10, 100.0, 1.0)
        stream = Stream(3, np.empty(0, np.int64), np.tile([48, 49], 200))
        drawn = np.concatenate(
            [
                rows
                for _, rows in candidate_lists(
                    stream, popularity, ReplayConfig(n_negatives=5, max_events=400)
                )
            ]
        )
        assert (drawn < 10).mean() > 0.7

    def test_users_draw_their_own(self) -> None:
        popularity = np.ones(N_ITEMS)
        config = ReplayConfig(n_negatives=10)

        def first(user: int) -> list[int]:
            stream = Stream(user, np.empty(0, np.int64), np.array([5]))
            return next(iter(candidate_lists(stream, popularity, config)))[1].tolist()

        assert first(0) == first(0) != first(1)


class TestTrace:
    def test_every_system_gets_the_same_and_is_told_everything(self, sequences: list[np.ndarray]) -> None:
        replay = replay_last_share(sequences, share=0.5)
        one: list[ByRow] = []
        other: list[ByRow] = []

        def start(kept: list[ByRow]):
            return lambda _: kept.append(ByRow()) or kept[-1]

        trace({"live": start(one), "other": start(other)}, replay, N_ITEMS, ReplayConfig(n_negatives=10))
        assert len(one) == len(replay.streams)
        for a, b, stream in zip(one, other, replay.streams, strict=True):
            assert a.told == b.told == stream.events.tolist()
            assert all((x == y).all() for x, y in zip(a.asked, b.asked, strict=True))

    def test_ranks_by_construction(self) -> None:
        replay = replay_last_share([np.array([3, 0, 2, 1])], share=0.75)
        traces = trace({"live": lambda _: ByRow()}, replay, 4, ReplayConfig(candidates="catalogue"))
        # candidates 0 1 2, chosen 0; then 1 2, chosen 2; then 1
        assert traces.ranks[0]["live"].tolist() == [3, 1, 1]

    def test_ties_and_numbers_that_are_none_count_against_the_system(self) -> None:
        replay = replay_last_share([np.array([3, 0, 2, 1])], share=0.75)
        config = ReplayConfig(candidates="catalogue")
        assert trace({"live": lambda _: Constant()}, replay, 4, config).ranks[0]["live"].tolist() == [3, 2, 1]

    def test_the_bundles_systems_see_no_future(self, ranker: Reranker, sequences: list[np.ndarray]) -> None:
        """What a system says of the first event does not depend on the later ones."""
        candidates = np.arange(20)
        for start in standard_systems(ranker).values():
            a = start(Stream(0, sequences[0][:5], sequences[0][5:])).score(candidates)
            b = start(Stream(0, sequences[0][:5], sequences[1])).score(candidates)
            np.testing.assert_array_equal(a, b)

    def test_before_the_first_event_all_systems_agree(
        self, ranker: Reranker, sequences: list[np.ndarray]
    ) -> None:
        for history in (sequences[0][:5], sequences[0][:0]):
            stream, candidates = Stream(0, history, sequences[1]), np.arange(20)
            stale = StaleList(ranker, stream).score(candidates)
            live = LiveModel(ranker, stream).score(candidates)
            adaptive = AdaptiveUser(ranker, stream).score(candidates)
            assert np.argsort(-stale).tolist() == np.argsort(-live).tolist()
            np.testing.assert_array_equal(live, adaptive)


class TestReplayOne:
    def test_it_is_json_and_complete(self, result: dict, sequences: list[np.ndarray]) -> None:
        json.dumps(result, allow_nan=False)
        assert (result["users"], result["new_users"]) == (90, 0)
        assert {*result["ndcg@10"]} == {"stale", "live", "adaptive"}
        assert [(gain["system"], gain["over"]) for gain in result["gains"]] == [
            ("stale", "live"),
            ("adaptive", "live"),
            ("adaptive", "stale"),
        ]

    def test_learning_helps_where_there_is_something_to_learn(self, result: dict) -> None:
        """The bundle is random, the users have a taste: whoever learns finds it."""
        gain = next(g for g in result["gains"] if (g["system"], g["over"]) == ("adaptive", "live"))
        assert gain["percent"]["low"] > 0

    def test_the_curve(self, result: dict, sequences: list[np.ndarray]) -> None:
        curve = result["learning_curve"]
        assert [(point["first"], point["last"]) for point in curve] == [
            (1, 1),
            (2, 2),
            (3, 5),
            (6, 10),
            (11, 20),
            (21, 22),
        ]
        assert [point["users"] for point in curve][:2] == [90, 90]
        assert curve[0]["live"] == curve[0]["adaptive"]  # nothing learned yet

    def test_the_same_twice(self, ranker: Reranker, sequences: list[np.ndarray], result: dict) -> None:
        again = replay_one(ranker, replay_last_share(sequences, share=0.9), ReplayConfig(n_negatives=20))
        assert again == result

    def test_bounds(self, ranker: Reranker, sequences: list[np.ndarray]) -> None:
        replay, config = (
            replay_last_share(sequences, share=0.9),
            ReplayConfig(max_users=4, max_events=3, n_negatives=5),
        )
        done: list[int] = []
        result = replay_one(ranker, replay, config, progress=done.append)
        assert (result["users"], result["events"], sum(done)) == (4, 12, len(drawn(replay.streams, config)))

    def test_lines_for_people(self, result: dict) -> None:
        lines = replay_lines(result)
        assert lines[0].startswith("replay: 90 users (0 new), ")
        assert "NDCG@10" in lines[1]
        (over,) = (line for line in replay_lines(result, "live") if "adaptive over" in line)
        assert "over live" in over
        assert "of the users lose more than 2%" in over
        assert next(line for line in lines if "by event" in line).split()[2:] == [
            "1",
            "2",
            "3-5",
            "6-10",
            "11-20",
            "21-22",
        ]


class TestRuns:
    def runs(self) -> list[Traces]:
        perfect, last = np.array([1, 1]), np.array([11, 11])
        ranks = {"live": last, "adaptive": perfect}
        return [
            Traces([3, 5], [True, True], [ranks, {"live": perfect, "adaptive": last}]),
            Traces([5, 3], [True, True], [ranks, ranks]),
        ]

    def test_a_users_figure_is_the_mean_over_the_runs(self) -> None:
        summary = summarize_runs(self.runs())
        assert summary["by_user"] == {"user": [3, 5], "live": [0.0, 0.5], "adaptive": [1.0, 0.5]}
        assert (summary["users"], summary["runs"], summary["events"]) == (2, 2, 4)
        assert summary["share_of_users_that_lose"] == {"live": 0.0}

    def test_new_users_by_their_first_events(self) -> None:
        first = summarize_runs(self.runs())["new_users_first_events"]
        assert first["ndcg@10"] == {"live": 0.25, "adaptive": 0.75}
        assert first["gains"][0]["percent"]["value"] == pytest.approx(200.0)

    def test_the_curve_of_new_users(self) -> None:
        """Two new users, who gain from the third event on, beside one who is not new and loses."""
        live, learning = np.array([11, 11, 11, 1, 1, 1]), np.array([11, 11, 1, 1, 1, 1])
        run = Traces(
            [1, 2, 3],
            [True, False, True],
            [
                {"live": live, "adaptive": learning},
                {"live": learning, "adaptive": live},
                {"live": live[:4], "adaptive": learning[:4]},
            ],
        )
        summary = summarize_runs([run, run])
        curve = summary["new_users_learning_curve"]
        assert [(p["first"], p["last"], p["users"]) for p in curve] == [
            (1, 1, 2),
            (2, 2, 2),
            (3, 5, 2),
            (6, 6, 1),
        ]
        assert [p["adaptive"] for p in curve] == [0, 0, 1, 1]
        assert [p["live"] for p in curve] == pytest.approx([0, 0, (2 / 3 + 1 / 2) / 2, 1])
        # up to event 5: live 2/5 and 1/4, learning 3/5 and 1/2
        (gain,) = curve[2]["gains_so_far"]
        assert (gain["system"], gain["over"]) == ("adaptive", "live")
        assert gain["percent"]["value"] == pytest.approx(100 * (1.1 / 0.65 - 1))
        assert curve[0]["gains_so_far"][0]["percent"]["value"] is None  # nothing over nothing
        printed = replay_lines({**summary, "protocol": "", "candidates": ""})
        assert "  new users, up to event, over live       1 n/a, 2 n/a, 5 +69.2%, 6 +55.6%" in printed

    def test_who_loses(self) -> None:
        ranks = [{"live": np.array([1]), "adaptive": np.array([rank])} for rank in (1, 2, 11, 1)]
        summary = summarize_runs([Traces([0, 1, 2, 3], [False] * 4, ranks)])
        assert summary["share_of_users_that_lose"] == {"live": 0.5}
        assert summary["losing_by_chance"]["live"].keys() == {"if_all_gained_alike", "beyond_noise"}
        assert "new_users_first_events" not in summary
        assert "new_users_learning_curve" not in summary
