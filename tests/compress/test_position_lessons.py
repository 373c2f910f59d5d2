"""Many positions in one pass: they are the prefixes, their losses are those of prefixes, and a student learns by them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from pocketrec.compress.catalogue_lessons import CatalogueLessons
from pocketrec.compress.distill import distill
from pocketrec.compress.distill_config import DistillConfig
from pocketrec.compress.history_windows import check_prefixes, states_of, window_count, windows_of
from pocketrec.compress.models.protocol import SequenceModel
from pocketrec.compress.models.sasrec import SASRec, SASRecConfig
from pocketrec.compress.position_lessons import PositionLessons
from pocketrec.compress.student import StudentConfig, make_student
from pocketrec.runtime.errors import InputError

from .models.families import FAMILIES, lively
from .spoilt import spoilt

N_ITEMS, MAX_LENGTH = 40, 6
CONFIG = SASRecConfig(
    n_items=N_ITEMS, width=8, n_layers=2, n_heads=1, inner_widths=16, max_length=MAX_LENGTH, positions="start"
)
LESSONS = DistillConfig(positions=3, batch_size=12, hidden_weight=0.5, temperature=1.0)


@pytest.fixture(scope="module")
def teacher() -> SASRec:
    return spoilt(SASRec(CONFIG).eval(), 0.4, seed=1)


@pytest.fixture(scope="module")
def sequences() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.permutation(N_ITEMS)[:n] for n in (0, 1, 2, 6, 7, 13, *rng.integers(2, 20, 60))]


def test_windows_end_with_the_last_items_and_cover_what_is_longer(sequences: list[np.ndarray]) -> None:
    windows = list(windows_of(sequences, MAX_LENGTH, np.random.default_rng(0)))
    assert len(windows) == window_count(sequences, MAX_LENGTH)
    for user, sequence in enumerate(sequences):
        own = [(start, end) for one, start, end in windows if one == user]
        assert len(own) == -(-len(sequence) // MAX_LENGTH)
        if len(own):
            assert own[0] == (max(0, len(sequence) - MAX_LENGTH), len(sequence))
        assert all(end - start == min(MAX_LENGTH, len(sequence)) for start, end in own)
    assert windows != list(windows_of(sequences, MAX_LENGTH, np.random.default_rng(1)))


def test_states_are_what_is_said_of_prefixes(teacher: SASRec) -> None:
    rows = torch.tensor([[3, 7, 1, 9], [5, 2, -1, -1]])
    with torch.no_grad():
        states = states_of(teacher, rows, teacher.item_table)
        for row, n in ((0, 1), (0, 3), (0, 4), (1, 1), (1, 2)):
            alone = teacher.encode(teacher.item_table[rows[row : row + 1, :n]])[0]
            # sums in another order, of values near 1
            torch.testing.assert_close(states[row, n - 1], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_whoever_passes_the_check_says_the_same_of_prefixes(family: str) -> None:
    """The check is of one history; here, of others. What it refuses is off by more than rounding."""
    model = lively(family)
    table = model.item_table.detach()
    rows = torch.arange(8).reshape(2, 4) + 3
    with torch.no_grad():
        states = states_of(model, rows, table)
        alone = torch.stack([model.encode(table[rows[:, :n]]) for n in range(1, 5)], 1)
    off = float((states - alone).abs().max())
    try:
        check_prefixes(model, "teacher")
    except InputError:
        assert off > 1e-3
    else:
        assert off < 1e-4


def test_positions_that_are_counted_from_the_end_are_refused(
    teacher: SASRec, sequences: list[np.ndarray]
) -> None:
    from_the_end = SASRec(dataclasses.replace(CONFIG, positions="end"))
    from_the_end.load_state_dict(teacher.state_dict())
    with pytest.raises(
        InputError, match=r"positions need an encoder .* which the student, a SASRec, does not"
    ):
        PositionLessons(from_the_end.eval(), teacher, sequences, LESSONS, None)


def test_large_catalogues_are_refused(teacher: SASRec, sequences: list[np.ndarray]) -> None:
    config = dataclasses.replace(LESSONS, sampled_items=8)
    with pytest.raises(InputError, match="positions are for catalogues that are scored whole"):
        PositionLessons(teacher, teacher, sequences, config, None)


@pytest.mark.parametrize("values", [{"positions": -1}, {"positions": 2, "continued_share": 0.5}])
def test_the_config_is_checked(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"distill: positions .*, expected at least 0"):
        DistillConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("order_weight", [0.0, 0.5])
def test_the_loss_is_that_of_the_prefixes(
    teacher: SASRec, sequences: list[np.ndarray], order_weight: float
) -> None:
    """Of every position: the mean over prefixes, each asked by itself."""
    student = spoilt(teacher, 0.3, seed=2)
    config = dataclasses.replace(
        LESSONS, positions=MAX_LENGTH, hidden_weight=0.0, order_weight=order_weight, order_length=4
    )
    lessons = PositionLessons(student, teacher, sequences, config, None)
    alone = CatalogueLessons(teacher, sequences, config, MAX_LENGTH, None)
    n_targets = 0
    for rows, loss_of in lessons.epoch(np.random.default_rng(0)):
        table = student.item_table
        loss = loss_of(states_of(student, rows, table), table)
        losses = []
        for row in rows:
            history = row[row >= 0]
            for n in range(1, len(history) + 1):
                target = history[n] if n < len(history) else _next_of(sequences, history)
                prefix = history[None, :n]
                users = student.encode(table[prefix])
                losses.append(alone._loss(users, table, prefix, torch.as_tensor(target)[None]))
                n_targets += 1
        torch.testing.assert_close(loss, torch.stack(losses).mean(), rtol=1e-4, atol=1e-5)
    assert n_targets > 200


def _next_of(sequences: list[np.ndarray], window: torch.Tensor) -> int:
    """What came after a window, whose items occur once in its sequence, -1 for nothing; users are told apart by their items."""
    for sequence in sequences:
        for start in range(len(sequence) - len(window) + 1):
            end = start + len(window)
            if np.array_equal(sequence[start:end], window.numpy()) and (
                start == 0 or len(window) == MAX_LENGTH
            ):
                return int(sequence[end]) if end < len(sequence) else -1
    raise AssertionError(f"no such window: {window}")


def test_hidden_states_count_at_every_position(teacher: SASRec, sequences: list[np.ndarray]) -> None:
    lessons = PositionLessons(teacher, teacher, sequences, LESSONS, None)
    off = PositionLessons(teacher, teacher, sequences, dataclasses.replace(LESSONS, hidden_weight=0.0), None)
    pairs = zip(lessons.epoch(np.random.default_rng(0)), off.epoch(np.random.default_rng(0)), strict=True)
    for (rows, loss_of), (_, loss_without) in pairs:
        states, table = states_of(teacher, rows, teacher.item_table), teacher.item_table
        longer = 2 * states
        more = loss_of(longer, table) - loss_without(longer, table)
        assert float(more.detach()) == pytest.approx(LESSONS.hidden_weight, rel=1e-3)  # |2 v - v|^2 / |v|^2


@pytest.mark.parametrize("architecture", ["same", "gru4rec"])
def test_a_student_comes_closer_to_its_teacher(
    teacher: SASRec, sequences: list[np.ndarray], architecture: str
) -> None:
    held_out = [torch.from_numpy(np.random.default_rng(2).permutation(N_ITEMS)[:5])[None] for _ in range(30)]

    def likeness(model: SequenceModel) -> float:
        with torch.no_grad():
            ours, theirs = (
                torch.cat(
                    [(one.encode(one.item_table[h]) @ one.item_table.T).log_softmax(1) for h in held_out]
                )
                for one in (model, teacher)
            )
        return -float(torch.nn.functional.kl_div(ours, theirs, log_target=True, reduction="batchmean"))

    student = (
        spoilt(teacher, 0.15, seed=2)
        if architecture == "same"
        else make_student(teacher, StudentConfig(architecture="gru4rec", hidden_width=8), seed=0)[0]
    )
    config = dataclasses.replace(
        LESSONS, epochs=4, patience=4, learning_rate=5e-3, table_learning_rate=5e-3, average_decay=0.9
    )
    counted: list[int] = []
    better, told = distill(
        student, teacher, sequences, config, bits=None, seed=0, validate=likeness,
        track=lambda title, total: _Counter(counted, total),
    )  # fmt: skip
    assert likeness(better) > 0.6 * likeness(student)  # both below 0
    assert counted == [window_count(sequences, MAX_LENGTH)] * 4 * 2
    again, _ = distill(student, teacher, sequences, config, bits=None, seed=0, validate=likeness)
    torch.testing.assert_close(again.item_table, better.item_table, rtol=0, atol=0)
    assert told["best_epoch"] > 0


class _Counter:
    """A `Track` that writes down what it was promised and what it got."""

    def __init__(self, counted: list[int], total: int) -> None:
        self.counted, self.total, self.done = counted, total, 0

    def __enter__(self):
        return self

    def __call__(self, n: int) -> None:
        self.done += n

    def __exit__(self, *_: object) -> None:
        self.counted += [self.total, self.done]
