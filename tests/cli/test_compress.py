"""`pocketrec compress`: what it prints, what it writes, and what its options do."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from pocketrec.runtime import Reranker
from pocketrec.runtime.bundle import Bundle

pytestmark = pytest.mark.usefixtures("export_once")  # the tiny teacher's encoder is traced once for all tests


@pytest.fixture
def compress(cli_here, tiny_road, tmp_path: Path):
    """`compress(*options)`: of the tiny model to tiny.pocket in an empty folder."""

    def run(*options: object, checkpoint: Path = tiny_road.checkpoint, data: Path = tiny_road.data):
        args = map(
            str, (checkpoint, "--data", data, "-o", tmp_path / "tiny.pocket", "--threads", 1, *options)
        )
        return cli_here("compress", *args)

    return run


def test_prints_what_happened(compress, tmp_path: Path) -> None:
    result = compress("--recipe", "lossless")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert re.fullmatch(r"data      tiny.txt: 150 users, 50 items, 1,\d\d\d interactions", lines[0])
    assert re.fullmatch(
        r"teacher   tiny.safetensors: pocketrec, 50 items x 16, \d\d,\d\d\d B of weights", lines[1]
    )
    steps = [line for line in lines if " B (" in line and not line.startswith("adapt")]
    assert [line.split()[0] for line in steps] == ["table", "encoder"]
    assert all(re.search(r"NDCG@10 0\.\d{4} -> 0\.\d{4} \([+-]\d+\.\d%\) ", line) for line in steps)
    shown = {line.split()[0]: line for line in lines if line.startswith("  ")}
    assert list(shown) == ["HR@10", "NDCG@10", "MRR@10"]
    assert re.search(
        r"0\.\d{4}    0\.\d{4}    \d+\.\d% \(\d+\.\d% to \d+\.\d%\) +0\.\d{4}$", shown["NDCG@10"]
    )
    path = tmp_path / "tiny.pocket"
    assert lines[-1].startswith(f"{path}: {path.stat().st_size:,} bytes, ")
    assert "x smaller than the checkpoint's weights (" in lines[-1]
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.pocket"]


def test_json_is_all_of_stdout(compress, tmp_path: Path) -> None:
    result = compress("--recipe", "int8", "--json", "--teacher-out", tmp_path / "teacher.pocket")
    assert result.exit_code == 0
    done = json.loads(result.stdout)
    assert set(done) == {"output", "size_bytes", "checkpoint_bytes", "ratio", "steps", "metrics", "seconds"}
    assert done["output"] == str(tmp_path / "tiny.pocket")
    assert done["size_bytes"] == (tmp_path / "tiny.pocket").stat().st_size
    assert done["ratio"] == pytest.approx(done["checkpoint_bytes"] / done["size_bytes"])
    assert [step["name"] for step in done["steps"]] == ["table", "encoder"]
    assert done["metrics"]["accuracy"]["metrics"]["ndcg@10"]["value"] > 0.5
    assert result.stderr.startswith("data      tiny.txt: ")  # what people read goes there instead
    assert Bundle.open(tmp_path / "teacher.pocket").manifest["encoder"]["weights"] == "float32"


def test_the_manifest_tells_the_data_without_where_it_lay(compress, tmp_path: Path, tiny_road) -> None:
    compress("--recipe", "lossless")
    manifest = Bundle.open(tmp_path / "tiny.pocket").manifest
    data = manifest["provenance"]["data"]
    assert (data["file"], data["users"], data["items"]) == ("tiny.txt", 150, 50)
    assert len(data["sha256"]) == 64
    raw = (tmp_path / "tiny.pocket").read_bytes()
    for folder in (tmp_path, tiny_road.data.parent):
        assert str(folder).encode() not in raw


def test_ids_that_are_strings_from_a_table_with_a_header(compress, tiny_road, tmp_path: Path) -> None:
    """The whole way: such a checkpoint, such data, and strings in and out of the re-ranker. And a user of one event."""
    from pocketrec.compress.native_checkpoint import save_checkpoint
    from pocketrec.runtime.item_ids import ItemIds

    names = [f"art-{row:02}" for row in range(50)]
    folder = tmp_path / "inputs"
    folder.mkdir()
    save_checkpoint(folder / "named.safetensors", tiny_road.teacher.model, ItemIds.from_sequence(names))
    rows = [
        f"u{user},{names[row]},{when}"
        for user, s in enumerate(tiny_road.sequences)
        for when, row in enumerate(s)
    ]
    (folder / "named.csv").write_text("\n".join(["user,item,time", "once,art-07,5", *rows]) + "\n")
    result = compress(
        "--recipe", "lossless", checkpoint=folder / "named.safetensors", data=folder / "named.csv"
    )
    assert (result.exit_code, result.stderr) == (0, "")
    assert "named.csv: 151 users, 50 items" in result.stdout
    bundle = Bundle.open(tmp_path / "tiny.pocket")
    assert bundle.manifest["items"]["ids"]["kind"] == "utf8"
    assert "item_ids" in bundle
    user = Reranker.load(tmp_path / "tiny.pocket").user()
    user.observe("art-03", "art-04", "art-05")
    assert user.rerank(["art-40", "art-06", "art-20"], k=1)[0].item_id == "art-06"


def test_unknown_items_can_be_left_out(compress, tiny_road, tmp_path: Path) -> None:
    data = tmp_path / "more.txt"
    data.write_text(tiny_road.data.read_text() + "151 3 4 99 5 100 6\n")
    result = compress("--recipe", "int8", "--allow-unknown-items", data=data)
    assert (result.exit_code, result.stderr) == (0, "")
    assert (tmp_path / "tiny.pocket").is_file()


def test_data_that_use_few_of_the_items_are_warned_of(compress, tmp_path: Path) -> None:
    data = tmp_path / "few.txt"
    data.write_text("1 3 4 5 6\n2 4 5 6 7\n")
    result = compress("--recipe", "int8", data=data)
    assert result.exit_code == 0
    assert (
        "warning: few.txt: uses 5 of the checkpoint's 50 items (10%); is this the data set" in result.stdout
    )


def test_a_teacher_worse_than_popularity_is_warned_of(compress, tmp_path: Path) -> None:
    """Everybody meets item 8, half of them first, half of them last, amid random ones."""
    rng = np.random.default_rng(0)
    others = [1 + rng.permutation([row for row in range(50) if row != 7])[:3] for _ in range(60)]
    lines = [[8, *three] if user % 2 else [*three, 8] for user, three in enumerate(others)]
    data = tmp_path / "popular.txt"
    data.write_text("".join(f"{user} {' '.join(map(str, items))}\n" for user, items in enumerate(lines)))
    result = compress("--recipe", "int8", data=data)
    assert result.exit_code == 0
    assert "warning: the teacher is no better than popularity; is this the data set" in result.stdout


@pytest.mark.parametrize(
    ("options", "name", "table", "seed"),
    [
        ((), "lossless", {"bits": 4, "width": None}, 0),
        (("--bits", 8), "lossless+flags", {"bits": 8, "width": None}, 0),
        (("--seed", 5), "lossless", {"bits": 4, "width": None}, 5),
        (("--epochs", 0), "lossless+flags", {"bits": 4, "width": None}, 0),
        (("--table-width", 16), "lossless+flags", {"bits": 4, "width": 16}, 0),  # its own: nothing to do
    ],
)
def test_flags_change_the_recipe(
    compress, tmp_path: Path, options: tuple[object, ...], name: str, table: dict[str, object], seed: int
) -> None:
    assert compress("--recipe", "lossless", *options).exit_code == 0
    recipe = Bundle.open(tmp_path / "tiny.pocket").manifest["recipe"]
    assert (recipe["name"], recipe["seed"]) == (name, seed)
    assert {key: recipe["table"][key] for key in table} == table
    assert recipe["distill"] is None


def test_flags_override_and_zero_epochs_skip_distillation() -> None:
    """Of the recipe that has all steps, without walking it."""
    import argparse

    from pocketrec.cli.compress import _override
    from pocketrec.compress.recipe import RECIPES

    args = argparse.Namespace(bits=2, table_width=32, epochs=3, neighbors=None, seed=9)
    balanced = RECIPES["balanced"]
    changed = _override(balanced, args)
    assert balanced.distill is not None
    assert changed.distill == dataclasses.replace(balanced.distill, epochs=3)
    assert changed.table is not None
    assert (changed.table.bits, changed.table.width, changed.seed) == (2, 32, 9)
    assert (changed.prune, changed.encoder) == (balanced.prune, balanced.encoder)
    nothing = argparse.Namespace(bits=None, table_width=None, epochs=0, neighbors=None, seed=None)
    assert _override(balanced, nothing).distill is None


def test_a_recipe_of_ones_own(compress, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text("[table]\nbits = 8\n")
    result = compress("--recipe", recipe)
    assert result.exit_code == 0
    manifest = Bundle.open(tmp_path / "tiny.pocket").manifest
    assert manifest["recipe"]["name"] == "mine"
    assert manifest["encoder"]["weights"] == "float32"


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (
            ("--max-size", "4KB"),
            r"pocketrec: failed: .*tiny.pocket: \d+,\d+ bytes, --max-size allows 4,000; .*\n",
        ),
        (("--max-size", "0.004MB"), r"pocketrec: failed: .* --max-size allows 4,000; .*\n"),
        (
            ("--max-drop", "0.1%"),
            r"pocketrec: failed: .*: validation NDCG@10 fell .* --max-drop allows 0.10%; .*\n",
        ),
        (
            ("--max-drop", "0.001"),
            r"pocketrec: failed: .*: validation NDCG@10 fell .* --max-drop allows 0.10%; .*\n",
        ),
    ],
)
def test_a_broken_budget_exits_1_and_writes_nothing(
    compress, tmp_path: Path, budget: tuple[str, str], message: str
) -> None:
    result = compress(
        "--recipe", "lossless", "--bits", 2, *budget, "--teacher-out", tmp_path / "teacher.pocket"
    )
    assert result.exit_code == 1
    assert re.fullmatch(message, result.stderr)
    assert "nothing was written" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_budget_that_holds(compress, tmp_path: Path) -> None:
    assert compress("--recipe", "lossless", "--max-size", "40KB", "--max-drop", "100%").exit_code == 0
    assert (tmp_path / "tiny.pocket").is_file()


def test_the_nearest_bundle_is_named_and_kept_where_it_is_asked_for(compress, tmp_path: Path) -> None:
    kept = tmp_path / "nearest.pocket"
    result = compress("--recipe", "int8", "--max-size", "4KB", "--keep-nearest", kept)
    assert result.exit_code == 1
    assert re.search(
        r"nearest: int8 \([\d,]+ bytes, NDCG@10 [+-]\d+\.\d\d%\), kept in .*nearest\.pocket", result.stderr
    )
    assert [path.name for path in tmp_path.iterdir()] == ["nearest.pocket"]
    assert "accuracy" in Bundle.open(kept).manifest["metrics"]


def test_time_and_another_metric(compress, tmp_path: Path) -> None:
    options = ("--recipe", "lossless", "--metric", "hr@5", "--max-drop", "50%")
    result = compress(*options, "--max-latency", "1s")
    assert result.exit_code == 0
    assert re.search(r"HR@5 0\.\d{4} -> 0\.\d{4}", result.stdout)
    assert "hr@5" in Bundle.open(tmp_path / "tiny.pocket").manifest["steps"][0]["after"]
    result = compress(*options, "--force", "--max-latency", "0.01us")
    assert result.exit_code == 1
    assert re.search(
        r"re-ranking 100 candidates takes [\d.]+ ms, --max-latency allows 1e-05 ms", result.stderr
    )


def test_force_replaces(compress, tmp_path: Path) -> None:
    path = tmp_path / "tiny.pocket"
    path.write_text("old")
    assert compress("--recipe", "lossless").exit_code == 2
    assert path.read_text() == "old"
    assert compress("--recipe", "lossless", "--force").exit_code == 0
    assert Bundle.open(path).manifest["name"] == "tiny"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--recipe", "balance"),
            "recipe 'balance': expected balanced, lossless, tiny, int8, .*did you mean 'balanced'?",
        ),
        (("--recipe", "no.toml"), "no.toml: no such file or directory"),
        (("--bits", 5), "table: bits 5, expected one of 2, 3, 4, 8"),
        (("--table-width", 0), "table: width 0, expected at least 1"),
        (("--table-width", 17), "table: width 17, expected at most 16, the model's own"),
        (("--epochs", -1), "distill: epochs, patience and batch_size must be at least 1"),
        (("--seed", -1), r"seed -1, expected 0 to 2\*\*63 - 1"),
        (("--seed", 2**63), r"seed 9223372036854775808, expected 0 to"),
        (("--layout", "s3"), "layout 's3' is not known; expected one of pocketrec, s3-rec"),
        (("--format", "xml"), "xml"),
    ],
)
def test_options_that_make_no_sense(
    compress, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    result = compress(*options)
    assert result.exit_code == 2
    assert re.fullmatch(rf"pocketrec: error: .*{message.replace('?', '[?]')}.*\n", result.stderr), (
        result.stderr
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--threads", 0), "argument --threads: got '0', expected a number of at least 1"),
        (("--threads", "two"), "argument --threads: got 'two', expected a number of at least 1"),
        (("--max-drop", "150%"), "argument --max-drop: got '150%', expected a share such as 1% or 0.01"),
        (("--max-drop", "much"), "argument --max-drop: got 'much', expected a share such as 1% or 0.01"),
        (("--max-drop", "nan"), "argument --max-drop: got 'nan', expected a share"),
        (("--max-size", "0"), "argument --max-size: got '0', expected a size such as 400KB or 2MB"),
        (("--max-size", "2 TB"), "argument --max-size: got '2 TB', expected a size such as 400KB or 2MB"),
        (("--max-size", "9" * 400 + "GB"), "expected a size such as 400KB or 2MB"),
        (("--bits", "four"), "argument --bits: invalid int value: 'four'"),
    ],
)
def test_options_that_cannot_be_read_are_wrong_usage(
    compress, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    result = compress(*options)
    assert result.exit_code == 2
    assert result.stderr.startswith("usage: pocketrec compress")
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("400KB", 400_000), ("2MB", 2_000_000), ("1.5 kb", 1500), ("12345", 12345), ("7b", 7), ("1GB", 10**9)],
)
def test_sizes(text: str, size_bytes: int) -> None:
    from pocketrec.cli.option_types import byte_size

    assert byte_size(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "expected"), [("1%", 0.01), ("0.5%", 0.005), ("0.01", 0.01), ("0", 0.0), ("100%", 1)]
)
def test_shares(text: str, expected: float) -> None:
    from pocketrec.cli.option_types import share

    assert share(text) == pytest.approx(expected)
