"""Several rankers as one: votes by hand, weights that go to whoever is right, states that go on."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pocketrec.runtime import InputError, Reranker, StateError
from pocketrec.runtime.ensemble import HOWS, Ensemble
from pocketrec.runtime.votes import borda, reciprocal_ranks, standardized

INF, NAN = float("inf"), float("nan")
ITEMS = list(range(1, 51))


@pytest.fixture(scope="module")
def rankers(request: pytest.FixtureRequest) -> dict[str, Reranker]:
    folder = Path(__file__).parent / "data"
    return {
        "plain": Reranker.load(folder / "tiny-range.pocket"),
        "mixed": Reranker.load(folder / "tiny-taste.pocket"),
    }


def by_number(candidates: Sequence, history: Sequence) -> list[float]:
    """Larger ids are better."""
    return [float(item_id) if isinstance(item_id, int) else NAN for item_id in candidates]


def against_number(candidates: Sequence, history: Sequence) -> list[float]:
    return [-score for score in by_number(candidates, history)]


def ids_of(ranked: list) -> list:
    return [item.item_id for item in ranked]


class TestVotes:
    def test_of_a_list_that_all_of_them_know(self) -> None:
        scores = np.array([3.0, 1.0, 2.0])
        np.testing.assert_allclose(standardized(scores), [1.2247449, -1.2247449, 0.0])
        assert borda(scores).tolist() == [1.0, 0.0, 0.5]
        np.testing.assert_allclose(reciprocal_ranks(scores), [1 / 61, 1 / 63, 1 / 62])

    @pytest.mark.parametrize("vote", [standardized, borda, reciprocal_ranks])
    @pytest.mark.parametrize(
        "scores", [[], [NAN], [INF, -INF, NAN], [7.0], [5.0, 5.0, NAN], [1e308, -1e308, 0.0], [NAN, 1.0]]
    )
    def test_whatever_a_member_says_it_is_a_number(self, vote, scores: list[float]) -> None:
        assert np.isfinite(vote(np.array(scores, np.float64))).all()

    def test_scale_and_shift_do_not_matter(self) -> None:
        scores = np.random.default_rng(0).standard_normal(20)
        for vote in (standardized, borda, reciprocal_ranks):
            np.testing.assert_allclose(vote(scores), vote(scores * 1e-6 + 3), atol=1e-6)


class TestRanking:
    @pytest.mark.parametrize("how", HOWS)
    def test_one_member_alone_ranks_as_it_does(self, rankers: dict[str, Reranker], how: str) -> None:
        user = Ensemble({"plain": rankers["plain"]}, how).user()  # type: ignore[arg-type]
        alone = rankers["plain"].user()
        for u in (user, alone):
            u.observe(4, 42, 8)
        assert ids_of(user.rerank(ITEMS, 50)) == ids_of(alone.rerank(ITEMS, 50))

    def test_the_average_is_the_weighted_sum_of_standardized_scores(
        self, rankers: dict[str, Reranker]
    ) -> None:
        ensemble = Ensemble(
            {"plain": rankers["plain"], "number": by_number}, weights={"plain": 3.0, "number": 1.0}
        )
        user, alone = ensemble.user(), rankers["plain"].user()
        scores = {item.item_id: item.score for item in alone.rerank(ITEMS, 50)}
        expected = 0.75 * standardized(np.array([scores[i] for i in ITEMS])) + 0.25 * standardized(
            np.arange(50.0)
        )
        found = {item.item_id: item.score for item in user.rerank(ITEMS, 50)}
        np.testing.assert_allclose([found[i] for i in ITEMS], expected, atol=1e-6)  # float32
        assert user.weights == {"plain": 0.75, "number": 0.25}

    @pytest.mark.parametrize("how", ["borda", "rrf"])
    def test_votes_look_at_ranks_alone(self, how: str) -> None:
        def wild(candidates: Sequence, history: Sequence) -> list[float]:
            return [1e6 ** (item_id / 10) for item_id in candidates]

        user = Ensemble({"number": by_number, "wild": wild, "against": against_number}, how).user()  # type: ignore[arg-type]
        assert ids_of(user.rerank([3, 9, 5])) == [9, 5, 3]  # two against one

    @pytest.mark.parametrize("how", HOWS)
    def test_what_no_member_knows_comes_last(self, rankers: dict[str, Reranker], how: str) -> None:
        user = Ensemble({"plain": rankers["plain"], "number": by_number}, how).user()  # type: ignore[arg-type]
        ranked = user.rerank(["nobody", 1, 99, 2], 4)
        assert ranked[-1] == ("nobody", -INF)
        assert ranked.unknown == {"nobody"}
        assert 99 in ids_of(ranked[:3])  # the scorer knows it

    def test_a_scorer_sees_the_history(self) -> None:
        seen: list[list] = []

        def scorer(candidates: Sequence, history: Sequence) -> np.ndarray:
            seen.append([*history])
            return np.zeros(len(candidates))

        user = Ensemble({"a": scorer}).user()
        user.observe(3)
        user.rerank([1, 2])
        user.feedback(2)
        user.rerank(np.array([1, 2, 1]))
        assert seen == [[3], [3, 2]]

    def test_recommend_ranks_what_the_bundles_propose(self, rankers: dict[str, Reranker]) -> None:
        user = Ensemble({**rankers, "number": by_number}).user()
        user.observe(1, 2, 3)
        user.feedback(50, clicked=False)
        ranked = user.recommend(60)
        assert len(ranked) == 46
        assert not {1, 2, 3, 50} & {*ids_of(ranked)}
        everything = ids_of(user.rerank([i for i in ITEMS if i not in (1, 2, 3, 50)], 60))
        assert ids_of(ranked) == everything

    def test_dismissed_items_come_last_until_they_are_chosen(self, rankers: dict[str, Reranker]) -> None:
        user = Ensemble({"plain": rankers["plain"], "number": by_number}).user()
        best = user.rerank(ITEMS)[0].item_id
        user.feedback(best, clicked=False)
        assert user.rerank(ITEMS, 50)[-1].item_id == best
        user.feedback(best)
        assert user.rerank(ITEMS, 50)[-1].item_id != best

    def test_no_candidates(self, rankers: dict[str, Reranker]) -> None:
        assert Ensemble(rankers).user().rerank([]) == []


class TestStack:
    def test_weight_goes_to_whoever_is_right(self, rankers: dict[str, Reranker]) -> None:
        user = Ensemble(
            {"plain": rankers["plain"], "number": by_number, "against": against_number}, "stack"
        ).user()
        before = user.weights
        assert sum(before.values()) == pytest.approx(2.0)
        rng = np.random.default_rng(0)
        for _ in range(60):
            shown = user.rerank(rng.permutation(ITEMS)[:20].tolist(), 20)
            user.feedback(max(ids_of(shown)), ranking=shown)
        assert user.weights["number"] > before["number"] + 0.5
        assert user.weights["against"] < before["against"] - 0.5
        assert ids_of(user.rerank([7, 50, 3], 3))[0] == 50

    def test_one_step_is_the_newton_step(self) -> None:
        user = Ensemble({"a": by_number, "b": against_number}, "stack").user()
        user.rerank([1, 2])
        user.feedback(2)
        # z = (-1, 1) and (1, -1), w = (1, 1): q = 1/2 each; H = 30 I + [[1, -1], [-1, 1]], g = (1, -1)
        expected = np.linalg.solve(30 * np.eye(2) + np.array([[1, -1], [-1, 1]]), np.array([1.0, -1.0]))
        assert list(user.weights.values()) == pytest.approx((1 + expected).tolist())

    def test_members_learn_as_they_would_alone(self, rankers: dict[str, Reranker]) -> None:
        user = Ensemble({"plain": rankers["plain"], "number": by_number}, "stack").user()
        alone = rankers["plain"].user()
        for n in range(10):
            candidates = np.random.default_rng(n).permutation(ITEMS)[:20].tolist()
            shown = user.rerank(candidates)
            alone.rerank(candidates)
            user.feedback(shown[2].item_id, clicked=n % 3 != 0)
            alone.feedback(shown[2].item_id, clicked=n % 3 != 0)
        assert user._users["plain"].rerank(ITEMS, 50) == alone.rerank(ITEMS, 50)

    @pytest.mark.parametrize("how", ["average", "borda", "rrf"])
    def test_other_ways_keep_their_weights(self, rankers: dict[str, Reranker], how: str) -> None:
        user = Ensemble({**rankers, "number": by_number}, how).user()  # type: ignore[arg-type]
        before = user.weights
        for _ in range(5):
            user.feedback(user.rerank(ITEMS)[3].item_id)
        assert user.weights == before


class TestFeedback:
    def test_twice_skips_and_positions(self, rankers: dict[str, Reranker]) -> None:
        user = Ensemble(rankers, "stack").user()
        shown = user.rerank(ITEMS)
        assert user.feedback(shown[4].item_id, event_id="a", ranking=shown)
        assert not user.feedback(shown[4].item_id, event_id="a")
        assert user.feedback(shown[5].item_id, kind="skip")
        assert user.feedback(shown[4].item_id, kind="purchase")
        assert user.history == [shown[4].item_id]
        assert [tuple(o) for o in user.log.outcomes] == [(1, 5, "click"), (1, 6, "skip"), (1, 5, "purchase")]
        with pytest.raises(InputError, match="kind 'like'"):
            user.feedback(3, kind="like")  # type: ignore[arg-type]

    def test_an_item_of_no_list(self, rankers: dict[str, Reranker]) -> None:
        user = Ensemble(rankers, "stack").user()
        assert user.feedback(7)
        assert np.isfinite([item.score for item in user.rerank(ITEMS, 50)]).all()


class TestState:
    @pytest.mark.parametrize("how", HOWS)
    def test_it_goes_on_exactly_where_it_stopped(
        self, rankers: dict[str, Reranker], tmp_path: Path, how: str
    ) -> None:
        ensemble = Ensemble({**rankers, "number": by_number}, how)  # type: ignore[arg-type]
        user = again = ensemble.user(tmp_path / "user")
        for n in range(8):
            candidates = np.random.default_rng(n).permutation(ITEMS)[:20].tolist()
            assert again.rerank(candidates) == user.rerank(candidates)
            item_id = candidates[n]
            for one in {id(user): user, id(again): again}.values():
                one.feedback(item_id, clicked=n % 4 != 0, event_id=n)
            again.save()
            again = ensemble.user(tmp_path / "user")
            assert (again.history, again.weights) == (user.history, user.weights)
            assert not again.feedback(item_id, event_id=n)
        assert sorted(p.name for p in (tmp_path / "user").iterdir()) == [
            "ensemble.bin",
            "mixed.bin",
            "plain.bin",
        ]

    def test_other_members_begin_with_their_own_weights(
        self, rankers: dict[str, Reranker], tmp_path: Path
    ) -> None:
        user = Ensemble({"plain": rankers["plain"], "number": by_number}, "stack").user(tmp_path)
        user.rerank(ITEMS)
        user.feedback(9)
        user.save()
        moved = Ensemble({"plain": rankers["plain"], "wild": by_number}, "stack").user(tmp_path)
        assert moved.weights == {"plain": 1.0, "wild": 1.0}
        assert moved.history == [9]

    def test_a_damaged_file_is_refused(self, rankers: dict[str, Reranker], tmp_path: Path) -> None:
        user = Ensemble(rankers).user(tmp_path)
        user.save()
        (tmp_path / "ensemble.bin").write_bytes(b"nonsense")
        with pytest.raises(StateError, match=r"ensemble\.bin: not a user's state"):
            Ensemble(rankers).user(tmp_path)

    def test_without_a_folder(self, rankers: dict[str, Reranker]) -> None:
        with pytest.raises(InputError, match=r"^save: no folder; give one to Ensemble.user"):
            Ensemble(rankers).user().save()


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("members", "options", "text"),
        [
            ({}, {}, "no members"),
            ({"a": by_number}, {"how": "vote"}, "how 'vote', expected one of average, borda, rrf, stack"),
            ({"a": by_number}, {"weights": {"b": 1}}, "a weight for 'b'; the members are a"),
            ({"a": by_number}, {"weights": {"a": -1}}, "expected numbers from 0 on, not all of them 0"),
            ({"a": by_number}, {"weights": {"a": 0}}, "expected numbers from 0 on, not all of them 0"),
            ({"a": by_number}, {"weights": {"a": NAN}}, "expected numbers from 0 on"),
        ],
    )
    def test_members_and_weights(self, members: dict, options: dict, text: str) -> None:
        with pytest.raises(InputError, match=text):
            Ensemble(members, **options)

    @pytest.mark.parametrize("name", ["a/b", "", "ensemble", "a.b"])
    def test_names_that_are_no_files(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(InputError, match="names a file"):
            Ensemble({name: by_number}).user(tmp_path)

    @pytest.mark.parametrize("scores", [[1.0], ["a", "b"], [[1.0], [2.0]], 3])
    def test_scorers_that_do_not_fit(self, scores: object) -> None:
        user = Ensemble({"a": lambda candidates, history: scores}).user()  # type: ignore[dict-item,return-value]
        with pytest.raises(InputError, match=r"ensemble: scorer 'a' returned shape .* for 2 candidates"):
            user.rerank([1, 2])

    def test_candidates_that_are_no_ids(self, rankers: dict[str, Reranker]) -> None:
        with pytest.raises(InputError, match="expected integers or strings"):
            Ensemble(rankers).user().rerank([[1]])  # type: ignore[list-item]

    @pytest.mark.parametrize("odd", ["abc", None, 3])
    def test_candidates_that_are_no_list(self, rankers: dict[str, Reranker], odd: object) -> None:
        with pytest.raises(InputError, match="expected a list of item ids"):
            Ensemble(rankers).user().rerank(odd)  # type: ignore[arg-type]

    def test_scorers_propose_nothing(self) -> None:
        with pytest.raises(InputError, match="scorers only"):
            Ensemble({"a": by_number}).user().recommend()


def test_threads_are_as_one_after_the_other(rankers: dict[str, Reranker]) -> None:
    user = Ensemble({**rankers, "number": by_number}, "stack").user()
    user.observe(4, 5)
    lists = [np.random.default_rng(n).permutation(ITEMS)[:20].tolist() for n in range(16)]
    expected = [user.rerank(candidates) for candidates in lists]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(user.rerank, lists)) == expected
