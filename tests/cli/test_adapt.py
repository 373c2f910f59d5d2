"""`pocketrec adapt`: a bundle learns with what was fitted anew, its model as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketrec.cli.adapt import read_category_column
from pocketrec.runtime import Engine, Reranker
from pocketrec.runtime.bundle import Bundle

BUNDLE = Path(__file__).parent.parent / "runtime" / "data" / "tiny-range.pocket"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two tastes that the random model knows nothing of: even ids and odd ids, 300 users."""
    rng = np.random.default_rng(0)
    rows = (user % 2 + 2 * rng.permutation(25)[:8] + 1 for user in range(300))
    lines = [f"{user} {' '.join(map(str, ids))}\n" for user, ids in enumerate(rows)]
    (tmp_path / "data.txt").write_text("".join(lines))
    return tmp_path / "data.txt"


@pytest.fixture
def items(tmp_path: Path) -> Path:
    lines = [f"{n},{'odd' if n % 2 else 'even'}|number" for n in range(1, 51)]
    (tmp_path / "items.csv").write_text("\n".join(["item_id,kinds", *lines]))
    return tmp_path / "items.csv"


def test_it_learns_and_its_model_stays(cli_here: Any, data: Path, items: Path, tmp_path: Path) -> None:
    output = tmp_path / "adapted.pocket"
    done = cli_here("adapt", BUNDLE, "--data", data, "--items", items, "--categories", "kinds", "-o", output)
    assert done.exit_code == 0, done.stderr
    assert "catalogue   NDCG@10 of re-ranking +" in done.stdout
    ranker, before = Reranker.load(output), Engine.load(BUNDLE)
    assert ranker.prior is not None
    assert ranker.prior.has_taste
    assert ranker.categories is not None
    assert sorted(ranker.categories[3]) == ["number", "odd"]
    history = np.array([[3, 4, 5]])
    np.testing.assert_array_equal(ranker.engine.encode(history), before.encode(history))
    again = cli_here("adapt", BUNDLE, "--data", data, "-o", output)
    assert again.exit_code == 2
    assert "exists; give another name, or --force" in again.stderr


def test_the_taste_table_has_the_bits_that_are_asked_for(cli_here: Any, data: Path, tmp_path: Path) -> None:
    sizes = {}
    for bits in (2, 4):
        output = tmp_path / f"{bits}.pocket"
        done = cli_here("adapt", BUNDLE, "--data", data, "--taste-bits", str(bits), "-o", output)
        assert done.exit_code == 0, done.stderr
        assert Bundle.open(output).manifest["adaptation"]["taste"]["bits"] == bits
        sizes[bits] = output.stat().st_size
    assert sizes[2] < sizes[4]


def test_what_goes_together(cli_here: Any, data: Path, items: Path, tmp_path: Path) -> None:
    done = cli_here("adapt", BUNDLE, "--data", data, "--items", items, "-o", tmp_path / "x.pocket")
    assert done.exit_code == 2
    assert "go together" in done.stderr


def test_too_few_users(cli_here: Any, tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("1 1 2 3\n2 4 5 6\n")
    done = cli_here("adapt", BUNDLE, "--data", tmp_path / "few.txt", "-o", tmp_path / "x.pocket")
    assert done.exit_code == 1
    assert "too few" in done.stderr
    assert not (tmp_path / "x.pocket").exists()


def test_ids_that_are_numbers_are_found_as_both(items: Path) -> None:
    categories = read_category_column(items, "kinds")
    assert categories[4] == categories["4"] == ("even", "number")
