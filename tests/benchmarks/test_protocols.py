from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pocketrec.benchmarks.interactions import map_items, read_interactions
from pocketrec.benchmarks.protocols import leave_one_out, temporal, training_sequences
from pocketrec.runtime.errors import InputError
from pocketrec.runtime.item_ids import ItemIds


def rows(*sequences: list[int]) -> list[NDArray[np.int64]]:
    return [np.array(sequence, np.int64) for sequence in sequences]


def listed(arrays: list[NDArray[np.int64]]) -> list[list[int]]:
    return [array.tolist() for array in arrays]


SEQUENCES = rows([1, 2, 3, 4], [5], [], [6, 7, 8], [9, 9])


def test_leave_one_out() -> None:
    test = leave_one_out(SEQUENCES, stage="test")
    validation = leave_one_out(SEQUENCES, stage="validation")
    assert listed(test.histories) == [[1, 2, 3], [6, 7]]
    assert test.targets.tolist() == [4, 8]
    assert listed(validation.histories) == [[1, 2], [6]]
    assert validation.targets.tolist() == [3, 7]
    for split in (test, validation):
        assert split.users.tolist() == [0, 3]
        assert split.users.dtype == split.targets.dtype == np.int64
        assert split.left_out == 3
        assert len(split) == 2
    assert test.protocol == "leave-one-out, test"
    assert listed(training_sequences(SEQUENCES)) == [[1, 2], [], [], [6], []]


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=8).filter(
        lambda s: any(len(x) >= 3 for x in s)
    )
)
def test_the_parts_of_leave_one_out_make_the_whole(sequences: list[list[int]]) -> None:
    arrays = rows(*sequences)
    test, validation = (leave_one_out(arrays, stage=stage) for stage in ("test", "validation"))
    training = training_sequences(arrays)
    for i, u in enumerate(test.users):
        assert [*training[u], validation.targets[i], test.targets[i]] == sequences[u]
        assert test.histories[i].tolist() == [*validation.histories[i], validation.targets[i]]
        assert len(validation.histories[i]) >= 1
    assert len(test) + test.left_out == len(sequences)


def test_leave_one_out_asks_users_of_two_events_where_allowed() -> None:
    assert leave_one_out(SEQUENCES, stage="test", min_length=2).users.tolist() == [0, 3, 4]
    with pytest.raises(InputError, match="min_length=2; validation needs at least 3 events"):
        leave_one_out(SEQUENCES, stage="validation", min_length=2)


def test_leave_one_out_refuses() -> None:
    with pytest.raises(InputError, match="none of the 2 users has 3 events"):
        leave_one_out(rows([1], [2, 3]), stage="test")
    with pytest.raises(InputError, match="stage 'train'; expected 'validation' or 'test'"):
        leave_one_out(SEQUENCES, stage="train")  # pyright: ignore[reportArgumentType]


TIMES = [np.array(t, np.float64) for t in ([1, 2, 5, 9], [1], [], [5, 6, 7], [1, 2])]


def test_temporal() -> None:
    split = temporal(SEQUENCES, TIMES, cut=5)
    assert listed(split.training) == [[1, 2], [5], [], [], [9, 9]]  # an event at the cut is after it
    assert [t.tolist() for t in split.training_times] == [[1, 2], [1], [], [], [1, 2]]
    assert split.test.users.tolist() == [
        0
    ]  # users 1, 2 and 4 have nothing after it, user 3 nothing before it
    assert listed(split.test.histories) == [[1, 2]]
    assert split.test.targets.tolist() == [3]
    assert listed(split.streams) == [[3, 4]]
    assert split.test.left_out == 4
    assert split.test.protocol == "temporal, cut at 5"


def test_temporal_cuts_again_for_validation() -> None:
    split = temporal(SEQUENCES, TIMES, cut=5)
    validation = temporal(split.training, split.training_times, cut=2)
    assert listed(validation.training) == [[1], [5], [], [], [9]]
    assert validation.test.targets.tolist() == [2, 9]


def test_temporal_quantile_leaves_no_more_than_its_share_before_the_cut() -> None:
    times = [np.arange(10, dtype=np.float64), np.arange(10, dtype=np.float64)]
    split = temporal(rows(list(range(10)), list(range(10))), times, quantile=0.8)
    assert split.cut == 8
    assert sum(map(len, split.training)) == 16
    assert sum(map(len, split.streams)) == 4


def test_temporal_min_history() -> None:
    assert temporal(SEQUENCES, TIMES, cut=6, min_history=3).test.users.tolist() == [0]


def test_temporal_refuses() -> None:
    with pytest.raises(InputError, match="needs times, and the data have none; use leave-one-out"):
        temporal(SEQUENCES, None)
    with pytest.raises(InputError, match="no event lies before the cut at 0"):
        temporal(SEQUENCES, TIMES, cut=0)
    with pytest.raises(InputError, match="no user has events both before and after the cut at 10"):
        temporal(SEQUENCES, TIMES, cut=10)
    with pytest.raises(InputError, match="no events"):
        temporal([], [])
    for quantile in (0.0, 1.0, None):
        with pytest.raises(InputError, match="expected a share of the events between 0 and 1"):
            temporal(SEQUENCES, TIMES, quantile=quantile)


@pytest.mark.shared
def test_real_data(shared: Path) -> None:
    data = read_interactions(shared / "data/ml-100k/ml-100k.inter")
    mapped = map_items(data, ItemIds.from_sequence(range(1, 1683)))
    assert len(leave_one_out(mapped.sequences, stage="test")) == 943
    split = temporal(mapped.sequences, mapped.times, quantile=0.8)
    assert sum(map(len, split.training)) == pytest.approx(80_000, abs=200)  # ties at the cut
    assert 0 < len(split.test) < 943
