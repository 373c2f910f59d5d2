"""What an app may count on when it ranks, whatever it passes."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pocketrec.runtime import InputError, RankedItem, Reranker, StateError, User
from pocketrec.runtime.server_weight import SERVER_PRIOR, ServerWeight

INF = float("inf")


@pytest.fixture
def items(ranker: Reranker) -> list:
    """All 50 ids, in the order of their rows."""
    return ranker.engine.item_ids.ids(range(ranker.engine.n_items))


@pytest.fixture
def user(ranker: Reranker, items: list) -> User:
    """Somebody with a history and no feedback."""
    user = ranker.user()
    user.observe(items[3], items[41], items[7])
    return user


def ids_of(ranked: list[RankedItem]) -> list:
    return [item.item_id for item in ranked]


def model_order(ranker: Reranker, history: list[int], rows: list[int]) -> list[int]:
    """Rows, best first, as the engine alone ranks them."""
    engine = ranker.engine
    vector = engine.encode(np.array([history[-engine.max_length :]])) if history else engine.prior()[None]
    scores = engine.score(vector, np.array([rows]))[0]
    return [rows[n] for n in np.argsort(-scores, kind="stable")]


class TestWithoutFeedback:
    @pytest.mark.parametrize("n_history", [0, 1, 5, 8, 30])
    def test_the_ranking_is_exactly_the_models(self, ranker: Reranker, items: list, n_history: int) -> None:
        rng = np.random.default_rng(n_history)
        history = rng.integers(0, 50, n_history).tolist()
        candidates = rng.permutation(50)[:30].tolist()
        user = ranker.user()
        user.observe(*(items[row] for row in history))
        ranked = user.rerank([items[row] for row in candidates], k=30)
        assert ids_of(ranked) == [items[row] for row in model_order(ranker, history, candidates)]

    def test_scores_are_the_engines(self, ranker: Reranker, user: User, items: list) -> None:
        ranked = user.rerank(items[:20], k=20)
        vector = ranker.engine.encode(np.array([[3, 41, 7]]))
        scores = dict(zip(items, ranker.engine.score(vector, np.arange(20)[None])[0].tolist(), strict=False))
        assert [item.score for item in ranked] == [scores[item.item_id] for item in ranked]

    def test_recommend_is_the_engines_top_k(self, ranker: Reranker, user: User, items: list) -> None:
        vector = ranker.engine.encode(np.array([[3, 41, 7]]))[0]
        rows, scores = ranker.engine.top_k(vector, 10, np.array([3, 7, 41]))
        found = user.recommend(k=10)
        assert [item.item_id for item in found] == [items[row] for row in rows]
        assert [item.score for item in found] == pytest.approx(
            scores.tolist(), rel=1e-5
        )  # another order of sums

    def test_ranking_alone_teaches_nothing(self, user: User, items: list) -> None:
        before = user.rerank(items, k=50)
        for _ in range(20):
            user.rerank(items[:10])
            user.recommend()
        assert user.rerank(items, k=50) == before

    def test_ties_go_to_the_earlier_candidate(self, range_bundle: Path) -> None:
        ranker = Reranker.load(range_bundle)
        user = ranker.user()
        user._model._encoded = np.zeros(ranker.engine.width, np.float32)  # every score is 0
        assert ids_of(user.rerank([9, 2, 30, 1], k=4)) == [9, 2, 30, 1]


class TestWhatMayBePassed:
    def test_no_candidates(self, user: User) -> None:
        assert user.rerank([]) == []
        assert user.rerank([], scores=[]) == []

    def test_k_beyond_the_list(self, user: User, items: list) -> None:
        assert len(user.rerank(items[:7], k=100)) == 7
        assert len(user.recommend(k=1000)) == 47
        assert len(user.recommend(k=1000, exclude_seen=False)) == 50

    @pytest.mark.parametrize("k", [0, -1, 2.5, None, float("nan"), "3"])
    def test_k_must_count_something(self, user: User, items: list, k: object) -> None:
        for call in (lambda: user.rerank(items, k=k), lambda: user.recommend(k=k)):  # type: ignore[arg-type]
            with pytest.raises(InputError, match=r"k: got .*, expected a number of items, at least 1"):
                call()

    def test_unknown_candidates_come_last_in_their_order(self, user: User, items: list) -> None:
        ranked = user.rerank(["nobody", items[0], 10**9, items[1]], k=4)
        assert {*ids_of(ranked[:2])} == {*items[:2]}
        assert ranked[2:] == [("nobody", -INF), (10**9, -INF)]

    def test_only_unknown_candidates(self, user: User) -> None:
        assert user.rerank(["b", "a", 10**30], k=4) == [("b", -INF), ("a", -INF), (10**30, -INF)]

    def test_duplicates_count_where_they_came_first(self, user: User, items: list) -> None:
        twice = [items[5], "nobody", items[6], items[5], "nobody", items[6]]
        assert user.rerank(twice, k=10) == user.rerank([items[5], "nobody", items[6]], k=10)

    def test_arrays_tuples_generators_and_numpy_ids(self, range_bundle: Path) -> None:
        user = Reranker.load(range_bundle).user()
        expected = user.rerank([4, 9, 2])
        assert user.rerank(np.array([4, 9, 2])) == expected
        assert user.rerank((4, 9, 2)) == expected
        assert user.rerank(n for n in (4, 9, 2)) == expected
        assert user.rerank([np.int32(4), np.int64(9), 2]) == expected

    def test_candidates_that_are_no_ids(self, user: User) -> None:
        with pytest.raises(InputError, match=r"candidates: \[1\] is no item id"):
            user.rerank([[1], [2]])  # type: ignore[list-item]
        assert user.rerank([None, 2.5], k=2) == [(None, -INF), (2.5, -INF)]  # type: ignore[list-item]

    @pytest.mark.parametrize("odd", [None, 2.5, True, b"x"])
    def test_events_must_be_ids(self, user: User, odd: object) -> None:
        before = user.history
        for call in (lambda: user.observe("a", odd), lambda: user.feedback(odd)):  # type: ignore[arg-type]
            with pytest.raises(InputError, match="expected an integer or a string"):
                call()
        assert user.history == before

    def test_a_list_of_events_is_told_how(self, user: User) -> None:
        with pytest.raises(InputError, match=r"give the ids one by one: observe\(\*item_ids\)"):
            user.observe([1, 2])  # type: ignore[arg-type]

    def test_an_unknown_event_is_remembered_and_changes_nothing(self, user: User, items: list) -> None:
        before = user.rerank(items, k=50)
        user.observe("nobody")
        user.feedback("nobody")
        assert user.history[-2:] == ["nobody", "nobody"]
        assert user.rerank(items, k=50) == before

    def test_a_path_that_is_no_bundle(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            Reranker.load(tmp_path / "absent.pocket")


class TestServerScores:
    def test_agreeing_scores_keep_the_order(self, user: User, items: list) -> None:
        alone = user.rerank(items[:20], k=20)
        scores = {item.item_id: 20.0 - n for n, item in enumerate(alone)}
        assert ids_of(user.rerank(items[:20], 20, [scores[i] for i in items[:20]])) == ids_of(alone)

    def test_they_count(self, user: User, items: list) -> None:
        last = user.rerank(items[:20], k=20)[-1].item_id
        scores = [10.0 * (item_id == last) for item_id in items[:20]]
        assert user.rerank(items[:20], 20, scores)[0].item_id == last

    def test_their_scale_does_not_matter(self, user: User, items: list) -> None:
        scores = np.random.default_rng(0).standard_normal(20)
        expected = ids_of(user.rerank(items[:20], 20, scores))
        for factor, shift in ((1e-6, 0.0), (1e300, 0.0), (3.0, 1000.0)):
            assert ids_of(user.rerank(items[:20], 20, factor * scores + shift)) == expected

    @pytest.mark.parametrize("odd", [float("nan"), INF, -INF, None])
    def test_one_that_is_no_number_says_nothing(self, user: User, items: list, odd: float | None) -> None:
        scores: list[float | None] = [float(n) for n in range(20)]
        scores[4] = odd
        ranked = user.rerank(items[:20], 20, scores)  # type: ignore[arg-type]
        assert len(ranked) == 20
        assert np.isfinite([item.score for item in ranked]).all()
        neutral = np.arange(20.0)
        neutral[4] = np.delete(neutral, 4).mean()
        assert ids_of(ranked) == ids_of(user.rerank(items[:20], 20, neutral))

    @pytest.mark.parametrize("value", [float("nan"), INF, 7.0])
    def test_scores_that_all_say_the_same_say_nothing(self, user: User, items: list, value: float) -> None:
        assert user.rerank(items[:20], 20, [value] * 20) == user.rerank(items[:20], 20)

    def test_an_unknown_item_is_ranked_by_the_server(self, user: User, items: list) -> None:
        ranked = user.rerank([*items[:5], "new", "newer"], 7, [0, 0, 0, 0, 0, 9.0, float("nan")])
        assert ranked[0].item_id == "new"
        assert ranked[-1] == ("newer", -INF)

    @pytest.mark.parametrize("scores", [[1.0], [], [[1.0], [2.0]], ["a", "b"], 3])
    def test_they_must_fit(self, user: User, items: list, scores: list) -> None:
        with pytest.raises(InputError, match=r"^scores: .*expected one number a candidate$"):
            user.rerank(items[:2], 2, scores)

    def test_learning_goes_on_with_them(self, user: User, items: list) -> None:
        for _ in range(5):
            user.rerank(items[:20], 20, [float("nan"), INF, *range(18)])
            user.feedback(items[0])
        assert np.isfinite([item.score for item in user.rerank(items, k=50)]).all()


class TestServerWeight:
    @staticmethod
    def live(user: User, items: list, sign: float, n: int = 40) -> None:
        """Chooses what the server likes best, or least."""
        rng = np.random.default_rng(0)
        for _ in range(n):
            candidates = [items[m] for m in rng.permutation(50)[:20]]
            scores = rng.standard_normal(20)
            user.rerank(candidates, 20, scores)
            user.feedback(candidates[int((sign * scores).argmax())])

    def test_a_server_that_is_right_gains_weight_and_one_that_is_wrong_loses_it(
        self, ranker: Reranker, items: list
    ) -> None:
        weights = {}
        for sign in (1.0, -1.0):
            user = ranker.user()
            self.live(user, items, sign)
            weights[sign] = user._model.server.delta
        assert weights[1.0] > 0.3
        assert weights[-1.0] < -0.3

    def test_one_step_is_the_newton_step(self, ranker: Reranker, items: list) -> None:
        user = ranker.user()
        scores = np.array([1.0, 2.0, 6.0])
        ranked = user.rerank(items[:3], 3, scores)
        logits = {item.item_id: item.score * user._model.logit_scale("catalogue") for item in ranked}
        q = np.exp([logits[item_id] for item_id in items[:3]])
        q /= q.sum()
        z = (scores - scores.mean()) / scores.std()
        user.feedback(items[1])
        expected = (z[1] - q @ z) / (SERVER_PRIOR + q @ z**2 - (q @ z) ** 2)
        assert user._model.server.delta == pytest.approx(expected, rel=1e-4)  # float32 scores

    def test_it_is_kept_and_can_be_undone(self, ranker: Reranker, items: list, tmp_path: Path) -> None:
        user = ranker.user(tmp_path / "state.bin")
        self.live(user, items, 1.0)
        user.save()
        again = ranker.user(tmp_path / "state.bin")
        scores = np.arange(20.0)
        assert again._model.server.delta == user._model.server.delta
        assert again.rerank(items[:20], 20, scores) == user.rerank(items[:20], 20, scores)
        before = user._model.server.learned()
        user.feedback(items[3])
        assert user._model.server.delta != before[0]
        user.undo()
        assert user._model.server.learned().tolist() == before.tolist()

    def test_lists_without_scores_do_not_move_it(self, user: User, items: list) -> None:
        user.rerank(items)
        user.feedback(items[3])
        assert user._model.server.delta == 0
        assert "server_weight" not in user.state.learned

    def test_unknown_items_long_lists_and_other_states(self, ranker: Reranker, items: list) -> None:
        user = ranker.user()
        user.rerank([*items, "new"], 5, np.arange(51.0))
        user.feedback(items[49])
        assert 0 < user._model.server.delta < 1
        for odd in ([np.nan, 30.0], [1.0, -3.0], [1.0], [[1.0]]):
            assert ServerWeight(np.array(odd)).learned().tolist() == [0.0, SERVER_PRIOR]


class TestFeedback:
    def test_a_click_changes_the_ranking_by_more_than_its_place_in_the_history(
        self, ranker: Reranker, items: list
    ) -> None:
        watching, clicking = ranker.user(), ranker.user()
        for user in (watching, clicking):
            user.observe(items[1])
            user.rerank(items, k=50)
        watching.observe(items[9])
        clicking.feedback(items[9], clicked=True)
        assert watching.history == clicking.history == [items[1], items[9]]
        assert ids_of(watching.rerank(items, k=50)) != ids_of(clicking.rerank(items, k=50))

    def test_what_is_clicked_again_and_again_rises(self, ranker: Reranker, items: list) -> None:
        user = ranker.user()
        chosen = user.rerank(items, k=50)[-1].item_id
        ranks = []
        for _ in range(30):
            ids = ids_of(user.rerank(items, k=50))
            ranks.append(ids.index(chosen))
            user.feedback(chosen)
        assert ranks[-1] < 5 < ranks[0]

    def test_a_dismissed_item_comes_behind_all_others_until_it_is_clicked(
        self, user: User, items: list
    ) -> None:
        first, n_events = user.rerank(items, k=50)[0].item_id, len(user.history)
        user.feedback(first, clicked=False)
        ranked = user.rerank([*items, "nobody"], k=51)
        assert ranked[49].item_id == first  # behind what is known, before what is not
        assert all(a.score >= b.score for a, b in itertools.pairwise(ranked))
        assert first not in ids_of(user.recommend(k=50, exclude_seen=False))
        assert len(user.history) == n_events
        user.feedback(first)
        assert first in ids_of(user.recommend(k=50, exclude_seen=False))

    def test_dismissed_items_keep_their_order(self, user: User, items: list) -> None:
        order = ids_of(user.rerank(items, k=50))
        for item_id in (order[0], order[1]):
            user._model.dismissed[item_id] = None
        assert ids_of(user.rerank(items, k=50)) == [*order[2:], *order[:2]]

    def test_only_dismissed_candidates(self, user: User, items: list) -> None:
        user.feedback(items[0], clicked=False)
        assert ids_of(user.rerank([items[0], "nobody"])) == [items[0], "nobody"]

    def test_what_was_shown_and_not_chosen_is_no_negative(self, user: User, items: list) -> None:
        """Dismissing one item of a list says next to nothing of the items beside it."""
        before = ids_of(user.rerank(items, k=50))
        user.feedback(before[-1], clicked=False)
        after = ids_of(user.rerank(items, k=50))
        assert [i for i in after if i != before[-1]][:10] == before[:10]

    def test_an_item_that_no_list_had(self, user: User, items: list) -> None:
        user.rerank(items[:10])
        user.feedback(items[30])
        assert user._model.mixture.n_events == 1
        assert np.isfinite([item.score for item in user.rerank(items, k=50)]).all()

    def test_a_click_that_comes_three_rankings_late(self, user: User, items: list) -> None:
        for n in range(4):
            user.rerank(items[10 * n : 10 * n + 10])
        user.feedback(items[5])
        assert user._model.mixture.n_events == 1

    def test_with_recommend(self, user: User, items: list) -> None:
        shown = ids_of(user.recommend(k=5))
        user.feedback(shown[4])
        assert shown[4] not in ids_of(user.recommend(k=50))
        assert ids_of(user.recommend(k=5)) != shown

    def test_long_lists_are_sampled(self, ranker: Reranker, items: list) -> None:
        """A list of more than 256 is learned from a sample; here the limit is lowered."""
        from pocketrec.runtime import shown_list

        user = ranker.user()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shown_list, "LIST_SIZE", 8)
            for item_id in items:
                user.rerank(items, k=3)
                user.feedback(item_id)
        assert user._model.mixture.n_events == 50
        assert np.isfinite(user._model.mixture.residuals[0].vector).all()

    def test_a_dismissal_that_leaves_no_other_item(self, user: User, items: list) -> None:
        user.rerank([items[0]])
        user.feedback(items[0], clicked=False)
        assert np.isfinite([item.score for item in user.rerank(items, k=50)]).all()

    def test_the_same_events_give_the_same_user(self, ranker: Reranker, items: list) -> None:
        def live() -> list[RankedItem]:
            user, rng = ranker.user(), np.random.default_rng(5)
            for _ in range(40):
                shown = user.rerank([items[n] for n in rng.permutation(50)[:20]])
                user.feedback(shown[rng.integers(10)].item_id, clicked=bool(rng.random() < 0.7))
            return user.recommend(k=20)

        assert live() == live()

    def test_thousands_of_events_stay_bounded_and_finite(self, range_bundle: Path) -> None:
        user, rng = Reranker.load(range_bundle).user(), np.random.default_rng(0)
        for n in rng.integers(1, 51, 3000).tolist():
            user.rerank(range(1, 51), k=3)
            user.feedback(n, clicked=n % 3 != 0)
        assert len(user.history) == 512
        assert np.isfinite([item.score for item in user.rerank(range(1, 51), k=50)]).all()
        assert len(user._model.history.rows) <= 512


class TestThreads:
    def test_users_in_threads_are_as_one_after_the_other(self, ranker: Reranker, items: list) -> None:
        def live(seed: int) -> list[RankedItem]:
            user, rng = ranker.user(), np.random.default_rng(seed)
            for _ in range(20):
                shown = user.rerank([items[n] for n in rng.permutation(50)[:20]])
                user.feedback(shown[0].item_id)
            return [*user.recommend(k=5), *user.rerank(items, k=50)]

        expected = [live(seed) for seed in range(8)]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(live, range(8))) == expected

    def test_one_user_in_several_threads(self, user: User, items: list) -> None:
        expected = user.rerank(items, k=50)
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda _: user.rerank(items, k=50), range(50)))
        assert all(result == expected for result in results)

    def test_events_from_several_threads_are_all_counted(
        self, user: User, items: list, tmp_path: Path
    ) -> None:
        before = len(user.history)
        barrier = threading.Barrier(4)

        def click(_: int) -> None:
            barrier.wait()
            for item_id in items[:10]:
                user.rerank(items)
                user.feedback(item_id)
                user.save(tmp_path / "state.bin")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(click, range(4)))
        assert len(user.history) == before + 40
        assert user._model.mixture.n_events == 40


class TestState:
    def test_it_goes_on_exactly_where_it_stopped(self, ranker: Reranker, items: list, tmp_path: Path) -> None:
        path = tmp_path / "state.bin"
        user, rng = ranker.user(path), np.random.default_rng(1)
        again = user
        for n in range(25):
            candidates = [items[m] for m in rng.permutation(50)[:20]]
            assert again.rerank(candidates, k=20) == user.rerank(candidates, k=20)
            for one in (user, again):
                one.feedback(candidates[n % 20], clicked=n % 4 != 0)
            again.save(path)
            again = ranker.user(path)
            assert again.recommend(k=50) == user.recommend(k=50)
        assert again.history == user.history

    def test_a_file_that_is_not_there_yet_is_a_new_user(
        self, ranker: Reranker, items: list, tmp_path: Path
    ) -> None:
        path = tmp_path / "state.bin"
        user = ranker.user(path)
        assert user.history == []
        assert not path.exists()
        user.observe(items[0])
        user.save()
        assert ranker.user(path).history == [items[0]]

    def test_saving_without_a_path(self, user: User) -> None:
        with pytest.raises(InputError, match=r"^save: no path; give one here, or to Reranker.user"):
            user.save()

    def test_another_path_for_once(self, ranker: Reranker, tmp_path: Path) -> None:
        user = ranker.user(tmp_path / "a.bin")
        user.save(tmp_path / "b.bin")
        assert [path.name for path in tmp_path.iterdir()] == ["b.bin"]

    def test_a_damaged_file_is_refused_by_name(self, ranker: Reranker, items: list, tmp_path: Path) -> None:
        path = tmp_path / "state.bin"
        user = ranker.user(path)
        user.observe(items[0])
        user.save()
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(StateError, match=r"state\.bin: .* the state is truncated"):
            ranker.user(path)

    def test_with_another_bundle_the_history_goes_on_and_the_vectors_do_not(
        self, range_bundle: Path, text_bundle: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "state.bin"
        old, new = Reranker.load(range_bundle), Reranker.load(text_bundle)
        user = old.user(path)
        user.observe("item-07")  # a later bundle may know it
        user.rerank(range(1, 51))
        user.feedback(4)
        user.feedback(5, clicked=False)
        user.save()
        moved = new.user(path)
        assert moved.history == ["item-07", 4]
        fresh = new.user()
        fresh.observe("item-07")
        assert moved.rerank(["item-01", "item-02", "item-03"]) == fresh.rerank(
            ["item-01", "item-02", "item-03"]
        )
        moved.save()
        assert old.user(path).history == ["item-07", 4]

    def test_dismissals_are_remembered(self, ranker: Reranker, items: list, tmp_path: Path) -> None:
        user = ranker.user(tmp_path / "state.bin")
        user.feedback(items[0], clicked=False)
        user.save()
        assert items[0] not in ids_of(ranker.user(tmp_path / "state.bin").recommend(k=50))

    def test_a_folder_is_no_state(self, ranker: Reranker, tmp_path: Path) -> None:
        with pytest.raises(IsADirectoryError):
            ranker.user(tmp_path)
