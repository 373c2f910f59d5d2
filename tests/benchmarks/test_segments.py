"""Segments of a split, and what lists look like beyond hits."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.benchmarks.beyond_accuracy import describe_lists, set_metrics
from pocketrec.benchmarks.evaluate import Ranking
from pocketrec.benchmarks.protocols import Split
from pocketrec.benchmarks.ranking_metrics import per_user, users_to_tell_apart
from pocketrec.benchmarks.segments import describe_segments, head_items, segments_of


def split_of(lengths: list[int], targets: list[int]) -> Split:
    histories = [np.zeros(length, np.int64) for length in lengths]
    return Split(histories, np.array(targets, np.int64), np.arange(len(targets)))


def ranking_of(ranks: np.ndarray, lists: list[list[int]] | None = None, n_items: int = 4) -> Ranking:
    top = np.array(lists if lists is not None else np.zeros((len(ranks), 0)), np.int32)
    return Ranking(ranks, top, n_items, 0, 0.0)


COUNTS = np.array([60, 30, 10, 0])


def test_every_user_is_in_one_segment_of_each_kind():
    rng = np.random.default_rng(0)
    split = split_of(rng.integers(1, 50, 1000).tolist(), rng.integers(0, 4, 1000).tolist())
    for kind, n in (("history", 4), ("target", 3)):
        found = [segment.users for segment in segments_of(split, COUNTS) if segment.kind == kind]
        assert len(found) == n
        assert (np.sum(found, axis=0) == 1).all()


def test_names_say_what_the_lengths_are():
    lengths = [3] * 600 + [4] * 200 + [9] * 200
    split = split_of(lengths, [0] * 1000)
    names = {s.name: int(s.users.sum()) for s in segments_of(split, COUNTS) if s.kind == "history"}
    assert names == {"3 events": 600, "4 events": 200, "5 to 9 events": 200}


def test_small_segments_are_left_out():
    split = split_of([5] * 100, [0] * 71 + [2] * 29)
    assert [s.name for s in segments_of(split, COUNTS)] == ["5 events", "head"]


def test_the_head_holds_half_of_the_events():
    assert head_items(COUNTS).tolist() == [True, False, False, False]
    assert head_items(np.array([1, 1, 1, 1])).tolist() == [True, True, False, False]
    assert head_items(np.zeros(3, np.int64)).sum() == 0


def test_segments_are_measured_on_their_users_alone():
    split = split_of([5] * 200, [0] * 100 + [2] * 100)
    ranks = np.array([1] * 100 + [3] * 100)
    worse = np.array([1] * 100 + [30] * 100)
    rankings = {"teacher": ranking_of(ranks), "bundle": ranking_of(worse)}
    head, tail = (
        entry
        for entry in describe_segments(segments_of(split, COUNTS), rankings, "teacher")
        if entry["kind"] == "target"
    )
    assert (head["name"], head["users"], tail["name"]) == ("head", 100, "tail")
    assert head["systems"]["bundle"]["kept"]["ndcg@10"]["value"] == 1.0
    assert tail["systems"]["bundle"]["kept"]["ndcg@10"]["value"] == 0.0
    assert tail["systems"]["teacher"]["metrics"]["ndcg@10"]["value"] == pytest.approx(0.5)
    assert "kept" not in tail["systems"]["teacher"]


def test_lists_of_popular_items_are_popular_and_not_novel():
    popular = describe_lists(ranking_of(np.ones(2, np.int64), [[0, 1], [0, -1]]), COUNTS)
    rare = describe_lists(ranking_of(np.ones(1, np.int64), [[2, 3]]), COUNTS)
    assert popular["mean_popularity@2"] == pytest.approx((60 + 30 + 60) / 3 / 25)
    assert rare["novelty@2"] == pytest.approx(-np.log2([11 / 104, 1 / 104]).mean())
    assert (popular["novelty@2"] or 0) < (rare["novelty@2"] or 0)
    assert describe_lists(ranking_of(np.ones(2, np.int64)), COUNTS) == {}


def test_precision_recall_and_f1_agree_with_ranx():
    ranx = pytest.importorskip("ranx", reason="ranx is not installed: pip install ranx")
    rng = np.random.default_rng(1)
    ranks = rng.integers(1, 40, 300)
    lists = {f"u{u}": {f"i{n}": float(100 - n) for n in range(1, 41)} for u in range(300)}
    wanted = {f"u{u}": {f"i{rank}": 1} for u, rank in enumerate(ranks)}
    names = ["precision@10", "recall@10", "f1@10", "precision@5", "recall@5", "f1@5"]
    theirs = ranx.evaluate(ranx.Qrels(wanted), ranx.Run(lists), names)
    ours = set_metrics(ranks, [5, 10])
    assert {name: ours[name] for name in names} == pytest.approx(theirs)


def test_as_many_users_as_it_says_tell_two_systems_apart():
    """Repeated with the number it asks for, a paired test finds the difference in about 80% of samples."""
    rng = np.random.default_rng(2)
    ranks = rng.integers(1, 60, 200_000)
    moves = rng.choice([-1, 0, 1], size=200_000, p=[0.25, 0.55, 0.2])
    better = np.maximum(1, ranks + moves)
    a, b = per_user(better, "ndcg@10"), per_user(ranks, "ndcg@10")
    n = users_to_tell_apart(a, b)
    assert n is not None
    drawn = rng.integers(0, len(a), (400, n))
    differences = (a - b)[drawn]
    found = np.abs(differences.mean(axis=1)) > 1.96 * differences.std(axis=1) / np.sqrt(n)
    assert 0.7 < found.mean() < 0.9
    assert users_to_tell_apart(a, a) is None
