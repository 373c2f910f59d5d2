"""Terms of the distillation loss: against the formulas, and against each other."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pocketrec.compress.distill_config import DistillConfig
from pocketrec.compress.distill_loss import (
    best_of_others,
    consuming_distillation_loss,
    distillation_loss,
    hidden_loss,
    order_loss,
)
from pocketrec.compress.models.sasrec import SASRec, SASRecConfig
from pocketrec.compress.sampled_lessons import SampledLessons


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("soft_weight", [0.0, 0.7, 1.0])
def test_in_place_is_the_same_loss_with_the_same_gradient(masked: bool, soft_weight: float) -> None:
    users, table, expected = drawn(4, 3), drawn(10, 3, seed=1), drawn(4, 10, seed=2)
    targets = torch.tensor([3, -1, 7, 0])
    history = (
        torch.tensor([[1, 2], [5, 6], [7, 4], [9, 9]]) if masked else None
    )  # the third asks for what is masked
    config = DistillConfig(soft_weight=soft_weight)
    found = []
    for loss_of in (distillation_loss, consuming_distillation_loss):
        leaf = users.clone().requires_grad_()
        loss = loss_of(leaf @ table.T, expected.clone(), targets, history, config)
        loss.backward()
        found.append((loss.detach(), leaf.grad))
    for plain, in_place in zip(*found, strict=True):
        torch.testing.assert_close(in_place, plain, rtol=1e-9, atol=1e-9)


def test_order_is_the_probability_of_drawing_the_list() -> None:
    """Plackett-Luce: of urns without the ones drawn before."""
    top, others = torch.tensor([[1.0, -0.5, 0.3]]), torch.tensor([[0.2, -1.0]])
    weights = torch.cat([top, others], 1).exp()[0].tolist()
    chance = math.prod(weights[i] / sum(weights[i:]) for i in range(3))
    assert float(order_loss(top, others)) == pytest.approx(-math.log(chance) / 3, rel=1e-6)


def test_the_hardest_items_are_those_that_the_student_overrates() -> None:
    scores = torch.tensor([[5.0, 1.0, 4.0, 3.0, 2.0]])
    assert best_of_others(scores, torch.tensor([[0, 3]]), 2).tolist() == [[2, 4]]


def test_hidden_distance_is_a_share_of_the_length() -> None:
    teacher = drawn(5, 8)
    assert float(hidden_loss(teacher, teacher)) == 0
    assert float(hidden_loss(torch.zeros_like(teacher), teacher)) == pytest.approx(1)


@pytest.fixture(scope="module")
def teacher() -> SASRec:
    model = SASRec(SASRecConfig(n_items=60, width=8, n_layers=1, max_length=6), seed=3).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.empty_like(parameter).normal_(
                std=0.5, generator=torch.Generator().manual_seed(1)
            )
    return model


@pytest.fixture(scope="module")
def sequences() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.permutation(60)[:n] for n in rng.integers(2, 9, 60)]


@pytest.mark.parametrize("mask_history", [True, False])
def test_a_sample_of_everything_is_the_whole_catalogue(
    teacher: SASRec, sequences, mask_history: bool
) -> None:
    config = DistillConfig(
        sampled_items=59, teacher_top=10, least_histories=1, mask_history=mask_history, batch_size=16
    )
    lessons = SampledLessons(teacher, sequences, config, 6, None, np.random.default_rng(0))
    student = SASRec(teacher.config, seed=9).eval()
    for lesson in lessons._lessons:
        users = student.encode(F.embedding(lesson.rows, student.item_table))
        sampled = lessons._loss(users, student.item_table, lesson, torch.arange(60))
        scores, expected = users @ student.item_table.T, lesson.theirs @ teacher.item_table.T
        history = lesson.rows if mask_history else None
        whole = distillation_loss(scores, expected, lesson.targets, history, config)
        torch.testing.assert_close(sampled, whole, rtol=1e-4, atol=1e-5)  # float32, summed in another order


def test_a_sampled_loss_falls_to_the_teachers_own(teacher: SASRec, sequences) -> None:
    config = DistillConfig(
        sampled_items=20, teacher_top=10, least_histories=1, soft_weight=1.0, order_weight=0.5
    )
    config = dataclasses.replace(config, hidden_weight=1.0)
    lessons = SampledLessons(teacher, sequences, config, 6, None, np.random.default_rng(0))
    other = SASRec(teacher.config, seed=9).eval()
    losses = {}
    for name, model in (("teacher", teacher), ("other", other)):
        with torch.no_grad():
            batches = lessons.epoch(np.random.default_rng(1))
            losses[name] = np.mean(
                [
                    float(loss_of(model.encode(model.item_table[rows]), model.item_table))
                    for rows, loss_of in batches
                ]
            )
    assert losses["teacher"] < losses["other"] - 0.5
