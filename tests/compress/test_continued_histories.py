"""Histories that the teacher goes on with: what is added, how often, and that seeds decide."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pocketrec.compress.catalogue_lessons import CatalogueLessons
from pocketrec.compress.continued_histories import continued
from pocketrec.compress.distill_config import DistillConfig
from pocketrec.compress.history_batches import prefix_batches, some_continued
from pocketrec.compress.models.sasrec import SASRec, SASRecConfig
from pocketrec.compress.sampled_lessons import SampledLessons

from .spoilt import spoilt


@pytest.fixture(scope="module")
def teacher() -> SASRec:
    config = SASRecConfig(n_items=20, width=8, n_layers=1, n_heads=2, inner_widths=16, max_length=6)
    return spoilt(SASRec(config).eval(), 0.4, seed=1)


@pytest.fixture(scope="module")
def sequences() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.permutation(20)[:n] for n in rng.integers(2, 5, 60)]


def test_items_are_drawn_as_the_teacher_says(teacher: SASRec) -> None:
    history = torch.tensor([[3, 7]])
    rows = history.expand(60_000, -1)
    longer = continued(teacher, rows, 1, 6, np.random.default_rng(0), repeats=False)
    assert longer.shape == (60_000, 3)
    assert torch.equal(longer[:, :2], rows)
    with torch.no_grad():
        scores = teacher.encode(teacher.item_table[history]) @ teacher.item_table.T
    expected = scores.index_fill(1, history[0], -torch.inf).softmax(1)[0]
    found = torch.bincount(longer[:, 2], minlength=20) / len(longer)
    assert found[history[0]].sum() == 0
    # five standard errors of a share p of n draws
    assert bool(
        ((found - expected).abs() <= 5 * (expected * (1 - expected) / len(longer)).sqrt() + 1e-9).all()
    )


@pytest.mark.parametrize("repeats", [False, True])
def test_only_the_last_items_stay(teacher: SASRec, repeats: bool) -> None:
    rows = torch.tensor([[1, 2, 3, 4, 5]]).repeat(50, 1)
    longer = continued(teacher, rows, 3, 6, np.random.default_rng(0), repeats=repeats)
    assert longer.shape == (50, 6)
    assert longer[:, :3].unique(dim=0).tolist() == [[3, 4, 5]]
    again = sum(len(set(row)) < len(row) for row in longer.tolist())
    assert again > 0 if repeats else again == 0


def test_whoever_has_the_whole_catalogue_gets_nothing_more() -> None:
    small = SASRec(
        SASRecConfig(n_items=3, width=4, n_layers=1, n_heads=1, inner_widths=4, max_length=6)
    ).eval()
    rows = torch.tensor([[0, 1]])
    longer = continued(small, rows, 4, 6, np.random.default_rng(0), repeats=False)
    assert longer.tolist() == [[0, 1, 2]]


def test_a_share_of_the_batches_is_continued(teacher: SASRec, sequences: list[np.ndarray]) -> None:
    config = DistillConfig(batch_size=1, least_histories=2_000, continued_share=0.25, continued_events=2)

    def batches(seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        generator = np.random.default_rng(seed)
        plain = prefix_batches(sequences, config, 6, generator)
        return list(some_continued(teacher, plain, config, 6, generator))

    known = [rows[0].tolist() for rows, _ in batches(0)]
    prefixes = {tuple(s[:end].tolist()) for s in sequences for end in range(1, len(s) + 1)}
    strange = [tuple(rows) not in prefixes for rows in known]
    assert 0.2 < np.mean(strange) < 0.3
    assert all(target.tolist() == [-1] for (_, target), new in zip(batches(0), strange, strict=True) if new)
    assert any(target.tolist() != [-1] for _, target in batches(0))
    assert [rows.tolist() for rows, _ in batches(0)] == [rows.tolist() for rows, _ in batches(0)]
    assert [rows.tolist() for rows, _ in batches(0)] != [rows.tolist() for rows, _ in batches(1)]


@pytest.mark.parametrize("kind", ["catalogue", "sampled"])
def test_both_kinds_of_lessons_ask_about_them(
    teacher: SASRec, sequences: list[np.ndarray], kind: str
) -> None:
    config = DistillConfig(continued_share=1.0, continued_events=1, least_histories=1, sampled_items=8)
    generator = np.random.default_rng(0)
    lessons = (
        CatalogueLessons(teacher, sequences, config, 6, None)
        if kind == "catalogue"
        else SampledLessons(teacher, sequences, config, 6, None, generator)
    )
    lengths = []
    for rows, loss_of in lessons.epoch(generator):
        lengths += [rows.shape[1]] * len(rows)
        assert torch.isfinite(loss_of(teacher.encode(teacher.item_table[rows]), teacher.item_table))
    assert min(lengths) == 2  # the shortest history has one item


@pytest.mark.parametrize(("share", "events"), [(-0.1, 1), (1.1, 1), (0.5, 0)])
def test_shares_and_counts_are_checked(share: float, events: int) -> None:
    with pytest.raises(ValueError, match="continued_share must be 0 to 1"):
        DistillConfig(continued_share=share, continued_events=events)
