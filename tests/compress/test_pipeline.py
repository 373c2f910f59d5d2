"""The road from a checkpoint to a bundle: what is reported, what is written, and what is not when a gate fails."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pocketrec.benchmarks.evaluate import EngineScorer, evaluate_ranks
from pocketrec.benchmarks.protocols import leave_one_out
from pocketrec.benchmarks.ranking_metrics import per_user
from pocketrec.compress import pipeline
from pocketrec.compress.budget import Budget
from pocketrec.compress.meter import TorchScorer
from pocketrec.compress.pipeline import compress_model, fit_recipe
from pocketrec.compress.publication import check_destination, check_destinations
from pocketrec.compress.recipe import RECIPES, EncoderConfig, Recipe, TableConfig
from pocketrec.runtime import Reranker
from pocketrec.runtime.bundle import Bundle
from pocketrec.runtime.engine import Engine
from pocketrec.runtime.errors import GateError, InputError

from ..tiny_road import walk_all_steps

STEPS = ("prune", "low rank", "distill", "table", "encoder")


def test_every_step_is_reported_from_where_the_one_before_ended(walked) -> None:
    steps = walked.done.steps
    assert tuple(step.name for step in steps) == STEPS
    assert tuple(walked.said) == steps
    for before, after in itertools.pairwise(steps):
        assert after.before == before.after
    assert all(step.seconds > 0 for step in steps)
    for step in steps:
        line = step.line()
        assert line.startswith(step.name)
        assert f"{step.before.size_bytes:,} -> " in line
        assert f"{step.after.size_bytes:,} B (" in line
        assert f"NDCG@10 {step.before.ndcg10:.4f} -> {step.after.ndcg10:.4f}" in line


def test_each_step_shrinks_what_it_is_for(walked) -> None:
    prune, low_rank, distill, table, encoder = walked.done.steps
    assert prune.after.parameters < prune.before.parameters
    assert prune.after.size_bytes < prune.before.size_bytes
    # 50 rows lose 4 numbers each, and two 16 x 12 matrices come
    assert low_rank.after.parameters - low_rank.before.parameters == -50 * 4 + 2 * 16 * 12
    assert distill.after.parameters == distill.before.parameters
    # 12 floats become 16 padded nibbles and a float16; the scorer's graph and the manifest grow by some 400 bytes
    saved = table.before.size_bytes - table.after.size_bytes
    assert 50 * (12 * 4 - (8 + 2)) - 600 < saved <= 50 * (12 * 4 - (8 + 2))
    assert encoder.after.size_bytes < encoder.before.size_bytes


def test_the_size_is_the_files(walked) -> None:
    done = walked.done
    assert done.size_bytes == done.path.stat().st_size
    assert done.seconds > sum(step.seconds for step in done.steps)
    # The last step's figure is that of the same bundle before metrics and steps went into its manifest.
    manifest_bytes = len(json.dumps(Bundle.open(done.path).manifest))
    assert 0 < done.size_bytes - done.steps[-1].after.size_bytes < manifest_bytes


def test_the_manifest_says_everything(walked, tiny_road) -> None:
    manifest = Bundle.open(walked.done.path).manifest
    assert set(manifest) == {
        "format_version", "name", "family", "model", "items", "item_table", "encoder", "max_length",
        "recipe", "steps", "metrics", "provenance", "parts",
    }  # fmt: skip
    assert manifest["name"] == "tiny"
    assert manifest["model"]["architecture"] == "SASRec"
    assert manifest["model"]["n_heads"] == [1]
    assert manifest["items"] == {"count": 50, "ids": {"kind": "range", "first": 1, "count": 50}}
    assert manifest["item_table"]["bits"] == 4
    assert manifest["item_table"]["width"] == 12
    assert manifest["encoder"] == {"weights": "int8", "products": "int8"}
    assert manifest["recipe"]["name"] == "all steps"
    assert manifest["recipe"]["distill"]["epochs"] == 2
    assert [step["name"] for step in manifest["steps"]] == list(STEPS)
    for step in manifest["steps"]:
        assert set(step) == {"name", "before", "after", "detail", "seconds"}
        assert set(step["before"]) == set(step["after"]) == {"bytes", "parameters", "ndcg10"}
    assert manifest["steps"][0]["detail"]["heads"] == [1]
    assert manifest["steps"][1]["detail"] == {"width": 12}
    assert manifest["metrics"]["split"] == "test"
    assert set(manifest["metrics"]) == {"split", "accuracy", "teacher", "popularity", "kept"}
    provenance = manifest["provenance"]
    assert provenance["checkpoint"] == {
        "file": "tiny.safetensors",
        "sha256": tiny_road.teacher.source.sha256,
        "weights_bytes": tiny_road.teacher.source.weights_bytes,
        "layout": "pocketrec",
    }
    assert provenance["data"] == {"file": "tiny.txt"}
    assert provenance["seed"] == 0
    assert {"python", "pocketrec", "torch", "onnxruntime", "numpy"} <= set(provenance["versions"])


def test_nothing_of_the_machine_is_in_the_files(walked, tiny_road) -> None:
    for path in (walked.done.path, walked.teacher_path):
        raw = path.read_bytes()
        folders = {str(path.parent), str(tiny_road.checkpoint.parent), os.getcwd(), str(Path.home())}
        for secret in (
            *(folder for folder in folders if len(folder) > 5),
            ".py",
            "site-packages",
            "Traceback",
        ):
            assert secret.encode() not in raw, secret


def test_metrics_are_those_of_the_file_itself(walked, tiny_road) -> None:
    """Ranked here once more, from the published file."""
    split = leave_one_out(tiny_road.sequences, stage="test")
    ranking = evaluate_ranks(EngineScorer(Engine.load(walked.done.path)), split)
    ndcg = float(per_user(ranking.ranks, "ndcg@10").mean())
    told = walked.done.metrics
    assert told["accuracy"]["metrics"]["ndcg@10"]["value"] == pytest.approx(ndcg, abs=1e-9)
    assert (
        told["popularity"]["metrics"]["ndcg@10"]["value"] < 0.5 * ndcg
    )  # the tiny world is no popularity contest
    ratio = ndcg / told["teacher"]["metrics"]["ndcg@10"]["value"]
    assert told["kept"]["metrics"]["ndcg@10"]["ratio"]["value"] == pytest.approx(ratio, abs=1e-6)


def test_the_teachers_bundle_ranks_like_torch(walked, tiny_road) -> None:
    engine = Engine.load(walked.teacher_path)
    assert engine.manifest["name"] == "teacher"
    assert engine.manifest["recipe"] is None
    assert engine.manifest["item_table"]["format"] == "float"
    scorer = TorchScorer(tiny_road.teacher.model)
    for n in (1, 2, 8):
        histories = np.stack([s[:n] for s in tiny_road.sequences if len(s) >= n][:20])
        expected = scorer(histories)
        # float32 sums in another order, through one layer, of scores up to about 10
        np.testing.assert_allclose(engine.score_all(engine.encode(histories)), expected, rtol=0, atol=1e-4)


def test_the_teacher_is_left_alone(walked, tiny_road) -> None:
    from pocketrec.compress.layouts import load_teacher

    again = load_teacher(tiny_road.checkpoint).model
    for ours, theirs in zip(tiny_road.teacher.model.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.grad is None
    assert not tiny_road.teacher.model.training


def test_nothing_lies_beside_the_files(walked) -> None:
    assert sorted(path.name for path in walked.done.path.parent.iterdir()) == [
        "teacher.pocket",
        "tiny.pocket",
    ]
    umask = os.umask(0o022)
    os.umask(umask)
    assert walked.done.path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_the_bundle_re_ranks(walked) -> None:
    """Whoever went from 3 to 6 is most likely to go on to 7."""
    user = Reranker.load(walked.done.path).user()
    user.observe(3, 4, 5, 6)
    assert user.rerank([20, 7, 40], k=3)[0].item_id == 7


@pytest.mark.usefixtures("export_once")
def test_a_recipe_without_steps_is_the_teacher(tiny_road, tmp_path: Path) -> None:
    done = compress_model(
        tiny_road.teacher, tiny_road.sequences, Recipe(name="nothing"), tmp_path / "same.pocket"
    )
    assert done.steps == ()
    assert done.metrics["kept"]["metrics"]["ndcg@10"]["ratio"]["value"] == 1
    assert Bundle.open(done.path).manifest["steps"] == []


@pytest.mark.usefixtures("export_once")
@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (
            Budget(max_size_bytes=4000),
            r"tiny.pocket: \d+,\d+ bytes, --max-size allows 4,000; nothing was written",
        ),
        (
            Budget(max_drop=0.001),
            r"validation NDCG@10 fell from 0\.\d+ to 0\.\d+ \(\d+\.\d+%\), --max-drop allows 0.10%; nothing was written",
        ),
    ],
    ids=["size", "drop"],
)
def test_a_broken_budget_writes_nothing(tiny_road, tmp_path: Path, budget: Budget, message: str) -> None:
    (tmp_path / "other.txt").write_text("stays")
    before = listing(tmp_path)
    with pytest.raises(GateError, match=message):
        compress_model(
            tiny_road.teacher, tiny_road.sequences, TWO_BITS, tmp_path / "tiny.pocket", budget=budget,
            teacher_output=tmp_path / "teacher.pocket",
        )  # fmt: skip
    assert listing(tmp_path) == before


TWO_BITS = Recipe(name="two bits", table=TableConfig(bits=2), encoder=EncoderConfig())


@pytest.mark.usefixtures("export_once")
def test_a_budget_that_holds_writes(tiny_road, tmp_path: Path) -> None:
    budget = Budget(max_drop=1.0, max_size_bytes=100_000)
    done = compress_model(
        tiny_road.teacher, tiny_road.sequences, TWO_BITS, tmp_path / "tiny.pocket", budget=budget
    )
    assert done.path.is_file()
    assert done.metrics["kept"]["metrics"]["ndcg@10"]["ratio"]["value"] < 1  # so `max_drop` above had to fail


@pytest.mark.usefixtures("export_once")
def test_an_old_file_survives_a_broken_budget_and_is_replaced_otherwise(tiny_road, tmp_path: Path) -> None:
    path = tmp_path / "tiny.pocket"
    path.write_text("old")
    args = (tiny_road.teacher, tiny_road.sequences, RECIPES["lossless"], path)
    with pytest.raises(InputError, match=r"tiny.pocket: already exists; choose another name, or --force"):
        compress_model(*args)
    with pytest.raises(GateError):
        compress_model(*args, overwrite=True, budget=Budget(max_size_bytes=1))
    assert path.read_text() == "old"
    done = compress_model(*args, overwrite=True)
    assert Engine.load(path).n_items == 50
    assert done.size_bytes == path.stat().st_size


@pytest.mark.usefixtures("export_once")
def test_both_outputs_or_none(tiny_road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else took the output's name while we worked."""
    taken = tmp_path / "tiny.pocket"
    monkeypatch.setattr(pipeline, "describe_rankings", lambda *args: taken.write_text("theirs") and {})
    with pytest.raises(FileExistsError):
        compress_model(
            tiny_road.teacher, tiny_road.sequences, RECIPES["int8"], taken,
            teacher_output=tmp_path / "teacher.pocket",
        )  # fmt: skip
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"tiny.pocket": "theirs"}


@pytest.mark.usefixtures("export_once")
def test_the_same_seed_gives_the_same_weights(walked, tiny_road, tmp_path: Path) -> None:
    """The very same: so no encoder is traced again here."""
    torch.manual_seed(1234)  # what others drew before does not matter
    again = walk_all_steps(tiny_road, tmp_path)
    assert hashes(again.done.path) == hashes(walked.done.path)
    assert hashes(again.teacher_path) == hashes(walked.teacher_path)
    assert again.done.metrics["kept"] == walked.done.metrics["kept"]


def test_users_with_few_events_are_left_out_and_none_at_all_is_an_error(tiny_road, tmp_path: Path) -> None:
    short = [sequence[:2] for sequence in tiny_road.sequences]
    with pytest.raises(
        InputError, match="none of the 150 users has 3 events; leave-one-out needs at least one"
    ):
        compress_model(tiny_road.teacher, short, RECIPES["lossless"], tmp_path / "x.pocket")
    assert listing(tmp_path) == {}


@pytest.mark.usefixtures("export_once")
def test_training_sequences_of_one_item_can_be_rounded_but_not_pruned(tiny_road, tmp_path: Path) -> None:
    """Three events a user: one is left to learn from, and no next item."""
    short = [sequence[:3] for sequence in tiny_road.sequences]
    done = compress_model(tiny_road.teacher, short, RECIPES["int8"], tmp_path / "ok.pocket")
    assert done.metrics["accuracy"]["metrics"]["ndcg@10"]["value"] > 0
    with pytest.raises(InputError, match="prune: none of the 150 training sequences has two items"):
        compress_model(tiny_road.teacher, short, RECIPES["balanced"], tmp_path / "no.pocket")
    assert list(listing(tmp_path)) == ["ok.pocket"]


@pytest.mark.usefixtures("export_once")
def test_a_teacher_that_ranks_nobody_is_no_division_by_zero(tiny_road, tmp_path: Path) -> None:
    """Targets that are in the history are misses, so NDCG is 0 before and after."""
    repeats = [np.array([4, 5, 4, 5, 4, 5])] * 3
    done = compress_model(
        tiny_road.teacher, repeats, RECIPES["int8"], tmp_path / "x.pocket", budget=Budget(max_drop=0.0)
    )
    assert done.metrics["accuracy"]["metrics"]["ndcg@10"]["value"] == 0
    assert done.metrics["kept"]["metrics"]["ndcg@10"]["ratio"]["value"] is None
    assert "n/a" in done.steps[0].line()


def test_a_recipe_is_fitted_to_the_model(tiny_road) -> None:
    model = tiny_road.teacher.model
    with pytest.raises(InputError, match="table: width 17, expected at most 16, the model's own"):
        fit_recipe(Recipe(name="x", table=TableConfig(width=17)), model, keep_repeats=False)
    balanced = RECIPES["balanced"]
    assert fit_recipe(balanced, model, keep_repeats=False) is balanced
    repeats = fit_recipe(balanced, model, keep_repeats=True)
    assert repeats.distill is not None
    assert repeats.distill.mask_history is False
    assert dataclasses.replace(repeats, distill=balanced.distill) == balanced


def test_destinations_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a directory, expected a file name such as .*model.pocket"):
        check_destination(tmp_path, overwrite=True)
    with pytest.raises(InputError, match=r"no/x.pocket: the folder .*/no does not exist; create it first"):
        check_destination(tmp_path / "no" / "x.pocket", overwrite=False)
    dangling = tmp_path / "dangling.pocket"
    dangling.symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"dangling.pocket: already exists"):
        check_destination(dangling, overwrite=False)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match=r"pipe: is no ordinary file, so it is not replaced"):
        check_destination(pipe, overwrite=True)
    check_destination(tmp_path / "new.pocket", overwrite=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dangling.pocket", "pipe"]


def test_one_file_is_not_two_things(tmp_path: Path) -> None:
    data, link = tmp_path / "data.txt", tmp_path / "link.txt"
    data.write_text("1 2 3\n")
    link.symlink_to(data)
    out = tmp_path / "x.pocket"
    with pytest.raises(InputError, match=r"x.pocket: is the other output too; choose another name"):
        check_destinations(out, tmp_path / "." / "x.pocket", overwrite=False)
    for path in (data, link):
        with pytest.raises(InputError, match=r"txt: is an input too; choose another name"):
            check_destinations(path, None, overwrite=True, inputs=[tmp_path / "no.pt", data])
    check_destinations(out, tmp_path / "teacher.pocket", overwrite=False, inputs=[data])


def hashes(path: Path) -> dict[str, str]:
    """Of each part but the record, which says how long every step took."""
    parts = Bundle.open(path).manifest["parts"]
    return {part["name"]: part["sha256"] for part in parts if part["name"] != "record"}


def listing(folder: Path) -> dict[str, int]:
    """Every file in the folder, hidden ones too."""
    return {path.name: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}
