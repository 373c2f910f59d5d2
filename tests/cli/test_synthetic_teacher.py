"""A made-up teacher: its table and histories are those of the seed, and what it writes loads; its vectors' table prints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pocketrec.benchmarks.interactions import read_interactions
from pocketrec.benchmarks.peers.peers_table import vectors_markdown
from pocketrec.cli.synthetic_teacher import DEVIATION, clustered_histories, clustered_table, main
from pocketrec.cli.vector_search import QUERIES, synthetic_vectors
from pocketrec.compress.layouts import load_teacher


def test_the_table_has_clusters_and_the_stated_deviation() -> None:
    table = clustered_table(500, 16, seed=0)
    assert table.shape == (500, 16)
    assert table.std() == pytest.approx(DEVIATION, rel=1e-4)
    assert np.array_equal(table, clustered_table(500, 16, seed=0))
    inside, across = (
        np.linalg.norm(table[0] - table[1:25], axis=1),
        np.linalg.norm(table[0] - table[250:275], axis=1),
    )
    assert inside.mean() < 0.8 * across.mean()


def test_histories_are_distinct_items_of_the_catalogue() -> None:
    histories = clustered_histories(40, 500, seed=0)
    for rows in histories:
        assert len(set(rows.tolist())) == len(rows) <= 30
        assert 0 <= rows.min() <= rows.max() < 500


def test_what_is_written_loads(tmp_path: Path) -> None:
    assert main(["-o", str(tmp_path), "--items", "60", "--width", "8", "--users", "30"]) == 0
    teacher = load_teacher(tmp_path / "teacher.safetensors")
    assert tuple(teacher.model.item_table.shape) == (60, 8)
    assert read_interactions(tmp_path / "interactions.txt").n_users == 30


def test_queries_lie_near_the_table() -> None:
    table, queries = synthetic_vectors(500, 16, seed=0)
    assert queries.shape == (QUERIES, 16)
    best = (queries @ table.T).max(1)
    assert (best > 0).all()


def test_a_search_that_failed_keeps_its_row() -> None:
    found = {"p50": {"value": 0.1}, "speedup": {"ratio": {"value": 2.0}}}
    rows = [
        {"name": "pocketrec, 4 bits", "error": None, "size_bytes": 1000, "recall": 0.9, "latency": found},
        {"name": "usearch", "error": "ImportError: no", "latency": None},
    ]
    lines = vectors_markdown({"table": {"items": 10, "width": 4}, "rows": rows})
    assert lines[2] == "| **pocketrec, 4 bits** | 1 kB | 0.900 | 100 us | 2.00x |"
    assert lines[3] == "| usearch | did not work: ImportError: no | | | |"
