"""Feedback of all kinds: what it teaches, when it comes late or twice, and that it can be taken back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pocketrec.runtime import InputError, Reranker, User
from pocketrec.runtime.feedback_event import HABIT, VISIT, Event, Habits, Lesson, event_key, read_event
from pocketrec.runtime.impressions import OUTCOMES_KEPT, PLACES_KEPT, ImpressionLog
from pocketrec.runtime.journal import SEGMENT, Journal
from pocketrec.runtime.shown_lately import LISTS_BY_ID
from pocketrec.runtime.user_state import HISTORY_KEPT, UserState, from_bytes, to_bytes

ITEMS = list(range(1, 51))


@pytest.fixture(params=["tiny-range.pocket", "tiny-taste.pocket"])
def ranker(request: pytest.FixtureRequest, range_bundle: Path) -> Reranker:
    return Reranker.load(range_bundle.parent / request.param)


@pytest.fixture
def user(ranker: Reranker) -> User:
    user = ranker.user()
    user.observe(4, 42, 8)
    return user


def everything(user: User) -> bytes:
    """The state, without the numbers and the log of the rankings: what feedback changes."""
    state = user.state
    counters = {name: value for name, value in state.counters.items() if name != "rankings"}
    extra = {name: value for name, value in state.extra.items() if name != "impressions"}
    return to_bytes(UserState(state.history, state.dismissed, state.bundle, state.learned, counters, extra))


class TestLessons:
    @pytest.mark.parametrize(
        ("kind", "lesson"),
        [
            ("click", Lesson(True, 1.0)),
            ("purchase", Lesson(True, 2.0)),
            ("share", Lesson(True, 1.5)),
            ("dismiss", Lesson(False, 1.0, joins=False)),
            ("skip", None),
        ],
    )
    def test_without_a_value(self, kind: str, lesson: Lesson | None) -> None:
        assert Habits().lesson(Event(1, kind)) == lesson

    @pytest.mark.parametrize(
        ("seconds", "lesson"),
        [
            (0.0, None),
            (29.9, None),
            (30.0, Lesson(True, 0.5)),
            (59.0, Lesson(True, 0.5)),
            (60.0, Lesson(True, 1.0)),
        ],
    )
    def test_a_dwell_beside_the_users_median(self, seconds: float, lesson: Lesson | None) -> None:
        assert Habits(dwells=[10, 20, 30, 40, 500]).lesson(Event(1, "dwell", seconds)) == lesson

    @pytest.mark.parametrize(
        ("stars", "lesson"),
        [
            (4.0, Lesson(True, 1.0)),
            (3.0, Lesson(True, 1.0)),
            (2.5, Lesson(True, 0.0)),
            (1.6, Lesson(True, 0.0)),
            (1.5, Lesson(False, 1.0)),
        ],
    )
    def test_a_rating_beside_the_users_mean(self, stars: float, lesson: Lesson) -> None:
        assert Habits(ratings=[2, 4, 2, 4, 2, 4]).lesson(Event(1, "rating", stars)) == lesson

    def test_until_there_is_a_habit(self) -> None:
        habits = Habits()
        for n in range(HABIT):
            assert habits.lesson(Event(1, "dwell", 10.0 * n)) is None
            assert habits.lesson(Event(1, "rating", 1.0)) == Lesson(True, 1.0)
        assert habits.lesson(Event(1, "dwell", 90.0)) is not None
        assert habits.lesson(Event(1, "rating", 0.5)) == Lesson(False, 1.0)

    def test_weights_are_how_far_a_click_moves(self, ranker: Reranker) -> None:
        moved = {}
        for kind in ("dwell", "click", "share", "purchase"):
            user = ranker.user()
            for seconds in (1.0, 2.0, 3.0, 4.0, 5.0):
                user.feedback(1, kind="dwell", value=seconds)
            user = ranker.user() if kind != "dwell" else user
            user.rerank(ITEMS)
            user.feedback(9, kind=kind, value=4.0 if kind == "dwell" else None)  # type: ignore[arg-type]
            moved[kind] = float(np.abs(user._model.mixture.residuals[0].vector).sum())
        assert 0 < moved["dwell"] < moved["click"] < moved["share"] < moved["purchase"]
        assert moved["purchase"] < 2.5 * moved["click"]

    def test_a_skip_teaches_nothing_but_is_logged(self, ranker: Reranker, user: User) -> None:
        shown = user.rerank(ITEMS)
        before = user.rerank(ITEMS, 50)
        user.feedback(shown[2].item_id, kind="skip")
        user.feedback(shown[1].item_id, clicked=False, kind="skip", ranking=shown)
        assert user.rerank(ITEMS, 50) == before
        assert user.history == [4, 42, 8]
        assert [(o.position, o.kind) for o in user.log.outcomes] == [(3, "skip"), (2, "skip")]

    def test_what_joins_the_history(self, user: User) -> None:
        user.feedback(9)
        for kind in ("purchase", "share", "click", "purchase"):
            user.feedback(9, kind=kind)  # type: ignore[arg-type]
        assert user.history == [4, 42, 8, 9, 9]  # two clicks; the others belong to their visits
        user.observe(*range(20, 20 + VISIT))
        user.feedback(9, kind="purchase")
        assert user.history[-1] == 9
        user.feedback(33, kind="dwell", value=5.0)  # no habit yet: it says nothing
        user.feedback(34, kind="skip")
        user.feedback(35, kind="dismiss")
        assert user.history[-1] == 9

    def test_a_rating_that_is_not_good_joins_the_history_and_teaches_nothing(self, ranker: Reranker) -> None:
        user = ranker.user()
        for stars in (2, 4, 2, 4, 2, 4):
            user.feedback(3, kind="rating", value=stars)
        n_events = user._model.mixture.n_events
        user.feedback(9, kind="rating", value=2.5)
        assert user.history[-1] == 9
        assert user._model.mixture.n_events == n_events

    def test_a_bad_rating_is_a_dismissal_until_it_is_chosen(self, user: User) -> None:
        for _ in range(HABIT):
            user.feedback(3, kind="rating", value=4)
        user.feedback(7, kind="rating", value=1)
        assert user.history[-1] == 7  # it was seen all the same
        assert user.rerank(ITEMS, 50)[-1].item_id == 7
        user.feedback(7, kind="share")
        assert user.rerank(ITEMS, 50)[-1].item_id != 7


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            (
                {"kind": "like"},
                r"^feedback: kind 'like', expected one of click, skip, dismiss, dwell, rating",
            ),
            (
                {"kind": "purchase", "clicked": False},
                r"^feedback: clicked=False with kind 'purchase'; give the kind alone$",
            ),
            ({"kind": "dwell"}, r"^feedback: value None for dwell, expected a value, seconds or stars$"),
            ({"value": 3}, r"^feedback: value 3 for click, expected none$"),
            (
                {"kind": "dwell", "value": -1},
                r"^feedback: value -1.0 for dwell, expected seconds of at least 0$",
            ),
            ({"kind": "rating", "value": float("nan")}, r"^feedback: value nan, expected a finite number$"),
            ({"kind": "rating", "value": "5"}, r"^feedback: value '5', expected a finite number$"),
            ({"position": 0}, r"^feedback: position 0, expected an integer from 1 on$"),
            ({"position": 1.5}, r"^feedback: position 1.5, expected"),
            ({"time": float("inf")}, r"^feedback: time inf, expected a finite number$"),
            ({"event_id": 1.5}, r"^feedback: event_id 1.5, expected an integer or a string$"),
            (
                {"ranking": "first"},
                r"^feedback: ranking 'first', expected a ranking of this user, or its id$",
            ),
        ],
    )
    def test_options(self, user: User, changes: dict[str, object], text: str) -> None:
        before = everything(user)
        with pytest.raises(InputError, match=text):
            user.feedback(7, **changes)  # type: ignore[arg-type]
        assert everything(user) == before

    def test_numpy_values_are_numbers(self) -> None:
        event = read_event(
            1,
            kind="rating",
            value=np.float32(4),
            position=np.int64(2),
            time=np.float64(7),
            ranking=np.int32(3),
        )
        assert event == Event(1, "rating", 4.0, 2, 7.0, None, 3)


class TestTwice:
    def test_the_same_event_is_ignored(self, user: User, ranker: Reranker, tmp_path: Path) -> None:
        user.rerank(ITEMS)
        assert user.feedback(9, event_id="a1")
        after = everything(user)
        assert not user.feedback(9, event_id="a1")
        assert not user.feedback(10, kind="purchase", event_id="a1")
        assert everything(user) == after
        user.save(tmp_path / "state.bin")
        restored = ranker.user(tmp_path / "state.bin")
        assert not restored.feedback(9, event_id="a1")
        assert everything(restored) == after

    def test_ids_are_known_by_their_type(self, user: User) -> None:
        assert user.feedback(9, event_id=7)
        assert user.feedback(9, event_id="7")
        assert not user.feedback(9, event_id=np.int64(7))
        assert event_key(7) != event_key("7")

    def test_without_an_id_everything_counts(self, user: User) -> None:
        assert user.feedback(9)
        assert user.feedback(9)
        assert user.history[-2:] == [9, 9]


class TestUndo:
    def busy(self, user: User, n: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(n):
            shown = user.rerank(rng.permutation(ITEMS)[:20].tolist())
            item_id = shown[int(rng.integers(10))].item_id
            match int(rng.integers(5)):
                case 0:
                    user.feedback(item_id, clicked=False)
                case 1:
                    user.feedback(item_id, kind="rating", value=float(rng.integers(1, 6)))
                case 2:
                    user.feedback(item_id, kind="dwell", value=float(rng.integers(1, 100)))
                case _:
                    user.feedback(item_id, event_id=int(rng.integers(10**9)))

    @pytest.mark.parametrize("n_before", [0, 3, SEGMENT - 1, SEGMENT, 2 * SEGMENT + 5])
    @pytest.mark.parametrize(
        "what",
        [{}, {"clicked": False}, {"kind": "purchase"}, {"kind": "rating", "value": 1.0}, {"time": -5.0}],
    )
    def test_the_last_event_is_as_if_it_had_never_been(
        self, user: User, n_before: int, what: dict[str, object]
    ) -> None:
        self.busy(user, n_before)
        shown = user.rerank(ITEMS, 50)
        before, ranking = everything(user), user.rerank(ITEMS, 50)
        user.feedback(shown[12].item_id, event_id="the one", **what)  # type: ignore[arg-type]
        assert everything(user) != before
        assert user.undo()
        assert everything(user) == before
        assert user.rerank(ITEMS, 50) == ranking
        assert user.feedback(shown[12].item_id, event_id="the one")  # and may come again

    def test_what_came_after_it_is_applied_again(self, ranker: Reranker) -> None:
        """Undone in the middle: the same as a user who was shown the same lists and never gave it."""
        with_it, without = ranker.user(), ranker.user()
        candidates = [np.random.default_rng(n).permutation(ITEMS)[:20].tolist() for n in range(5)]
        lists = [with_it.rerank(listed) for listed in candidates]
        assert [without.rerank(listed) for listed in candidates] == lists
        for n in range(5):
            for user in (with_it, without):
                if n != 2 or user is with_it:
                    user.feedback(lists[n][n].item_id, event_id=n, ranking=lists[n])
        with_it.observe(7)
        without.observe(7)
        assert everything(with_it) != everything(without)
        assert with_it.undo(2)
        assert everything(with_it) == everything(without)
        assert with_it.history == without.history

    def test_one_after_the_other(self, user: User) -> None:
        self.busy(user, 5)
        states = []
        for n in range(10):
            states.append(everything(user))
            user.feedback(20 + n, event_id=n)
        for state in reversed(states):
            assert user.undo()
            assert everything(user) == state

    def test_at_least_so_many_events_back(self, user: User) -> None:
        self.busy(user, 3 * SEGMENT)
        assert sum(user.undo() for _ in range(SEGMENT)) == SEGMENT

    def test_nothing_to_undo(self, ranker: Reranker, user: User) -> None:
        before = everything(user)
        assert not user.undo()
        user.feedback(9, event_id="a")
        after = everything(user)
        assert not user.undo("b")
        assert everything(user) == after != before
        assert not ranker.user().undo()

    def test_a_click_that_woke_a_dismissed_item(self, user: User) -> None:
        user.feedback(9, clicked=False)
        user.feedback(10, clicked=False)
        before = everything(user)
        user.feedback(9)
        user.undo()
        assert everything(user) == before

    def test_the_journal_is_bounded(self) -> None:
        journal: Journal[int, int] = Journal(segment=4)
        for n in range(1000):
            journal.record(n, lambda n=n: n)
        assert sum(len(entries) for _, entries in journal._segments) <= 8
        assert journal.undo(lambda n: n == 3) is None
        assert journal.undo(lambda n: n == 995) == (992, [992, 993, 994, 996, 997, 998, 999])


class TestTime:
    def test_late_events_take_their_place(self, ranker: Reranker) -> None:
        late, punctual = ranker.user(), ranker.user()
        late.observe(1, time=10)
        late.observe(4, time=40)
        late.observe(3, time=30)
        late.observe(2, time=20)
        for n in (1, 2, 3, 4):
            punctual.observe(n, time=10 * n)
        assert late.history == punctual.history == [1, 2, 3, 4]
        assert late.rerank(ITEMS, 50) == punctual.rerank(ITEMS, 50)
        assert late.recommend(10) == punctual.recommend(10)

    def test_feedback_too_and_over_a_restart(self, ranker: Reranker, tmp_path: Path) -> None:
        user = ranker.user()
        user.feedback(1, time=1)
        user.feedback(3, time=3)
        user.save(tmp_path / "state.bin")
        user = ranker.user(tmp_path / "state.bin")
        user.feedback(2, time=2)
        assert user.history == [1, 2, 3]

    def test_nothing_goes_before_an_event_without_a_time(self, user: User) -> None:
        user.observe(9)
        user.observe(10, time=5)
        user.observe(11, time=4)
        user.observe(12)
        user.observe(13, time=1)
        assert user.history == [4, 42, 8, 9, 11, 10, 12, 13]

    def test_equal_times_keep_the_order_in_which_they_came(self, user: User) -> None:
        for item_id in (9, 10, 11):
            user.observe(item_id, time=1)
        assert user.history[-3:] == [9, 10, 11]

    def test_what_is_older_than_all_that_is_kept_is_forgotten(self, ranker: Reranker) -> None:
        user = ranker.user()
        for n in range(HISTORY_KEPT):
            user.observe(1 + n % 50, time=n)
        before = user.history
        user.observe(7, time=-1)
        assert user.history == before

    def test_the_encoder_sees_the_order_of_the_times(self, ranker: Reranker) -> None:
        user = ranker.user()
        for item_id, time in ((5, 1), (6, 3), (7, 2)):
            user.feedback(item_id, time=time)
        expected = ranker.engine.encode(np.array([[4, 6, 5]]))[0]
        np.testing.assert_array_equal(user._model.experts().base, expected)


class TestLate:
    def test_it_is_learned_against_the_list_that_it_was_made_on(self, ranker: Reranker) -> None:
        """Five lists later, and with its number: the same lesson as at once."""
        at_once, late = ranker.user(), ranker.user()
        lists = [np.random.default_rng(n).permutation(ITEMS).tolist() for n in range(6)]
        for user in (at_once, late):
            shown = user.rerank(lists[0][:10], 10)
            if user is at_once:
                user.feedback(shown[4].item_id, ranking=shown)
            for candidates in lists[1:]:
                user.rerank(candidates)
            if user is late:
                user.feedback(shown[4].item_id, ranking=shown.id)
        assert everything(late) == everything(at_once)

    def test_after_a_restart_the_log_still_has_what_was_displayed(
        self, ranker: Reranker, tmp_path: Path
    ) -> None:
        user = ranker.user(tmp_path / "state.bin")
        user.observe(4)
        shown = user.rerank(ITEMS, 10)
        user.save()
        restored = ranker.user(tmp_path / "state.bin")
        restored.feedback(shown[5].item_id, ranking=shown.id)
        # the ten displayed, ranked by the same experts: as if these had been all the candidates
        fresh = ranker.user()
        fresh.observe(4)
        again = fresh.rerank([item.item_id for item in shown], 10)
        fresh.feedback(again[5].item_id)
        learned = [u._model.mixture.residuals[0].vector for u in (restored, fresh)]
        np.testing.assert_allclose(learned[0], learned[1], rtol=1e-4, atol=1e-6)
        assert restored.log.outcomes[-1] == (shown.id, 6, "click")

    def test_a_ranking_that_nobody_remembers(self, user: User) -> None:
        user.feedback(9, ranking=12345)
        assert user._model.mixture.n_events == 1
        assert np.isfinite([item.score for item in user.rerank(ITEMS, 50)]).all()

    def test_an_item_that_the_named_ranking_had_not(self, user: User) -> None:
        shown = user.rerank(ITEMS[:10])
        user.feedback(40, ranking=shown)
        assert user.history[-1] == 40
        assert not user.log.outcomes  # nobody knows where it stood

    def test_lists_in_memory_are_bounded(self, user: User) -> None:
        for _ in range(100):
            user.rerank(ITEMS)
        assert len(user._lately._lists) == LISTS_BY_ID


class TestLog:
    def test_positions_are_where_our_list_had_it_or_where_the_app_says(self, user: User) -> None:
        shown = user.rerank(ITEMS, 10)
        user.feedback(shown[6].item_id)
        user.feedback(shown[3].item_id, position=9)
        assert [tuple(o) for o in user.log.outcomes] == [(shown.id, 7, "click"), (shown.id, 9, "click")]

    def test_it_survives_a_restart(self, ranker: Reranker, tmp_path: Path) -> None:
        user = ranker.user(tmp_path / "state.bin")
        user.feedback(user.rerank([*ITEMS, "new"], 60)[3].item_id)
        user.save()
        log = ranker.user(tmp_path / "state.bin").log
        assert log.impressions == user.log.impressions
        assert log.outcomes == user.log.outcomes
        assert len(log.impressions[0].item_ids) == PLACES_KEPT

    def test_a_state_stays_small(self, ranker: Reranker, tmp_path: Path) -> None:
        user, rng = ranker.user(tmp_path / "state.bin"), np.random.default_rng(0)
        for n in range(700):
            shown = user.rerank(rng.permutation(ITEMS).tolist(), 50)
            user.feedback(shown[n % 50].item_id, event_id=f"event {n}", time=n)
        assert user.save() <= 40 * 1024
        assert len(user.log.outcomes) == OUTCOMES_KEPT
        assert everything(ranker.user(tmp_path / "state.bin")).startswith(b"\x93PKUSER")

    @pytest.mark.parametrize(
        "extra",
        [
            {
                "impressions": 3,
                "outcomes": {"a": 1},
                "times": "x",
                "event_ids": 5,
                "dwells": [None, "a", True],
            },
            {
                "impressions": [[1], [1, 2, 3], ["a", [1], None], [1, [2], ["x"]]],
                "outcomes": [[1, 0, "click"], [1]],
            },
            {"times": [[1], [1, 2, 3], [None, 2.0], ["a", "b"]], "ratings": [[1]], "event_ids": [1, None]},
        ],
    )
    def test_what_is_not_as_we_write_it_is_left_out(self, ranker: Reranker, extra: dict[str, object]) -> None:
        state = from_bytes(to_bytes(UserState(history=[4, 5], extra=extra)))  # type: ignore[arg-type]
        user = User(ranker, state)
        assert not user.log.impressions
        assert not user.log.outcomes
        assert user.feedback(9, kind="dwell", value=3.0)
        assert user.history == [4, 5]

    def test_odd_candidates_do_not_break_it(self, user: User) -> None:
        user.rerank([None, 2.5, np.int64(3), "a"], 4)  # type: ignore[list-item]
        entry = ImpressionLog.extra(user.log)["impressions"][-1]
        assert sorted(entry[1], key=str) == [3, None, None, "a"]
        assert from_bytes(to_bytes(user.state)).extra["impressions"]
