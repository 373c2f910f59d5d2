"""What goes over to another bundle, or to another user, and what does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pocketrec.runtime import Reranker
from pocketrec.runtime.item_ids import ItemIds
from pocketrec.runtime.item_space import ItemSpace
from pocketrec.runtime.item_table import FloatRows
from pocketrec.runtime.state_transfer import migrate, space_map, warm_started
from pocketrec.runtime.user import User
from pocketrec.runtime.user_state import UserState

N_ITEMS, OLD_WIDTH, NEW_WIDTH = 60, 6, 8


@pytest.fixture
def old(range_bundle: Path) -> Reranker:
    return Reranker.load(range_bundle)


@pytest.fixture
def new(range_bundle: Path) -> Reranker:
    """The same ids and model, with a prior and a taste table."""
    return Reranker.load(range_bundle.with_name("tiny-taste.pocket"))


@pytest.fixture
def person(old: Reranker) -> User:
    """Somebody who has taught the old bundle something."""
    user = old.user()
    user.observe(3, 41)
    for item_id in (7, 9, 7, 12):
        user.rerank(range(1, 51), k=50)
        user.feedback(item_id)
    user.feedback(20, clicked=False)
    return user


class TestSpaceMap:
    def test_shared_items_are_ranked_as_before(self) -> None:
        """The new table is the old one, turned into more dimensions, in another order, with items that are new."""
        rng = np.random.default_rng(0)
        before = rng.standard_normal((N_ITEMS, OLD_WIDTH))
        turn = np.linalg.qr(rng.standard_normal((NEW_WIDTH, NEW_WIDTH)))[0][:OLD_WIDTH]
        order = rng.permutation(N_ITEMS)
        after = np.concatenate([before[order] @ turn * 3 + 5, rng.standard_normal((10, NEW_WIDTH))])
        old_space = ItemSpace.of(FloatRows(before.astype(np.float32)))
        new_space = ItemSpace.of(FloatRows(after.astype(np.float32)))
        old_ids = ItemIds.from_sequence([f"a{n}" for n in range(N_ITEMS)])
        new_ids = ItemIds.from_sequence([f"a{n}" for n in order] + [f"b{n}" for n in range(10)])
        to_new = space_map(old_space, old_ids, new_space, new_ids)
        assert to_new is not None
        user = rng.standard_normal(OLD_WIDTH)
        scores = before[order] @ user
        moved = after[:N_ITEMS] @ (to_new @ user)
        assert np.corrcoef(scores, moved)[0, 1] > 0.9999
        np.testing.assert_allclose(
            moved.std() / scores.std(), 1, rtol=0.01
        )  # the ridge takes up to .6% of it

    def test_with_too_few_shared_items_there_is_none(self) -> None:
        rng = np.random.default_rng(0)
        space = ItemSpace.of(FloatRows(rng.standard_normal((N_ITEMS, OLD_WIDTH)).astype(np.float32)))
        ids = ItemIds.from_sequence(range(N_ITEMS))
        shifted = ItemIds.from_sequence(range(N_ITEMS - 11, 2 * N_ITEMS - 11))
        assert space_map(space, ids, space, shifted) is None
        shifted = ItemIds.from_sequence(range(N_ITEMS - 12, 2 * N_ITEMS - 12))
        assert space_map(space, ids, space, shifted) is not None


class TestMigrate:
    def test_ids_survive_and_vectors_are_mapped(self, person: User, old: Reranker, new: Reranker) -> None:
        before = person.state
        moved = migrate(before, new, old)
        assert (moved.history, moved.dismissed) == (before.history, before.dismissed)
        assert moved.bundle == new.engine.bundle.fingerprint
        np.testing.assert_allclose(  # the same table: the map is the identity, but for its ridge
            moved.learned["user_vector_0"], before.learned["user_vector_0"], rtol=0.05, atol=0.005
        )
        assert not moved.learned["user_vector_1"].any()
        user = new.user(warm_start=moved)
        assert user.state.learned.keys() == moved.learned.keys()
        np.testing.assert_array_equal(user.state.learned["user_vector_0"], moved.learned["user_vector_0"])
        assert user.state.counters["learned_events"] == before.counters["learned_events"]

    def test_there_and_back(self, person: User, old: Reranker, new: Reranker) -> None:
        back = migrate(migrate(person.state, new, old), old, new)
        ranked = [item.item_id for item in old.user(warm_start=back).rerank(range(1, 51), k=50)]
        expected = old.user(warm_start=person).rerank(range(1, 51), k=50)
        places = {item.item_id: place for place, item in enumerate(expected)}
        assert np.corrcoef([places[item_id] for item_id in ranked], range(50))[0, 1] > 0.99

    def test_its_own_bundle_changes_nothing(self, person: User, old: Reranker) -> None:
        state = person.state
        assert migrate(state, old) is state

    @pytest.mark.parametrize("with_wrong_old", [False, True])
    def test_without_the_old_bundle_the_history_is_replayed(
        self, person: User, new: Reranker, with_wrong_old: bool
    ) -> None:
        moved = migrate(person.state, new, new if with_wrong_old else None)
        again = new.user()
        for item_id in person.history:
            again.feedback(item_id)
        np.testing.assert_array_equal(moved.learned["user_vector_0"], again.state.learned["user_vector_0"])
        assert moved.learned["user_vector_1"].any()
        assert moved.dismissed == [20]
        assert moved.counters["learned_events"] == 6

    def test_a_bundle_that_shares_no_item(self, person: User, old: Reranker, text_bundle: Path) -> None:
        other = Reranker.load(text_bundle)
        moved = migrate(person.state, other, old)
        assert (moved.history, moved.dismissed) == ([3, 41, 7, 9, 7, 12], [20])
        items = [f"item-{n:02}" for n in range(50)]
        assert other.user(warm_start=moved).rerank(items) == other.user().rerank(items)


class TestWarmStart:
    def test_from_a_user_of_the_same_bundle(self, person: User, old: Reranker) -> None:
        newcomer = old.user(warm_start=person)
        assert newcomer.history == person.history
        person.feedback(20)  # takes the dismissal back, and shows that the two share nothing
        assert newcomer.history == [3, 41, 7, 9, 7, 12]
        assert newcomer.state.dismissed == []
        twin = old.user(warm_start=newcomer.state)
        assert twin.rerank(range(1, 51), k=50) == newcomer.rerank(range(1, 51), k=50)
        assert twin.rerank(range(1, 51), k=50) != old.user().rerank(range(1, 51), k=50)

    def test_from_a_user_of_another_bundle(self, person: User, new: Reranker) -> None:
        newcomer = new.user(warm_start=person)
        mapped = warm_started(new, person)
        np.testing.assert_array_equal(
            newcomer.state.learned["user_vector_0"], mapped.learned["user_vector_0"]
        )
        assert newcomer.history == person.history

    def test_a_saved_state_comes_first(self, person: User, old: Reranker, tmp_path: Path) -> None:
        user = old.user(tmp_path / "state.bin", warm_start=person)
        assert user.history == person.history
        user.feedback(30)
        user.save()
        again = old.user(tmp_path / "state.bin", warm_start=UserState(history=[1]))
        assert again.history == [*person.history, 30]
