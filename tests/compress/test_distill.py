"""Distillation: a spoilt student finds back to its teacher, on histories that it has not seen."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pocketrec.compress.distill import cosine_share, distill
from pocketrec.compress.distill_config import DistillConfig
from pocketrec.compress.distill_loss import distillation_loss
from pocketrec.compress.fake_quantize import RowQuantizer
from pocketrec.compress.history_batches import epoch_histories, prefix_batches
from pocketrec.compress.models.sasrec import SASRec, SASRecConfig

from .spoilt import spoilt

CONFIG = SASRecConfig(n_items=50, width=16, n_layers=1, n_heads=2, inner_widths=32, max_length=6)
QUICK = DistillConfig(
    epochs=4,
    patience=4,
    batch_size=32,
    least_histories=1,
    learning_rate=5e-3,
    table_learning_rate=5e-3,
    average_decay=0.9,
)


@pytest.fixture(scope="module")
def teacher() -> SASRec:
    return spoilt(SASRec(CONFIG).eval(), 0.3, seed=1)


@pytest.fixture(scope="module")
def student(teacher: SASRec) -> SASRec:
    return spoilt(teacher, 0.15, seed=2)


@pytest.fixture(scope="module")
def sequences() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.permutation(50)[:n] for n in rng.integers(1, 10, 150)]


@pytest.fixture(scope="module")
def held_out() -> list[torch.Tensor]:
    rng = np.random.default_rng(1)
    return [torch.from_numpy(np.stack([rng.permutation(50)[:n] for _ in range(40)])) for n in (1, 3, 6)]


def divergence(
    student: SASRec, teacher: SASRec, histories: list[torch.Tensor], bits: int | None = None
) -> float:
    """KL(teacher || student) over the catalogue without the history, mean; the student's table in `bits` bits."""
    values = []
    with torch.no_grad():
        for rows in histories:
            logs = []
            for model, table in (
                (teacher, teacher.item_table),
                (student, RowQuantizer(50, bits)(student.item_table)),
            ):
                scores = model.encode(F.embedding(rows, table)) @ table.T
                logs.append(scores.scatter(1, rows, -1e9).log_softmax(1))
            values.append(F.kl_div(logs[1], logs[0], log_target=True, reduction="batchmean"))
    return float(torch.stack(values).mean())


@pytest.mark.parametrize("soft_weight", [1.0, 0.8])
def test_the_student_comes_closer_to_its_teacher(
    teacher, student, sequences, held_out, soft_weight: float
) -> None:
    config = dataclasses.replace(QUICK, soft_weight=soft_weight)
    before = divergence(student, teacher, held_out)
    better, told = distill(
        student, teacher, sequences, config, bits=None, seed=0,
        validate=lambda model: -divergence(model, teacher, held_out),
    )  # fmt: skip
    assert before > 0.05
    assert divergence(better, teacher, held_out) < 0.5 * before
    assert not better.training
    losses = [epoch["loss"] for epoch in told["epochs"][1:]]
    assert losses[-1] < losses[0]


def test_it_learns_around_its_own_rounding(teacher, sequences, held_out) -> None:
    """From the teacher itself: with two bits a value, rounding is all that there is to mend."""
    rounded = divergence(teacher, teacher, held_out, bits=2)
    config = DistillConfig(
        epochs=8,
        patience=8,
        batch_size=32,
        least_histories=1,
        soft_weight=1.0,
        table_learning_rate=1e-3,
        average_decay=0.9,
    )
    better, _ = distill(
        teacher, teacher, sequences, config, bits=2, seed=0,
        validate=lambda model: -divergence(model, teacher, held_out, bits=2),
    )  # fmt: skip
    assert divergence(teacher, teacher, held_out) == pytest.approx(0, abs=1e-6)
    assert divergence(better, teacher, held_out, bits=2) < 0.7 * rounded


def test_the_same_seed_gives_the_same_student(teacher, student, sequences) -> None:
    config = dataclasses.replace(QUICK, epochs=1, dropout=0.3)
    made = []
    for seed, drawn_before in ((3, 1), (3, 2), (4, 1)):
        torch.manual_seed(drawn_before)
        validate = scripted([0.0, 1.0], [])
        kept, _ = distill(student, teacher, sequences, config, bits=4, seed=seed, validate=validate)
        made.append(kept)
    for first, again, other in zip(*(model.parameters() for model in made), strict=True):
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_nothing_that_it_is_given_changes(teacher, student, sequences) -> None:
    states = [copy.deepcopy(model.state_dict()) for model in (teacher, student)]
    given = [sequence.copy() for sequence in sequences]
    distill(
        student, teacher, sequences, dataclasses.replace(QUICK, epochs=1, dropout=0.5), bits=4, seed=0,
        validate=lambda model: float(model.item_table.detach().sum()),
    )  # fmt: skip
    for model, state in zip((teacher, student), states, strict=True):
        assert not model.training
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, state[name]), name
        assert all(parameter.grad is None for parameter in model.parameters())
    assert student.dropout.p == CONFIG.dropout
    for before, after in zip(given, sequences, strict=True):
        np.testing.assert_array_equal(before, after)


def scripted(values: list[float], seen: list[dict[str, torch.Tensor]]):
    """A `validate` that says what it is told to, and remembers whom it was shown."""
    left = iter(values)

    def validate(model: SASRec) -> float:
        assert not model.training
        seen.append(copy.deepcopy(model.state_dict()))
        return next(left)

    return validate


@pytest.mark.parametrize(
    ("values", "best", "shown"),
    [
        ([0.1, 0.5, 0.4, 0.3, 9.9], 1, 4),  # patience of two: the 9.9 is never seen
        ([0.1, 0.2, 0.1, 0.3, 0.2], 3, 5),  # a better epoch after a worse one
        ([0.9, 0.5, 0.6], 0, 3),  # no epoch is better than the untrained student
        ([0.5, 0.5, 0.5], 0, 3),  # nor are equals
    ],
)
def test_the_best_epoch_is_kept(
    teacher, student, sequences, values: list[float], best: int, shown: int
) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    config = dataclasses.replace(QUICK, epochs=4, patience=2)
    kept, told = distill(
        student, teacher, sequences[:40], config, bits=None, seed=0, validate=scripted(values, seen)
    )
    assert len(seen) == shown
    for name, tensor in kept.state_dict().items():
        assert torch.equal(tensor, seen[best][name]), name
    assert told["best_epoch"] == best
    assert [epoch["epoch"] for epoch in told["epochs"]] == list(range(shown))
    assert [epoch["validation_ndcg10"] for epoch in told["epochs"]] == values[:shown]
    if best == 0:
        for ours, theirs in zip(kept.parameters(), student.parameters(), strict=True):
            assert torch.equal(ours, theirs)


def test_progress_adds_up(teacher, student, sequences) -> None:
    import contextlib

    done: list[int] = []
    totals: list[int] = []

    @contextlib.contextmanager
    def track(title: str, total: int):
        totals.append(total)
        yield done.append

    enough = [sequence for sequence in sequences if len(sequence) > 1]  # one event has no shorter history
    config = dataclasses.replace(QUICK, epochs=2)
    distill(student, teacher, enough, config, bits=None, seed=0, validate=lambda model: 0.0, track=track)
    assert totals == [len(enough) * 3] * 2
    assert sum(done) == sum(totals)


@pytest.mark.parametrize("prefixes", [0, 2])
@pytest.mark.parametrize("max_length", [3, 50])
def test_batches_of_an_epoch(sequences, prefixes: int, max_length: int) -> None:
    """Sequences of distinct items: every history says whose it is and where it ends."""
    own = [np.arange(len(s)) + 100 * user for user, s in enumerate(sequences)] + [np.empty(0, np.int64)]
    config = DistillConfig(batch_size=16, prefixes_per_user=prefixes, least_histories=1)
    whole, shorter = Counter[int](), Counter[int]()
    for rows, targets in prefix_batches(own, config, max_length, np.random.default_rng(0)):
        assert rows.dtype == targets.dtype == torch.int64
        assert rows.shape[0] == targets.shape[0] <= 16
        assert 1 <= rows.shape[1] <= max_length
        for row, target in zip(rows.tolist(), targets.tolist(), strict=True):
            user, last = divmod(row[-1], 100)
            start = max(0, last + 1 - max_length)
            assert row == own[user][start : last + 1].tolist()  # consecutive, and as long as there is
            if last == len(own[user]) - 1:
                assert target == -1
                whole[user] += 1
            else:
                assert target == own[user][last + 1]
                shorter[user] += 1
    with_events = [user for user, s in enumerate(own) if len(s)]
    assert whole == Counter(with_events)
    assert shorter == Counter({user: prefixes for user in with_events if len(own[user]) > 1 and prefixes})


def test_epochs_differ_and_seeds_decide(sequences) -> None:
    def epochs(seed: int) -> list[list[list[int]]]:
        generator = np.random.default_rng(seed)
        return [
            [
                rows.tolist()
                for rows, _ in prefix_batches(
                    sequences, DistillConfig(batch_size=16, least_histories=1), 6, generator
                )
            ]
            for _ in range(2)
        ]

    first, second = epochs(0)
    assert first != second
    assert [first, second] == epochs(0)
    assert [first, second] != epochs(1)


def test_the_loss_is_the_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, expected = (3 * torch.randn(4, 10, generator=generator, dtype=torch.double) for _ in range(2))
    targets, temperature, soft_weight = torch.tensor([3, -1, 7, 0]), 2.0, 0.7
    config = DistillConfig(temperature=temperature, soft_weight=soft_weight)
    teacher = (expected / temperature).softmax(1)
    divergence = F.kl_div((scores / temperature).log_softmax(1), teacher, reduction="batchmean")
    entropy = -(teacher * teacher.log()).sum(1).mean()
    hard = F.cross_entropy(scores, targets, ignore_index=-1, reduction="sum") / 4
    wanted = soft_weight * temperature**2 * (divergence + entropy) + (1 - soft_weight) * hard
    got = distillation_loss(scores, expected, targets, None, config)
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


def test_a_student_like_its_teacher_has_nothing_to_learn() -> None:
    scores = torch.randn(4, 10, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    student = scores.clone().requires_grad_()
    config = DistillConfig(soft_weight=1.0, temperature=1.5)
    distillation_loss(student, scores + 5.0, torch.tensor([1, 2, 3, 4]), None, config).backward()
    assert student.grad is not None
    torch.testing.assert_close(student.grad, torch.zeros_like(scores), rtol=0, atol=1e-12)


def test_items_of_the_history_do_not_count() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, expected = (torch.randn(2, 10, generator=generator) for _ in range(2))
    history, targets = torch.tensor([[1, 2], [5, 5]]), torch.tensor([3, 4])
    scores.requires_grad_()
    loss = distillation_loss(scores, expected, targets, history, DistillConfig())
    loss.backward()
    assert scores.grad is not None
    assert not scores.grad.gather(1, history).any()
    assert (scores.grad != 0).sum() == 2 * 10 - 3
    others = scores.detach().scatter(1, history, 77.0), expected.scatter(1, history, -3.0)
    again = distillation_loss(others[0], others[1], targets, history, DistillConfig())
    assert float(again) == pytest.approx(loss.item(), abs=1e-6)
    unmasked = distillation_loss(others[0], others[1], targets, None, DistillConfig())
    assert float(unmasked) != pytest.approx(loss.item(), abs=1.0)


def test_without_any_next_item_the_soft_targets_teach_alone() -> None:
    scores, expected = torch.randn(2, 10), torch.randn(2, 10)
    none = torch.tensor([-1, -1])
    loss = distillation_loss(scores, expected, none, None, DistillConfig(soft_weight=0.5))
    soft = distillation_loss(scores, expected, none, None, DistillConfig(soft_weight=1.0))
    assert float(loss) == pytest.approx(0.5 * float(soft))
    assert float(distillation_loss(scores, expected, none, None, DistillConfig(soft_weight=0.0))) == 0


def test_few_users_give_more_prefixes_each(sequences) -> None:
    """An epoch is as long as many users' would be, and the learning rate reaches its end with the last history."""
    config = DistillConfig(batch_size=16, prefixes_per_user=1, least_histories=500)
    batches = list(prefix_batches(sequences, config, 6, np.random.default_rng(0)))
    n_histories = sum(len(rows) for rows, _ in batches)
    assert n_histories == epoch_histories(sequences, config) >= 500
    assert cosine_share(0.0) == 1.0
    assert cosine_share(0.5) == pytest.approx(0.525)
    assert cosine_share(1.0) == pytest.approx(0.05)
