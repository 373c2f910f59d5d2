"""The prior: fitted weights are those that made the data, and experts are shipped where they pay."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pocketrec.compress.adapt import write_adapted
from pocketrec.compress.adaptation_prior import fit_adaptation_prior
from pocketrec.compress.choice_lists import draw_list
from pocketrec.compress.mixture_weights import fit_weights
from pocketrec.compress.taste_table import make_taste_table, taste_vectors
from pocketrec.runtime import Engine, InputError, Reranker
from pocketrec.runtime.adaptation import OWN_EXPERTS, SOURCES, TASTE_EXPERTS, read_prior

TINY = Path(__file__).parent.parent / "runtime" / "data" / "tiny-range.pocket"
N_ITEMS = 50


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load(TINY)


def walks(engine: Engine, n_users: int, seed: int = 0) -> list[np.ndarray]:
    """The next item is much like the one before the last: the means see it, the random model, near the last, does not."""
    rng = np.random.default_rng(seed)
    vectors = engine.table.lookup(np.arange(N_ITEMS))
    vectors = vectors - vectors.mean(axis=0)
    near = np.argsort(-(vectors @ vectors.T), axis=1)[:, 1:6]
    sequences = []
    for _ in range(n_users):
        walk = rng.choice(N_ITEMS, 2, replace=False).tolist()
        while len(walk) < 8:
            fresh = [row for row in near[walk[-2]] if row not in walk]
            walk.append(int(rng.choice(fresh)) if fresh else int(rng.integers(N_ITEMS)))
        sequences.append(np.array(walk))
    return sequences


def noise(n_users: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.permutation(N_ITEMS)[:8] for _ in range(n_users)]


class TestFitWeights:
    def test_weights_that_made_the_choices_are_found(self) -> None:
        rng = np.random.default_rng(0)
        true = np.array([0.8, -0.5, 2.0])
        z = rng.standard_normal((5000, 20, 3)) * [1.0, 3.0, 0.1]
        choice = (z @ true + rng.gumbel(size=(5000, 20))).argmax(axis=1)
        everyone = np.arange(5000)
        z[everyone, choice], z[:, 0] = z[:, 0].copy(), z[everyone, choice].copy()
        np.testing.assert_allclose(fit_weights(z), true, atol=0.2)

    def test_a_column_that_says_nothing_weighs_nothing(self) -> None:
        z = np.random.default_rng(0).standard_normal((500, 10, 2))
        z[:, 0, 0] += 1
        z[:, :, 1] = 0
        assert np.isfinite(fit_weights(z)).all()

    def test_perfect_experts_stay_finite(self) -> None:
        z = np.zeros((500, 10, 2))
        z[:, 0] = 1
        weights = fit_weights(z)
        assert np.isfinite(weights).all()
        assert weights.max() < 100


class TestLists:
    def test_the_event_and_others_that_were_not_chosen(self) -> None:
        sequence = np.array([3, 4, 5])
        rows = draw_list(np.random.default_rng(0), np.arange(1.0, 51.0), sequence, 30)
        assert (rows[0], len(rows)) == (5, 31)
        assert not np.isin(rows[1:], sequence).any()

    def test_chances_are_kept(self) -> None:
        chances = np.cumsum(np.where(np.arange(50) < 5, 100.0, 1.0))
        rng = np.random.default_rng(0)
        drawn = np.concatenate([draw_list(rng, chances, np.array([49]), 20)[1:] for _ in range(50)])
        assert (drawn < 5).mean() > 0.8

    @pytest.mark.parametrize("n_items", [3, 4])
    def test_small_catalogues_repeat_themselves(self, n_items: int) -> None:
        rows = draw_list(np.random.default_rng(0), np.arange(1.0, n_items + 1), np.array([0, 1, 2]), 7)
        assert len(rows) == 8


class TestPrior:
    @pytest.fixture(scope="class")
    @classmethod
    def fitted(cls, engine: Engine) -> dict:
        described = fit_adaptation_prior(engine, walks(engine, 500), seed=0)
        assert described is not None
        return described

    def test_recency_pays_where_it_is_everything(self, fitted: dict) -> None:
        assert fitted["experts"] == list(OWN_EXPERTS)
        for source in SOURCES:
            judged = {step["set"]: step for step in fitted["fitted_on"]["sets"][source]}
            assert judged["recency"]["kept"]
            assert judged["recency"]["ndcg@10"] > 1.2 * judged["base"]["ndcg@10"]

    def test_it_is_json_that_the_runtime_reads(self, fitted: dict) -> None:
        prior = read_prior({"adaptation": json.loads(json.dumps(fitted, allow_nan=False))}, "x")
        assert prior is not None
        assert not prior.has_taste

    def test_both_kinds_of_history_are_fitted(self, fitted: dict) -> None:
        assert fitted["fitted_on"]["thinned_histories"] == 4  # 500 users of at most 3000
        for name in ("weights", "calibrated"):
            for source in SOURCES:
                assert len(fitted["fresh"][name][source]) == len(fitted[name][source])
                assert fitted["fresh"][name][source] != fitted[name][source]

    def test_vectors_weigh_between_nothing_and_one(self, fitted: dict) -> None:
        for source in SOURCES:
            assert 0 <= fitted["weights"][source][OWN_EXPERTS.index("user_vector")] <= 1

    def test_the_same_seed_gives_the_same(self, engine: Engine, fitted: dict) -> None:
        assert fit_adaptation_prior(engine, walks(engine, 500), seed=0) == fitted

    def test_noise_ships_nothing(self, engine: Engine) -> None:
        described = fit_adaptation_prior(engine, noise(300), seed=0)
        assert described is None or not any(
            step["kept"]
            for steps in described["fitted_on"]["sets"].values()
            for step in steps
            if step["set"] == "recency"
        )

    def test_too_few_users(self, engine: Engine) -> None:
        assert fit_adaptation_prior(engine, walks(engine, 20), seed=0) is None
        assert fit_adaptation_prior(engine, [np.array([1])] * 500, seed=0) is None

    def test_a_sample_of_the_users_will_do(self, engine: Engine) -> None:
        described = fit_adaptation_prior(engine, walks(engine, 500), seed=0, max_users=100)
        assert described is not None
        assert described["fitted_on"]["users"]["popularity"] == 100

    def test_a_bundle_with_it_ranks_better(self, engine: Engine, fitted: dict, tmp_path: Path) -> None:
        write_adapted(TINY, tmp_path / "adapted.pocket", fitted)
        hits = {}
        for name, path in (("without", TINY), ("with", tmp_path / "adapted.pocket")):
            ranker = Reranker.load(path)
            hits[name] = 0
            for walk in walks(engine, 100, seed=7):
                user = ranker.user()
                user.observe(*(int(row) + 1 for row in walk[:-2]))
                user.feedback(int(walk[-2]) + 1)  # without, the model ranks alone
                hits[name] += walk[-1] + 1 in [item.item_id for item in user.recommend(k=5)]
        assert hits["with"] > 1.3 * hits["without"]


class TestTaste:
    def sequences(self) -> list[np.ndarray]:
        """Two tastes that the model's table knows nothing of: even rows and odd rows."""
        rng = np.random.default_rng(0)
        return [user % 2 + 2 * rng.permutation(25)[:8] for user in range(600)]

    def test_dot_products_are_ridge_regression_from_items_to_items(self) -> None:
        sequences = self.sequences()[:80]
        matrix = np.zeros((80, N_ITEMS))
        for user, rows in enumerate(sequences):
            matrix[user, rows] = 1
        matrix /= matrix.sum(axis=0) ** 0.25
        singular = np.linalg.svd(matrix, compute_uv=False)
        gram = matrix.T @ matrix
        ridge = np.linalg.solve(gram + singular[N_ITEMS // 3] ** 2 * np.eye(N_ITEMS), gram)
        center = np.eye(N_ITEMS) - 1 / N_ITEMS
        expected = center @ ridge @ center
        found = taste_vectors(sequences, N_ITEMS, width=N_ITEMS)
        found = found @ found.T * np.trace(expected) / N_ITEMS
        np.testing.assert_allclose(found, expected, atol=1e-6)

    def test_it_separates_tastes(self) -> None:
        vectors = taste_vectors(self.sequences(), N_ITEMS, width=2)
        centered = vectors - vectors.mean(axis=0)
        alike = centered @ centered.T
        same = np.arange(50)[:, None] % 2 == np.arange(50) % 2
        assert alike[same].mean() > 0.3 > -0.3 > alike[~same].mean()

    def test_it_is_what_folds_a_user_in(self) -> None:
        sequences = self.sequences()[:80]
        matrix = np.zeros((80, N_ITEMS))
        for user, rows in enumerate(sequences):
            matrix[user, rows] = 1
        matrix /= matrix.sum(axis=0) ** 0.25
        _, s, v = np.linalg.svd(matrix, full_matrices=False)
        folded = np.sqrt(s[:2] ** 2 / (s[:2] ** 2 + s[0] ** 2)) * v[:2].T
        expected = folded - folded.mean(axis=0)
        expected /= np.sqrt(np.square(expected).sum(axis=1).mean())
        found = taste_vectors(sequences, N_ITEMS, width=2)
        np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=0.05)  # signs are free

    def test_items_that_nobody_chose(self) -> None:
        table = make_taste_table([np.array([0, 1]), np.array([1, 2]), np.array([0, 2])], 10, width=4)
        assert not table.lookup(np.arange(3, 10)).any()
        assert np.isfinite(table.lookup(np.arange(3))).all()

    def test_content_brings_alike_together_what_few_people_chose(self) -> None:
        content = [[row // 10] for row in range(N_ITEMS)]
        with_content, without = (
            taste_vectors(self.sequences()[:80], N_ITEMS, width=8, content=c) for c in (content, None)
        )
        same = np.arange(N_ITEMS)[:, None] // 10 == np.arange(N_ITEMS) // 10
        gaps = [(v @ v.T)[same].mean() - (v @ v.T)[~same].mean() for v in (with_content, without)]
        assert gaps[0] > gaps[1] + 0.1
        nobodys = taste_vectors([np.arange(5), np.arange(3)], 10, width=4, content=[[0], [1]] * 5)
        assert nobodys[7].any()

    def test_categories_beyond_the_most_frequent_are_left_out(self) -> None:
        every = [[0, 1 + row] for row in range(500)]
        vectors = taste_vectors([np.arange(400), np.arange(100, 500)], 500, width=2, content=every)
        assert np.isfinite(vectors).all()

    def test_no_events(self) -> None:
        with pytest.raises(InputError, match="no events"):
            make_taste_table([np.empty(0, np.int64)], 5)

    def test_it_ships_where_it_pays(self, engine: Engine, tmp_path: Path) -> None:
        sequences = self.sequences()
        taste = make_taste_table([s[:-1] for s in sequences], N_ITEMS, width=8)
        described = fit_adaptation_prior(engine, sequences, seed=0, taste=taste)
        assert described is not None
        assert described["experts"] == [*OWN_EXPERTS, *TASTE_EXPERTS]
        with pytest.raises(InputError, match="none is given"):
            write_adapted(TINY, tmp_path / "x.pocket", described)
        write_adapted(TINY, tmp_path / "x.pocket", described, taste)
        user = Reranker.load(tmp_path / "x.pocket").user()
        user.observe(1, 3, 5, 7)  # ids are rows and one
        user.feedback(9)
        assert np.mean([item.item_id % 2 for item in user.recommend(k=10)]) > 0.8

    def test_it_stays_at_home_where_it_does_not(self, engine: Engine) -> None:
        sequences = walks(engine, 300)
        taste = make_taste_table(noise(300), N_ITEMS, width=8)
        described = fit_adaptation_prior(engine, sequences, seed=0, taste=taste)
        assert described is not None
        assert "taste" not in described
        assert described["experts"] == list(OWN_EXPERTS)
        assert all(steps[-1]["set"] == "taste" for steps in described["fitted_on"]["sets"].values())
