"""Implicit feedback as labelled rows: what is held out, what is drawn, and ranks in the whole catalogue."""

from __future__ import annotations

from typing import Any

import numpy as np

from pocketrec.benchmarks.implicit_rows import (
    NEGATIVES,
    TRAIN_NEGATIVES,
    Questions,
    implicit_parts,
    rank_catalogue,
)

USERS = np.repeat([1, 2, 3], [5, 4, 2])
ITEMS = np.array([1, 2, 3, 4, 5, 9, 8, 7, 6, 1, 9])
TIMES = np.array([5.0, 4, 3, 2, 1, 1, 2, 3, 4, 1, 2])  # the first user's in reverse


def test_the_last_event_is_tested_and_negatives_were_never_met() -> None:
    (train, valid, test), questions = implicit_parts(USERS, ITEMS, TIMES, n_items=31, seed=1)
    held = {part: rows.items[rows.labels == 1].tolist() for part, rows in (("valid", valid), ("test", test))}
    assert held == {"valid": [2, 7], "test": [1, 6]}
    assert sorted(train.items[train.labels == 1].tolist()) == [
        1,
        3,
        4,
        5,
        8,
        9,
        9,
    ]  # the third user only trains
    assert (len(train.labels), len(test.labels)) == (7 * (1 + TRAIN_NEGATIVES), 2 * (1 + NEGATIVES))
    met = {user: set(ITEMS[user == USERS].tolist()) for user in (1, 2, 3)}
    for rows in (train, valid, test):
        drawn = rows.labels == 0
        pairs = zip(rows.users[drawn].tolist(), rows.items[drawn].tolist(), strict=True)
        assert all(0 < item < 31 and item not in met[user] for user, item in pairs)
    assert questions.users.tolist() == [1, 2]
    assert questions.targets.tolist() == [1, 6]
    assert [history.tolist() for history in questions.histories] == [[5, 4, 3, 2], [9, 8, 7]]
    again = implicit_parts(USERS, ITEMS, TIMES, n_items=31, seed=1)[0][0]
    np.testing.assert_array_equal(again.items, train.items)


class Fixed:
    """Item 5 scores highest, then 4, 3, 2, 1; users do not matter."""

    user, item = "user", "item"

    class schema:
        @staticmethod
        def field(name: str) -> Any:
            return type("Field", (), {"size": 6})

    @staticmethod
    def features_of(items: Any) -> dict[str, Any]:
        return {"item": items}

    @staticmethod
    def logits(rows: dict[str, Any], n_rows: int) -> Any:
        return rows["item"].astype(np.float32)


def test_ranks_leave_out_what_was_met() -> None:
    users, targets = np.array([1, 1, 1]), np.array([5, 2, 2])
    histories = [np.array([1, 2]), np.array([1]), np.array([5, 3, 2])]
    questions = Questions(users, histories, targets)
    assert rank_catalogue(Fixed(), questions).tolist() == [1, 4, 2]  # type: ignore[arg-type]
