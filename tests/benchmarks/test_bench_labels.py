"""`pocketrec bench` of pointwise bundles: the same object and page as of rankings, about AUC."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pocketrec.benchmarks.bench import BenchConfig, run_bench
from pocketrec.benchmarks.latency import Timing
from pocketrec.benchmarks.report import render_report
from pocketrec.benchmarks.results_table import results_lines
from pocketrec.runtime.errors import InputError

DATA = Path(__file__).parent.parent / "runtime" / "data"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 rows of the tiny DeepFM's own fields."""
    folder = tmp_path_factory.mktemp("rows")
    lines = [
        f"{101 + n % 7},{20 + n % 50},item-{n % 12 + 1:02},war comedy,{n % 4},noon,{1 + (7 * n) % 5}"
        for n in range(120)
    ]
    path = folder / "rows.csv"
    path.write_text("\n".join(["user_id,age,item_id,genres,price,hour,click", *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def results(rows: Path) -> dict:
    timing = Timing(n_rounds=20, n_warmup=1, min_rounds=1)
    config = BenchConfig(bundles=(DATA / "tiny-deepfm.pocket",), data=rows, timing=timing, latency_users=10)
    return run_bench(config)


def test_what_is_measured(results: dict) -> None:
    json.dumps(results, allow_nan=False)
    assert results["settings"]["protocol"] == "labelled"
    assert results["data"]["rows"] == {"train": 96, "valid": 12, "test": 12}
    (system,) = results["systems"]
    assert set(system["accuracy"]["metrics"]) == {"auc", "log_loss"} == set(results["popularity"]["metrics"])
    auc, errors = system["accuracy"]["metrics"]["auc"], system["accuracy"]["errors"]
    assert 0 < errors["mae"] <= errors["rmse"] < 1
    assert 0 <= auc["low"] <= auc["value"] <= auc["high"] <= 1
    measured = [(row["operation"], row["size"]) for row in results["latency"]]
    assert measured[:2] == [("rerank", 10), ("load", None)]  # 12 items make no list of 50
    assert system["memory"]["rerank"]["added_bytes"] > 0


def test_the_page_and_the_table(results: dict) -> None:
    page = render_report(results)
    assert "NDCG" not in page
    assert "log loss" in page
    assert f'value="{results["systems"][0]["accuracy"]["metrics"]["auc"]["value"]}"' in page
    text = "\n".join(results_lines(results))
    assert "12 labelled test rows, random split" in text
    assert "AUC" in text


def test_families_are_not_mixed(rows: Path) -> None:
    bundles = (DATA / "tiny-deepfm.pocket", DATA / "tiny-range.pocket")
    with pytest.raises(InputError, match="tiny-range: ranks by a history"):
        run_bench(BenchConfig(bundles=bundles, data=rows))
