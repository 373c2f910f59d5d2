"""The mixture: what the prior says holds before anything is learned, and learning moves it as the formulas say."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketrec.runtime import Bundle, BundleError, Reranker
from pocketrec.runtime.adaptation import OWN_EXPERTS, TASTE_EXPERTS, AdaptationPrior, freshness, read_prior
from pocketrec.runtime.bundle import write_bundle
from pocketrec.runtime.item_space import ItemSpace
from pocketrec.runtime.item_spaces import ItemSpaces
from pocketrec.runtime.item_table import FloatRows
from pocketrec.runtime.mixture import GATE_LIMIT, WEIGHT_PRIOR, Mixture
from pocketrec.runtime.recency import RECENT, Recency, recency_weights
from pocketrec.runtime.residual_user import ResidualUser

N_ITEMS, WIDTH = 40, 6
K = len(OWN_EXPERTS)
SOURCES = ("catalogue", "popularity")


FRESH = {
    "weights": dict.fromkeys(SOURCES, (0.4, 0.3, 0.5, 1.0, 1.5, 0.5)),
    "calibrated": dict.fromkeys(SOURCES, (0.5, 0.4)),
}


@pytest.fixture
def space() -> ItemSpace:
    return ItemSpace.of(
        FloatRows(np.random.default_rng(0).standard_normal((N_ITEMS, WIDTH)).astype(np.float32) + 1)
    )


def make_prior(weights: list[float], calibrated: tuple[float, float] = (1.0, 0.0)) -> AdaptationPrior:
    return AdaptationPrior(
        OWN_EXPERTS,
        dict.fromkeys(SOURCES, np.array(weights)),
        dict.fromkeys(SOURCES, np.array(calibrated)),
        np.ones(K),
        start="mixture",
    )


def adaptation(**changes: Any) -> dict[str, Any]:
    """As a manifest has it, without a taste space."""
    described = {
        "experts": list(OWN_EXPERTS),
        "weights": {source: [0.8, 0.1, 0.5, 1.0, 1.5, 0.5] for source in SOURCES},
        "calibrated": {source: [1.0, 0.2] for source in SOURCES},
        "variances": [1.0] * K,
        "start": "mixture",
    }
    return {**described, **changes}


@pytest.fixture
def adapted(range_bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes the tiny bundle with another `adaptation`."""

    def write(described: Any) -> Path:
        bundle = Bundle.open(range_bundle)
        manifest = {k: v for k, v in bundle.manifest.items() if k not in ("parts", "format_version")}
        parts = {part["name"]: bundle.part(part["name"]) for part in bundle.manifest["parts"]}
        write_bundle(
            tmp_path / "adapted.pocket", {**manifest, "adaptation": described}, parts, overwrite=True
        )
        return tmp_path / "adapted.pocket"

    return write


class TestPrior:
    def test_absent(self) -> None:
        assert read_prior({}, "a.pocket") is None

    def test_read(self) -> None:
        prior = read_prior({"adaptation": adaptation()}, "a.pocket")
        assert prior is not None
        assert not prior.has_taste
        assert prior.weights["catalogue"].tolist() == [0.8, 0.1, 0.5, 1.0, 1.5, 0.5]

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"experts": [*OWN_EXPERTS, "telepathy"]}, "telepathy; this pocketrec knows .*; upgrade"),
            ({"experts": ["base"]}, "upgrade pocketrec"),
            ({"experts": 3}, "not one that pocketrec writes"),
            ({"weights": {}}, "not one that pocketrec writes"),
            ({"weights": {source: ["a"] * K for source in SOURCES}}, "not one that pocketrec writes"),
            ({"weights": {source: [1.0] * (K - 1) for source in SOURCES}}, "do not fit its 6 experts"),
            ({"weights": {source: [float("nan")] * K for source in SOURCES}}, "do not fit"),
            ({"calibrated": {source: [1.0] for source in SOURCES}}, "do not fit"),
            ({"variances": [0.0] * K}, "do not fit"),
            ({"variances": [-1.0] * K}, "do not fit"),
            ({"fresh": {"weights": {}}}, "not one that pocketrec writes"),
            ({"fresh": FRESH | {"weights": dict.fromkeys(SOURCES, (1.0,))}}, "do not fit its 6 experts"),
            ({"fresh": FRESH | {"calibrated": dict.fromkeys(SOURCES, (float("inf"), 0.0))}}, "do not fit"),
            ({"start": "oracle"}, "starts as 'oracle'.*model, mixture; upgrade"),
        ],
    )
    def test_refused(self, changes: dict[str, Any], text: str) -> None:
        with pytest.raises(BundleError, match=text):
            read_prior({"adaptation": adaptation(**changes)}, "a.pocket")

    def test_the_more_of_a_history_is_new_the_more_count_the_fresh_weights(self) -> None:
        prior = read_prior({"adaptation": adaptation(fresh=FRESH)}, "a.pocket")
        assert prior is not None
        assert prior.weights_at("catalogue", 0.0).tolist() == [0.8, 0.1, 0.5, 1.0, 1.5, 0.5]
        np.testing.assert_allclose(prior.weights_at("catalogue", 0.5)[:2], [0.6, 0.2])
        np.testing.assert_allclose(prior.calibrated_at("popularity", 1.0), [0.5, 0.4])
        assert [freshness(n, 50) for n in (0, 25, 50, 500)] == [0.0, 0.5, 1.0, 1.0]
        assert freshness(1, 1) == 1.0

    def test_without_fresh_weights_there_is_one_prior(self) -> None:
        prior = read_prior({"adaptation": adaptation()}, "a.pocket")
        assert prior is not None
        assert prior.weights_at("catalogue", 1.0).tolist() == prior.weights["catalogue"].tolist()
        np.testing.assert_allclose(prior.first_covariance(300.0), np.eye(K) / 300.0)

    def test_people_differ_most_in_how_far_they_trust_the_model(self) -> None:
        prior = read_prior({"adaptation": adaptation(fresh=FRESH)}, "a.pocket")
        assert prior is not None
        covariance = prior.first_covariance(300.0)
        along = np.array([-0.4, 0.2, 0, 0, 0, 0])
        np.testing.assert_allclose(covariance, np.eye(K) / 300 + 0.25 * np.outer(along, along), atol=1e-12)

    def test_no_dictionary(self) -> None:
        with pytest.raises(BundleError, match="not one that pocketrec writes"):
            read_prior({"adaptation": [1]}, "a.pocket")

    def test_taste_experts_without_a_table(self, adapted: Callable[..., Path]) -> None:
        described = adaptation(experts=[*OWN_EXPERTS, *TASTE_EXPERTS], variances=[1.0] * 10)
        described["weights"] = {source: [1.0] * 10 for source in SOURCES}
        with pytest.raises(BundleError, match="without a taste table"):
            Reranker.load(adapted(described))


class TestRecency:
    def test_the_weights_are_those_of_the_recursion(self) -> None:
        for n in (1, 2, 3, 7, RECENT):
            fast = slow = np.zeros(n)
            for event in np.eye(n):
                fast, slow = 0.3 * fast + 0.7 * event, 0.9 * slow + 0.1 * event
            last = (np.arange(n) >= n - 3) / min(n, 3)
            np.testing.assert_allclose(recency_weights(n), [fast, slow, last], rtol=1e-5, atol=1e-9)

    def test_the_means_are_of_items_in_units_of_the_space(self, space: ItemSpace) -> None:
        items = space.table.lookup(np.arange(10))
        expected = recency_weights(10) @ ((items - space.center) / space.radius) / space.radius
        recency = Recency(space.center, space.radius)
        np.testing.assert_allclose(recency.means(recency.scaled(items)), expected, rtol=1e-4, atol=1e-6)

    def test_no_history(self, space: ItemSpace) -> None:
        assert not Recency(space.center, space.radius).means(np.empty((0, WIDTH), np.float32)).any()


class TestSpace:
    def test_spread_is_the_deviation_of_scores(self, space: ItemSpace) -> None:
        user = np.random.default_rng(1).standard_normal(WIDTH).astype(np.float32)
        scores = space.table.score(user[None], np.arange(N_ITEMS)[None])[0]
        assert space.spread(user) == pytest.approx(scores.std(), rel=1e-4)

    def test_items_that_are_all_the_same(self) -> None:
        space = ItemSpace.of(FloatRows(np.ones((5, 3), np.float32)))
        assert space.spread(np.ones(3, np.float32)) == 0
        mixture = Mixture(ItemSpaces([space]), np.ones(3, np.float32), None)
        experts = mixture.experts(np.ones(3, np.float32), np.empty((0, 3), np.float32), 0)
        items = space.table.lookup(np.arange(5))
        mixture.learn_(experts, "catalogue", items, np.zeros(5, np.float32), 2, chosen=True)
        assert np.isfinite(mixture.user_vector(experts, "catalogue")).all()


class TestResidualUser:
    def test_the_gradient_is_that_of_the_log_probability(self) -> None:
        rng = np.random.default_rng(0)
        items = rng.standard_normal((7, 4))

        def log_probability(u: np.ndarray, item: int, chosen: bool) -> float:
            q = np.exp(items @ u)
            q /= q.sum()
            return float(np.log(q[item] if chosen else 1 - q[item]))

        q = np.full(7, 1 / 7, np.float32)
        for chosen in (True, False):
            user = ResidualUser.new(4)
            user.gradient_squared[:] = 1e6  # so that the step is the gradient, scaled by a thousandth
            user.learn_(items.astype(np.float32), q, 3, radius=1.0, chosen=chosen)
            numeric = [
                (log_probability(h, 3, chosen) - log_probability(-h, 3, chosen)) / 2e-5
                for h in 1e-5 * np.eye(4)
            ]
            np.testing.assert_allclose(user.vector * 1e3, numeric, rtol=1e-3, atol=1e-5)

    def test_a_gradient_that_is_not_finite_changes_nothing(self) -> None:
        user = ResidualUser.new(2)
        user.learn_(
            np.array([[np.nan, 1], [1, 1]], np.float32),
            np.array([0.5, 0.5], np.float32),
            0,
            radius=1.0,
            chosen=True,
        )
        assert not user.vector.any()


class TestMixture:
    def users_of(self, space: ItemSpace, prior: AdaptationPrior | None) -> tuple[Mixture, Any]:
        rng = np.random.default_rng(2)
        mixture = Mixture(ItemSpaces([space]), rng.standard_normal(WIDTH).astype(np.float32), prior)
        recent = mixture.spaces.recency.scaled(space.table.lookup(np.array([3, 9, 5])))
        return mixture, mixture.experts(rng.standard_normal(WIDTH).astype(np.float32), recent, 3)

    def test_before_learning_it_is_the_weighted_sum(self, space: ItemSpace) -> None:
        weights = [0.5, 0.1, 1.0, -2.0, 0.3, 0.7]
        mixture, experts = self.users_of(space, make_prior(weights))
        expected = np.array(weights, np.float32) @ experts.matrix
        np.testing.assert_allclose(mixture.user_vector(experts, "catalogue"), expected, rtol=1e-5)

    def test_without_a_prior_and_lessons_it_is_the_model_itself(self, space: ItemSpace) -> None:
        mixture, experts = self.users_of(space, None)
        assert mixture.user_vector(experts, "catalogue") is not None
        np.testing.assert_array_equal(mixture.user_vector(experts, "catalogue"), experts.base)

    def test_an_empty_history_is_popularity(self, space: ItemSpace) -> None:
        mixture = Mixture(ItemSpaces([space]), np.ones(WIDTH, np.float32), make_prior([-1.0] * K))
        experts = mixture.experts(np.ones(WIDTH, np.float32), np.empty((0, WIDTH), np.float32), 0)
        np.testing.assert_array_equal(mixture.user_vector(experts, "catalogue"), np.ones(WIDTH))

    def test_the_step_of_the_weights_is_kalmans(self, space: ItemSpace) -> None:
        mixture, experts = self.users_of(space, make_prior([1.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
        items = space.table.lookup(np.arange(10))
        z = (items @ experts.matrix.T).astype(float)
        q = np.exp(z[:, 0] - z[:, 0].max())
        q /= q.sum()
        mean = q @ z
        information = WEIGHT_PRIOR * np.eye(K) + np.outer(z[4] - mean, z[4] - mean)
        expected = np.linalg.solve(information, z[4] - mean)
        mixture.learn_(experts, "catalogue", items, np.zeros(10, np.float32), 4, chosen=True)
        np.testing.assert_allclose(mixture._delta, expected, rtol=1e-4)

    def test_a_dismissal_leaves_weights_and_gate(self, space: ItemSpace) -> None:
        mixture, experts = self.users_of(space, make_prior([1.0] * K))
        items = space.table.lookup(np.arange(10))
        mixture.learn_(experts, "catalogue", items, np.zeros(10, np.float32), 4, chosen=False)
        assert not mixture._delta.any()
        assert mixture._advantage == 0
        assert mixture.residuals[0].vector.any()

    def test_the_gate_falls_back_and_opens_again(self, space: ItemSpace) -> None:
        """Experts that are sure of the wrong thing: the calibrated base ranks until they are right for a while."""
        mixture, experts = self.users_of(space, make_prior([1.0, 0.0, 0.0, 0.0, 8.0, 0.0]))
        items = space.table.lookup(np.arange(N_ITEMS))
        recent = items @ experts.matrix[4]
        wrong, right = int(recent.argmin()), int(recent.argmax())
        added = np.zeros(N_ITEMS, np.float32)
        for _ in range(3):
            mixture.learn_(experts, "catalogue", items, added, wrong, chosen=True)
        assert mixture.gate_is_closed
        np.testing.assert_allclose(mixture.user_vector(experts, "catalogue"), experts.base, rtol=1e-6)
        for _ in range(100):
            mixture.learn_(experts, "catalogue", items, added, right, chosen=True)
        assert not mixture.gate_is_closed

    def test_the_gate_of_one_event_is_bounded(self, space: ItemSpace) -> None:
        mixture, experts = self.users_of(space, make_prior([1.0, 0.0, 0.0, 0.0, 1000.0, 0.0]))
        items = space.table.lookup(np.arange(N_ITEMS))
        worst = int((items @ experts.matrix[4]).argmin())
        mixture.learn_(experts, "catalogue", items, np.zeros(N_ITEMS, np.float32), worst, chosen=True)
        assert GATE_LIMIT - 2 < mixture._advantage < 0

    @pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
    @pytest.mark.parametrize("prior", [None, make_prior([1.0] * K)])
    def test_numbers_that_are_none_change_nothing(
        self, space: ItemSpace, prior: AdaptationPrior | None
    ) -> None:
        mixture, experts = self.users_of(space, prior)
        before = copy.deepcopy(mixture.learned())
        items = space.table.lookup(np.arange(10))
        added = np.zeros(10, np.float32)
        added[3] = np.nan
        mixture.learn_(experts, "catalogue", items, added, 4, chosen=True)
        items[2] = np.inf
        mixture.learn_(experts, "catalogue", items, np.zeros(10, np.float32), 4, chosen=True)
        after = mixture.learned()
        for name, values in before[0].items():
            np.testing.assert_array_equal(after[0][name], values)

    @pytest.mark.parametrize("prior", [None, make_prior([1.0] * K)])
    def test_it_is_restored_exactly(self, space: ItemSpace, prior: AdaptationPrior | None) -> None:
        mixture, experts = self.users_of(space, prior)
        items = space.table.lookup(np.arange(10))
        for item in (1, 2, 3):
            mixture.learn_(experts, "catalogue", items, np.zeros(10, np.float32), item, chosen=True)
        again, _ = self.users_of(space, prior)
        again.restore_(*mixture.learned())
        for item in (4, 5):
            for one in (mixture, again):
                one.learn_(experts, "catalogue", items, np.zeros(10, np.float32), item, chosen=True)
        np.testing.assert_array_equal(
            again.user_vector(experts, "catalogue"), mixture.user_vector(experts, "catalogue")
        )

    @pytest.mark.parametrize("change", ["missing", "shape", "negative"])
    def test_what_does_not_fit_is_not_taken(self, space: ItemSpace, change: str) -> None:
        mixture, experts = self.users_of(space, None)
        items = space.table.lookup(np.arange(10))
        mixture.learn_(experts, "catalogue", items, np.zeros(10, np.float32), 1, chosen=True)
        arrays, counters = mixture.learned()
        match change:
            case "missing":
                del arrays["advantage"]
            case "shape":
                arrays["user_vector_0"] = np.zeros(WIDTH + 1, np.float32)
            case _:
                arrays["gradient_squared_0"] = -arrays["gradient_squared_0"]
        fresh, _ = self.users_of(space, None)
        fresh.restore_(arrays, counters)
        assert fresh.n_events == 0


class TestInTheReranker:
    @pytest.mark.parametrize("start", [None, "model"])
    def test_until_the_first_feedback_the_ranking_is_the_models(
        self, adapted: Callable[..., Path], range_bundle: Path, start: str | None
    ) -> None:
        described = adaptation(start=start)
        if start is None:
            del described["start"]
        user, plain = Reranker.load(adapted(described)).user(), Reranker.load(range_bundle).user()
        for one in (user, plain):
            one.observe(7, 9, 11)
        assert user.rerank(range(1, 51), k=50) == plain.rerank(range(1, 51), k=50)
        assert user.recommend(k=20) == plain.recommend(k=20)
        user.feedback(3)
        plain.observe(3)
        assert user.rerank(range(1, 51), k=50) != plain.rerank(range(1, 51), k=50)

    def test_with_a_prior_the_first_event_ranks_by_the_mixture(self, adapted: Callable[..., Path]) -> None:
        path = adapted(adaptation(weights={source: [0.0, 0.0, 0.0, 0.0, 1.0, 0.0] for source in SOURCES}))
        ranker = Reranker.load(path)
        user = ranker.user()
        engine = ranker.engine
        popular = [item.item_id for item in user.rerank(range(1, 51), k=50)]
        scores = engine.score(engine.prior()[None], np.arange(50)[None])[0]
        assert popular == (np.argsort(-scores, kind="stable") + 1).tolist()  # nothing observed: popularity
        user.observe(7)
        vectors = engine.table.lookup(np.arange(50))
        similarity = vectors @ (vectors[6] - vectors.mean(axis=0))
        ranked = [item.item_id for item in user.rerank(range(1, 51), k=50)]
        assert ranked == (np.argsort(-similarity, kind="stable") + 1).tolist()

    def test_sources_differ(self, adapted: Callable[..., Path]) -> None:
        weights = {"catalogue": [1.0, 0, 0, 0, 0, 0], "popularity": [1.0, -5.0, 0, 0, 0, 0]}
        path = adapted(adaptation(weights=weights))
        ranked = {}
        for source in SOURCES:
            user = Reranker.load(path, candidates=source).user()  # type: ignore[arg-type]
            user.observe(7)
            ranked[source] = user.rerank(range(1, 51), k=50)
        assert ranked["catalogue"] != ranked["popularity"]

    def test_an_unknown_source(self, range_bundle: Path) -> None:
        with pytest.raises(ValueError, match="candidates: got 'all', expected one of catalogue, popularity"):
            Reranker.load(range_bundle, candidates="all")  # type: ignore[arg-type]

    def test_a_state_of_another_prior_keeps_the_history_only(
        self, adapted: Callable[..., Path], range_bundle: Path, tmp_path: Path
    ) -> None:
        user = Reranker.load(range_bundle).user(tmp_path / "state.bin")
        user.rerank(range(1, 51))
        user.feedback(3)
        user.save()
        moved = Reranker.load(adapted(adaptation())).user(tmp_path / "state.bin")
        assert (moved.history, moved._model.mixture.n_events) == ([3], 0)


class TestTaste:
    @pytest.fixture
    def ranker(self, range_bundle: Path) -> Reranker:
        return Reranker.load(range_bundle.with_name("tiny-taste.pocket"))

    def test_scores_are_the_sum_of_both_spaces(self, ranker: Reranker) -> None:
        assert ranker.taste_table is not None
        user = ranker.user()
        user.observe(3, 9)
        user.feedback(27)
        users = user._model._ranker.spaces.split(user._model.user_vector("catalogue"))
        items = ranker.engine.table.lookup(np.arange(50)) @ users[0]
        tastes = ranker.taste_table.lookup(np.arange(50)) @ users[1]
        scores = {item.item_id: item.score for item in user.rerank(range(1, 51), k=50)}
        np.testing.assert_allclose([scores[n] for n in range(1, 51)], items + tastes, rtol=1e-4, atol=1e-5)

    def test_recommend_ranks_as_rerank_does(self, ranker: Reranker) -> None:
        """The catalogue is scored with the user's vector rounded to int8 (`MatMulNBits`): near ties may swap."""
        user = ranker.user()
        user.observe(3, 9, 27)
        for n in range(5):
            user.rerank(range(1, 51))
            user.feedback(10 + n)
        recommended = [item.item_id for item in user.recommend(k=10, exclude_seen=False)]
        ranked = [item.item_id for item in user.rerank(range(1, 51), k=10)]
        assert len({*recommended} & {*ranked}) >= 8

    def test_it_learns_and_goes_on(self, ranker: Reranker, tmp_path: Path) -> None:
        user = ranker.user(tmp_path / "state.bin")
        for n in range(1, 20):
            user.recommend()
            user.feedback(n)
        assert user._model.mixture.residuals[1].vector.any()
        user.save()
        again = ranker.user(tmp_path / "state.bin")
        assert again.rerank(range(1, 51), k=50) == user.rerank(range(1, 51), k=50)
        assert (tmp_path / "state.bin").stat().st_size < 8 << 10

    def test_the_seen_and_dismissed_are_left_out(self, ranker: Reranker) -> None:
        user = ranker.user()
        user.observe(3, 9)
        user.feedback(4, clicked=False)
        ids = [item.item_id for item in user.recommend(k=50)]
        assert len(ids) == 47
        assert not {3, 9, 4} & {*ids}

    @pytest.mark.parametrize("changes", [{"format": "float"}, {"width": 0}, {"bits": "4"}])
    def test_a_table_that_is_described_wrongly(
        self, range_bundle: Path, tmp_path: Path, changes: dict[str, Any]
    ) -> None:
        bundle = Bundle.open(range_bundle.with_name("tiny-taste.pocket"))
        manifest = {k: v for k, v in bundle.manifest.items() if k not in ("parts", "format_version")}
        described = manifest["adaptation"]
        manifest["adaptation"] = {**described, "taste": {**described["taste"], **changes}}
        parts = {part["name"]: bundle.part(part["name"]) for part in bundle.manifest["parts"]}
        write_bundle(tmp_path / "odd.pocket", manifest, parts)
        with pytest.raises(BundleError, match="taste table of format"):
            Reranker.load(tmp_path / "odd.pocket")
