"""The whole road of a pointwise model on tiny data: checkpoint and labelled rows in, a bundle that ranks out."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest

from pocketrec.benchmarks.labelled_rows import LabelledRows, read_labelled
from pocketrec.cli.main import main
from pocketrec.compress.layouts import load_pointwise_teacher
from pocketrec.compress.pointwise_forward import all_logits
from pocketrec.compress.pointwise_spec import sort_tokens, spec_of
from pocketrec.runtime.bundle import Bundle
from pocketrec.runtime.pointwise import PointwiseRanker

from .tiny_pointwise import N_ITEMS, TinyPointwise, make_tiny_pointwise

RECIPE = """
[prune]
keep_inner = 0.6
[distill]
epochs = 3
batch_size = 64
[table]
bits = 4
[encoder]
products = "float32"
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyPointwise:
    return make_tiny_pointwise(tmp_path_factory.mktemp("tiny-pointwise"))


@pytest.fixture
def compress(cli_here, tiny: TinyPointwise, tmp_path: Path):
    def run(*options: object):
        args = [
            tiny.checkpoint,
            "--data",
            tiny.data,
            "-o",
            tmp_path / "tiny.pocket",
            "--threads",
            1,
            *options,
        ]
        return cli_here("compress", *map(str, args))

    return run


@pytest.fixture(scope="module")
def made(tiny: TinyPointwise, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.pocket and teacher.pocket, by all steps; out.txt is what was printed."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "all.toml").write_text(RECIPE)
    args = [tiny.checkpoint, "--data", tiny.data, "-o", folder / "tiny.pocket", "--threads", 1]
    args += ["--recipe", folder / "all.toml", "--teacher-out", folder / "teacher.pocket"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(["compress", *map(str, args)]) == 0
    (folder / "out.txt").write_text(printed.getvalue())
    return folder


def test_prints_what_happened(made: Path) -> None:
    lines = (made / "out.txt").read_text().splitlines()
    assert lines[0] == "data      tiny.inter: rows 1,200 train, 150 valid, 150 test; split recbole-random"
    assert lines[1].startswith("teacher   tiny.pth: recbole-deepfm, 5 fields, 110 rows of tables, ")
    steps = [line for line in lines if " B (" in line]
    assert [line.split()[0] for line in steps] == ["prune", "distill", "table", "network"]
    assert all(re.search(r"AUC 0\.\d{4} -> 0\.\d{4} \([+-]\d+\.\d%\) ", line) for line in steps)
    assert [line.split()[0] for line in lines if line.startswith("  ") and "note" not in line] == [
        "AUC",
        "log",
    ]


def test_keeps_what_the_teacher_knows_in_fewer_bytes(made: Path) -> None:
    small, teacher = Bundle.open(made / "tiny.pocket"), Bundle.open(made / "teacher.pocket")
    assert (
        small.size_bytes < 0.75 * teacher.size_bytes
    )  # most of so small a bundle is the graph and the manifest
    kept = small.manifest["metrics"]["kept"]["metrics"]["auc"]["ratio"]
    assert small.manifest["metrics"]["teacher"]["metrics"]["auc"]["value"] > 0.8
    assert kept["value"] > 0.97
    assert kept["low"] <= kept["value"] <= kept["high"]
    assert [step["name"] for step in small.manifest["steps"]] == ["prune", "distill", "table", "network"]
    assert sum(small.manifest["model"]["hidden_widths"]) < 48
    assert small.manifest["provenance"]["checkpoint"]["layout"] == "recbole-deepfm"
    assert small.manifest["split"] == {"kind": "recbole-random", "seed": 2020}
    assert small.manifest["features"]["fields"][1]["name"] == "user_id"
    sizes = {part["name"]: part["size"] for part in small.manifest["parts"]}
    assert set(sizes) == {
        "scorer.onnx", "item_codes.0", "item_scales.0", "vocabularies", "item_features", "record"
    }  # fmt: skip
    assert sizes["vocabularies"] < 200  # ids that follow each other cost nothing


def test_the_bundle_ranks_as_the_teacher_scores(made: Path, tiny: TinyPointwise) -> None:
    exact = PointwiseRanker.load(made / "teacher.pocket")
    user = {"user_id": 7, "gender": "m"}
    ranking = exact.rerank(range(1, N_ITEMS + 1), user=user)
    teacher = load_pointwise_teacher(tiny.checkpoint, data=tiny.data)
    spec = spec_of(teacher)
    encoded = exact.engine.features_of(np.arange(1, N_ITEMS + 1))
    row = {"user_id": 7, "gender": "m"}
    columns = {
        **encoded,
        **{name: np.repeat(exact.engine.encode(name, [value]), N_ITEMS) for name, value in row.items()},
    }
    sorted_model = sort_tokens(teacher).model
    logits = all_logits(sorted_model, LabelledRows(columns, np.zeros(N_ITEMS, np.float32)))
    assert spec.item == "item_id"
    assert ranking.item_ids() == tuple((np.argsort(-logits, kind="stable") + 1).tolist())
    np.testing.assert_allclose([item.score for item in ranking], np.sort(logits)[::-1], atol=1e-4)
    small = PointwiseRanker.load(made / "tiny.pocket").rerank(range(1, N_ITEMS + 1), user=user, k=10)
    assert len(set(small.item_ids()) & set(ranking.item_ids()[:10])) >= 6


def test_sorted_tokens_are_the_same_model(tiny: TinyPointwise) -> None:
    teacher = load_pointwise_teacher(tiny.checkpoint, data=tiny.data)
    again = sort_tokens(teacher)
    assert again.vocabularies["item_id"].kind == again.vocabularies["user_id"].kind == "range"
    assert teacher.vocabularies["item_id"].kind == "int64"
    before = read_labelled(tiny.data, spec_of(teacher)).test
    after = read_labelled(tiny.data, spec_of(again)).test
    assert (before.columns["item_id"] != after.columns["item_id"]).any()
    np.testing.assert_array_equal(all_logits(teacher.model, before), all_logits(again.model, after))


def test_budgets(compress, tmp_path: Path) -> None:
    for budget, message in (
        (("--max-drop", "0%", "--recipe", "int8", "--bits", 2), "validation AUC fell from"),
        (("--max-size", "2KB", "--recipe", "int8"), "--max-size allows 2,000"),
        (("--max-latency", "0.01us", "--recipe", "int8"), "--max-latency allows 1e-05 ms"),
        (
            ("--max-drop", "0%", "--recipe", "int8", "--bits", 2, "--metric", "logloss"),
            "validation log loss rose from",
        ),
    ):
        result = compress(*budget)
        assert result.exit_code == 1
        assert message in result.stderr
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--item", "movie"), "no field 'movie'"),
        (("--item", "class"), "field 'class': is a token_seq, expected a token field of ids"),
        (("--label-threshold", 9), "0 positive; expected rows of either label"),
    ],
)
def test_bad_input(compress, tmp_path: Path, options: tuple[object, ...], message: str) -> None:
    result = compress("--recipe", "int8", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
