"""Both writers' changes are kept, each kind in its way."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.runtime.state_merge import merge
from pocketrec.runtime.user_state import HISTORY_KEPT, UserState


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "expected"),
    [
        ([], [1], [2], [2, 1]),
        ([1, 2], [1, 2], [1, 2, 3], [1, 2, 3]),
        ([1, 2], [1, 2, 3], [1, 2], [1, 2, 3]),
        ([1, 2], [1, 2, 1], [1, 2, 2], [1, 2, 2, 1]),
        ([5] * 4, [5] * 6, [5] * 5, [5] * 7),
        ([1, 2, 3], [1, 2], [1, 2, 3, 4], [1, 2, 4]),  # ours undid the last
        ([1, 2, 3, 4], [1, 2, 4, 5], [1, 2, 3, 4, 3], [1, 2, 3, 4, 5]),
        ([1, 2, 3], [1, 2], [1, 2], [1, 2]),  # both undid it
    ],
)
def test_histories(base: list, ours: list, theirs: list, expected: list) -> None:
    merged = merge(UserState(history=base), UserState(history=ours), UserState(history=theirs))
    assert merged.history == expected


def test_a_full_window_that_moved_on() -> None:
    base = list(range(HISTORY_KEPT))
    ours, theirs = [*base[3:], "a", "b", "c"], [*base[1:], "d"]
    merged = merge(UserState(history=base), UserState(history=ours), UserState(history=theirs))
    assert merged.history == [*theirs, "a", "b", "c"]


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "expected"),
    [
        ([1], [1, 2], [1, 3], [1, 3, 2]),
        ([1, 2], [2], [1, 2, 3], [2, 3]),
        ([], [1], [1, 2], [2, 1]),
    ],
)
def test_dismissals_are_a_set(base: list, ours: list, theirs: list, expected: list) -> None:
    merged = merge(UserState(dismissed=base), UserState(dismissed=ours), UserState(dismissed=theirs))
    assert merged.dismissed == expected


def learned(vector: list[float], matrix: float, events: int, bundle: str = "b") -> UserState:
    arrays = {"u": np.array(vector), "h": np.eye(2) * matrix}
    return UserState(bundle=bundle, learned=arrays, counters={"learned_events": events})


class TestLearned:
    def test_lessons_add_up(self) -> None:
        merged = merge(learned([1, 1], 3.0, 5), learned([2, 1], 4.0, 7), learned([1, -3], 5.0, 6))
        np.testing.assert_array_equal(merged.learned["u"], [2, -3])
        np.testing.assert_array_equal(merged.learned["h"], np.eye(2) * 6.0)
        assert merged.counters["learned_events"] == 8

    def test_what_is_positive_stays_so(self) -> None:
        """Where a learner forgets, the difference of two sums may be negative."""
        merged = merge(learned([9, 9], 9.0, 5), learned([1, 1], 1.0, 7), learned([2, 3], 2.0, 6))
        np.testing.assert_array_equal(merged.learned["u"], [1, 1])
        np.testing.assert_array_equal(merged.learned["h"], np.eye(2) * 2.0)

    def test_without_a_common_beginning_the_one_that_learned_more(self) -> None:
        merged = merge(UserState(), learned([1, 1], 1.0, 7), learned([2, 2], 2.0, 6))
        np.testing.assert_array_equal(merged.learned["u"], [1, 1])
        assert merged.counters["learned_events"] == 7

    def test_vectors_of_another_bundle_are_not_mixed(self) -> None:
        merged = merge(
            learned([0, 0], 1.0, 0, "old"), learned([1, 1], 1.0, 1, "new"), learned([2, 2], 2.0, 9, "old")
        )
        assert merged.bundle == "new"
        np.testing.assert_array_equal(merged.learned["u"], [1, 1])
        assert merged.counters["learned_events"] == 1


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "expected"),
    [
        ({}, {"log": [1]}, {"log": [2]}, {"log": [2, 1]}),
        ({"log": [1]}, {"log": [1, 3]}, {"log": [1, 2]}, {"log": [1, 2, 3]}),
        (
            {"log": [1, [2, None]]},
            {"log": [1, [2, None], [2, None]]},
            {"log": [1, [2, None], 1]},
            {"log": [1, [2, None], 1, [2, None]]},
        ),
        ({"n": 1}, {"n": 1}, {"n": 2}, {"n": 2}),
        ({"n": 1}, {"n": 3}, {"n": 2}, {"n": 3}),
        ({"n": 1, "m": 1}, {"m": 1}, {"n": 1, "m": 1}, {"m": 1}),
        ({"n": 1}, {"n": 1, "a": 1}, {"n": 1, "b": 2}, {"n": 1, "b": 2, "a": 1}),
        ({"d": {"x": 1}}, {"d": {"x": 1, "y": 2}}, {"d": {"x": 5}}, {"d": {"x": 5, "y": 2}}),
    ],
)
def test_extra(base: dict, ours: dict, theirs: dict, expected: dict) -> None:
    merged = merge(UserState(extra=base), UserState(extra=ours), UserState(extra=theirs))
    assert merged.extra == expected
