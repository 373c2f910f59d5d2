"""What an app asks of a list, through `User`: on a model without a prior, and on one with a taste space."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pocketrec.runtime import Bundle, BundleError, InputError, Reranker, User
from pocketrec.runtime.bundle import write_bundle
from pocketrec.runtime.item_categories import with_categories
from pocketrec.runtime.rank_options import Explore, RankOptions

INF = float("inf")
ITEMS = list(range(1, 51))
CATEGORIES = {n: "abcde"[n % 5] for n in ITEMS}


@pytest.fixture(params=["tiny-range.pocket", "tiny-taste.pocket"])
def ranker(request: pytest.FixtureRequest, range_bundle: Path) -> Reranker:
    return Reranker.load(range_bundle.parent / request.param)


@pytest.fixture
def user(ranker: Reranker) -> User:
    """With a history, clicks and a dismissal."""
    user = ranker.user()
    user.observe(4, 42, 8)
    for item_id in (11, 23, 30):
        user.rerank(ITEMS)
        user.feedback(item_id)
    user.feedback(5, clicked=False)
    return user


def ids_of(ranked: list) -> list:
    return [item.item_id for item in ranked]


class TestDefaults:
    @pytest.mark.parametrize("scores", [None, np.linspace(0, 1, 52)])
    def test_options_that_ask_for_nothing_change_nothing(self, user: User, scores: np.ndarray | None) -> None:
        candidates = [*ITEMS, "nobody", "no one"]
        plain = user.rerank(candidates, 52, scores)
        assert user.rerank(candidates, 52, scores, RankOptions()) == plain

    def test_recommend_is_the_same_but_for_the_rounding_of_the_catalogue(self, user: User) -> None:
        plain, asked = user.recommend(10), user.recommend(10, options=RankOptions())
        assert len({*ids_of(plain)} & {*ids_of(asked)}) >= 9
        exact = {item.item_id: item.score for item in user.rerank(ITEMS, 50)}
        for item in asked:  # the same products in another order
            assert item.score == pytest.approx(exact[item.item_id], rel=1e-4, abs=1e-4)

    def test_rankings_are_numbered_also_after_a_restart(
        self, ranker: Reranker, user: User, tmp_path: Path
    ) -> None:
        first, second = user.rerank(ITEMS), user.recommend()
        assert second.id == first.id + 1
        user.save(tmp_path / "state.bin")
        assert ranker.user(tmp_path / "state.bin").rerank([]).id == second.id + 1

    def test_a_ranking_is_copied_and_pickled_whole(self, user: User) -> None:
        options = RankOptions(explore=Explore(policy="epsilon", strength=0.1), explain=True, unknown="prior")
        ranking = user.rerank([*ITEMS, "new"], 51, options=options)
        for again in (copy.copy(ranking), copy.deepcopy(ranking), pickle.loads(pickle.dumps(ranking))):  # noqa: S301
            assert again == ranking
            assert (again.id, again.unknown) == (ranking.id, {"new"})
            assert (again.propensities, again.reasons) == (ranking.propensities, ranking.reasons)
        assert json.loads(json.dumps(ranking))[0] == [ranking[0].item_id, ranking[0].score]


class TestRules:
    def test_never(self, user: User) -> None:
        plain = ids_of(user.rerank(ITEMS, 50))
        options = RankOptions(never={plain[0], plain[3], "nobody"})
        expected = [item for item in plain if item not in (plain[0], plain[3])]
        assert ids_of(user.rerank(ITEMS, 50, options=options)) == expected
        assert not {plain[0], plain[3]} & {*ids_of(user.recommend(50, False, options))}

    def test_never_with_scores_of_a_server_and_unknown_ids(self, user: User) -> None:
        scores = [float(n) for n in range(12)]
        plain = user.rerank([*ITEMS[:10], "a", "b"], 12, scores)
        kept = user.rerank([*ITEMS[:10], "a", "b"], 12, scores, RankOptions(never=["a"]))
        assert ids_of(kept) == [i for i in ids_of(plain) if i != "a"]
        assert user.rerank(["a"], options=RankOptions(never=["a"])) == []

    def test_first(self, user: User) -> None:
        plain = ids_of(user.rerank(ITEMS, 50))
        pinned = [plain[40], plain[20], "elsewhere", plain[40]]
        ranked = ids_of(user.rerank(ITEMS, 50, options=RankOptions(first=pinned)))
        assert ranked == [plain[40], plain[20], *(i for i in plain if i not in pinned)]

    def test_first_in_recommend_also_what_is_seen_but_not_what_is_never_shown(self, user: User) -> None:
        options = RankOptions(first=[4, 5, 9, "nobody"], never=[9])
        ranked = ids_of(user.recommend(10, options=options))
        assert ranked[:2] == [4, 5]  # seen, and dismissed
        assert 9 not in ranked
        assert len({*ranked}) == 10

    def test_an_unknown_item_can_be_pinned(self, user: User) -> None:
        ranked = user.rerank([1, 2, "new"], options=RankOptions(first=["new"]))
        assert ranked[0] == ("new", -INF)

    def test_at_most_n_of_a_category(self, user: User) -> None:
        options = RankOptions(max_per_category=2, categories=CATEGORIES)
        for ranked in (user.rerank(ITEMS, 50, options=options), user.recommend(50, False, options)):
            names = [CATEGORIES[item] for item in ids_of(ranked)]
            assert len(ranked) == 10  # five categories: the list is shorter than k
            assert all(names.count(name) == 2 for name in "abcde")

    def test_the_best_of_each_category_are_kept_in_their_order(self, user: User) -> None:
        plain = ids_of(user.rerank(ITEMS, 50))
        options = RankOptions(max_per_category=1, categories=CATEGORIES)
        best = {name: next(i for i in plain if CATEGORIES[i] == name) for name in "abcde"}
        assert ids_of(user.rerank(ITEMS, 5, options=options)) == sorted(best.values(), key=plain.index)

    def test_dismissed_items_stay_behind_whatever_is_asked(self, user: User) -> None:
        for options in (
            RankOptions(mmr=1.0),
            RankOptions(dpp=1.0),
            RankOptions(calibration=0.9, categories=CATEGORIES),
            RankOptions(explore=Explore(policy="softmax", strength=1000.0)),
            RankOptions(explore=Explore(policy="epsilon", strength=1.0)),
        ):
            ranked = ids_of(user.rerank(["nobody", *ITEMS], 51, options=options))
            assert sorted(ranked[:49]) == [i for i in ITEMS if i != 5]
            assert ranked[49:] == [5, "nobody"]

    @pytest.mark.parametrize("options", [RankOptions(mmr=0.5), RankOptions(dpp=0.5)], ids=["mmr", "dpp"])
    def test_diversity_shows_in_the_items(self, ranker: Reranker, user: User, options: RankOptions) -> None:
        space = ranker.spaces[0]

        def alike(ranked: list) -> float:
            vectors = ranker.lookup(0, ranker.rows(ids_of(ranked))) - space.center
            vectors /= np.linalg.norm(vectors, axis=1)[:, None]
            return float((vectors @ vectors.T)[np.triu_indices(10, 1)].mean())

        assert alike(user.rerank(ITEMS, 10, options=options)) < alike(user.rerank(ITEMS, 10))

    def test_unknown_ids_by_prior(self, ranker: Reranker, user: User) -> None:
        ranked = user.rerank([*ITEMS, "new"], 51, options=RankOptions(unknown="prior"))
        assert ranked.unknown == {"new"}
        scores = {item.item_id: item.score for item in ranked}
        everything = [scores[item] for item in ITEMS if item != 5]  # what was dismissed was sent back
        assert min(everything) < scores["new"] < max(everything)
        rows = np.arange(50)
        # the mean of the catalogue's scores, summed in another order
        assert scores["new"] == pytest.approx(user._model.score_known(rows, "catalogue").mean(), abs=1e-4)
        only = user.rerank(["x", "y"], options=RankOptions(unknown="prior"))
        assert ids_of(only) == ["x", "y"]
        assert only.unknown == {"x", "y"}
        assert np.isfinite([item.score for item in only]).all()


class TestReasons:
    @pytest.mark.parametrize("scores", [None, [float(n % 7) for n in range(52)]])
    def test_they_sum_to_the_score(self, user: User, scores: list[float] | None) -> None:
        candidates = [*ITEMS, "new", "newer"]
        for unknown in ("last", "prior"):
            options = RankOptions(explain=True, unknown=unknown)  # type: ignore[arg-type]
            ranked = user.rerank(candidates, 52, scores, options)
            assert ranked.reasons is not None
            for item, shares in zip(ranked, ranked.reasons, strict=True):
                if item.score == -INF:
                    assert shares == {}
                else:  # float32 scores against float64 shares
                    assert sum(shares.values()) == pytest.approx(item.score, rel=1e-4, abs=1e-4)

    def test_they_are_named(self, ranker: Reranker, user: User) -> None:
        ranked = user.rerank([1, 5, 7], 3, [1.0, 2.0, 5.0], RankOptions(explain=True))
        assert ranked.reasons is not None
        assert {"base", "user_vector", "server"} <= {*ranked.reasons[0]}
        assert ("taste_fast" in ranked.reasons[0]) == (ranker.taste_table is not None)
        assert ranked[2].item_id == 5
        assert ranked.reasons[2]["dismissed"] < 0

    def test_before_any_feedback_the_model_has_the_whole_score(self, ranker: Reranker) -> None:
        user = ranker.user()
        user.observe(3)
        ranked = user.recommend(5, options=RankOptions(explain=True))
        assert ranked.reasons == [{"base": pytest.approx(item.score, abs=1e-4)} for item in ranked]


class TestExploration:
    def test_what_it_was_shown_with_is_logged(self, user: User) -> None:
        ranked = user.rerank(ITEMS, 5, options=RankOptions(explore=Explore(policy="epsilon", strength=0.2)))
        assert ranked.propensities is not None
        assert all(0.2 / 50 <= p <= 1 for p in ranked.propensities)
        logged = user.log.of_ranking(ranked.id)
        assert logged == (ranked.id, tuple(ids_of(ranked)), tuple(ranked.propensities))

    @pytest.mark.parametrize("policy", ["epsilon", "softmax", "linucb", "thompson"])
    def test_a_list_through_every_policy(self, user: User, policy: str) -> None:
        options = RankOptions(
            explore=Explore(policy=policy, strength=0.5),  # type: ignore[arg-type]
            mmr=0.2,
            max_per_category=3,
            categories=CATEGORIES,
            first=[7],
            unknown="prior",
        )
        for ranked in (user.rerank([*ITEMS, "new"], 8, options=options), user.recommend(8, options=options)):
            assert ranked[0].item_id == 7
            assert len({*ids_of(ranked)}) == 8
            assert ranked.propensities is not None
            assert ranked.propensities[0] == 1
            assert all(0 < p <= 1 for p in ranked.propensities)

    def test_two_users_of_the_same_past_explore_alike(self, ranker: Reranker, tmp_path: Path) -> None:
        explore = RankOptions(explore=Explore(policy="thompson", strength=1.0, seed=3))

        def live(restart: bool) -> list:
            user, lists = ranker.user(), []
            for n in range(12):
                lists.append(user.rerank(ITEMS, 5, options=explore))
                user.feedback(lists[-1][n % 5].item_id)
                if restart:
                    user.save(tmp_path / "state.bin")
                    user = ranker.user(tmp_path / "state.bin")
            return lists

        assert live(restart=False) == live(restart=True)

    def test_without_it_nothing_is_left_to_chance(self, user: User) -> None:
        assert user.rerank(ITEMS, options=RankOptions(mmr=0.2)).propensities is None


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"mmr": -0.1}, r"^options: mmr -0.1, expected a number from 0 to 1$"),
            ({"dpp": "much"}, r"^options: dpp 'much', expected a number from 0 to 1$"),
            ({"calibration": float("nan")}, r"^options: calibration nan, expected a number from 0 to 1$"),
            ({"max_per_category": 0}, r"^options: max_per_category 0, expected an integer of at least 1$"),
            ({"unknown": "first"}, r"^options: unknown 'first', expected 'last' or 'prior'$"),
            ({"never": "item-01"}, r"^options: never 'item-01', expected a list of item ids$"),
        ],
    )
    def test_values(self, changes: dict[str, object], text: str) -> None:
        with pytest.raises(InputError, match=text):
            RankOptions(**changes)  # type: ignore[arg-type]

    def test_categories_that_nobody_gave(self, user: User) -> None:
        for options in (RankOptions(max_per_category=2), RankOptions(calibration=0.2)):
            with pytest.raises(
                InputError, match=r"need categories, and the bundle has none; give them as RankOptions"
            ):
                user.rerank(ITEMS, options=options)
        assert len(user.rerank(ITEMS)) == 10  # and the user goes on

    def test_a_category_that_is_no_name(self, user: User) -> None:
        with pytest.raises(InputError, match=r"categories: 3 of item 1; expected a name or several names"):
            user.rerank(ITEMS, options=RankOptions(max_per_category=2, categories={1: 3}))  # type: ignore[dict-item]


class TestCategoriesOfTheBundle:
    @staticmethod
    def with_part(source: Path, target: Path, part: bytes) -> Path:
        bundle = Bundle.open(source)
        manifest = {k: v for k, v in bundle.manifest.items() if k not in ("parts", "format_version")}
        parts = {part["name"]: bundle.part(part["name"]) for part in bundle.manifest["parts"]}
        write_bundle(target, manifest, {**parts, "item_categories": np.frombuffer(part, np.uint8)})
        return target

    def test_they_are_taken_where_the_app_gives_none(self, range_bundle: Path, tmp_path: Path) -> None:
        path = tmp_path / "a.pocket"
        with_categories(range_bundle, path, {**CATEGORIES, 1: ("x", "y"), "not ours": "z"})
        ranker = Reranker.load(path)
        assert ranker.categories is not None
        assert ranker.categories[1] == ("x", "y")
        ranked = ranker.user().rerank(ITEMS, 50, options=RankOptions(max_per_category=1))
        assert len(ranked) == 6  # a to e, and item 1

    @pytest.mark.parametrize(
        "part", [b"", b"[]", b'{"names":["a"],"of_item":[[3]]}', b'{"names":[],"of_item":[]}']
    )
    def test_a_part_that_is_not_ours(self, range_bundle: Path, tmp_path: Path, part: bytes) -> None:
        ranker = Reranker.load(self.with_part(range_bundle, tmp_path / "a.pocket", part))
        with pytest.raises(BundleError, match="export the bundle again"):
            ranker.user().rerank(ITEMS, options=RankOptions(max_per_category=1))


class TestThreads:
    OPTIONS = RankOptions(mmr=0.3, explain=True, max_per_category=4, categories=CATEGORIES, unknown="prior")

    def test_rankings_of_one_user_in_threads_are_as_one_after_the_other(self, user: User) -> None:
        lists = [np.random.default_rng(n).permutation(ITEMS)[:20].tolist() for n in range(24)]
        expected = [user.rerank(candidates, options=self.OPTIONS) for candidates in lists]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda candidates: user.rerank(candidates, options=self.OPTIONS), lists))
        assert found == expected
        assert [ranking.reasons for ranking in found] == [ranking.reasons for ranking in expected]
        assert len({ranking.id for ranking in found}) == 24

    def test_users_as_tasks_are_as_one_after_the_other(self, ranker: Reranker) -> None:
        async def live(seed: int) -> list:
            user, rng = ranker.user(), np.random.default_rng(seed)
            for _ in range(5):
                candidates = rng.permutation(ITEMS)[:20].tolist()
                shown = await asyncio.to_thread(user.rerank, candidates, options=self.OPTIONS)
                await asyncio.to_thread(user.feedback, shown[2].item_id, ranking=shown)
            return user.recommend(5)

        async def together() -> list:
            return await asyncio.gather(*(live(seed) for seed in range(6)))

        one_by_one = [asyncio.run(live(seed)) for seed in range(6)]
        assert asyncio.run(together()) == one_by_one
