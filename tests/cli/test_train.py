"""`pocketrec train`: a planted pattern in, a checkpoint that `load_teacher` reads out; and everything that can go wrong."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pocketrec.benchmarks.interactions import map_items, read_interactions
from pocketrec.benchmarks.protocols import leave_one_out
from pocketrec.cli.main import main
from pocketrec.compress import train as train_module
from pocketrec.compress.layouts import load_teacher
from pocketrec.compress.native_checkpoint import METADATA_KEY

N_ITEMS = 40
QUICK = ("--width", "16", "--heads", "1", "--layers", "1", "--max-length", "10", "--dropout", "0.1")
LEARN = (*QUICK, "--learning-rate", "0.01", "--epochs", "20", "--batch-size", "32", "--threads", "1")


def write_cycles(path: Path, names: list[str]) -> Path:
    """200 users walk the items in order from anywhere, so the next item is known; the last is followed by the first."""
    generator = np.random.default_rng(0)
    lines = []
    for user in range(200):
        start, length = generator.integers(len(names)), generator.integers(5, 12)
        lines.append(f"u{user} " + " ".join(names[(start + i) % len(names)] for i in range(length)))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cycles(tmp_path_factory.mktemp("data") / "cycles.txt", [str(i + 1) for i in range(N_ITEMS)])


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_learns_the_next_item_and_saves_what_load_teacher_reads(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model.safetensors"
    assert main(["train", str(data), "-o", str(output), *LEARN, "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    found = {who: result["metrics"][who]["metrics"]["hr@10"]["value"] for who in ("model", "popularity")}
    assert result["metrics"]["model"]["metrics"]["ndcg@10"]["value"] > 0.9
    assert found["popularity"] < 0.6 < found["model"]
    assert result["size_bytes"] == output.stat().st_size
    assert "cycles.txt: 200 users, 40 items" in captured.err
    assert files_of(tmp_path) == ["model.safetensors"]

    interactions = read_interactions(data)
    teacher = load_teacher(output, interactions=interactions)
    assert teacher.item_ids.kind == "range", "consecutive ids are stored as nothing, whatever came first"
    split = leave_one_out(map_items(interactions, teacher.item_ids).sequences, stage="test")
    hits = 0
    for history, target in zip(split.histories, split.targets, strict=True):
        rows = torch.from_numpy(history[-teacher.model.max_length :])[None]
        with torch.no_grad():
            scores = teacher.model.encode(teacher.model.item_table[rows])[0] @ teacher.model.item_table.T
        scores[history] = -torch.inf
        hits += int(scores.argmax()) == target
    assert hits / len(split) > 0.9
    training = json.loads(teacher.source.metadata[METADATA_KEY])["training"]
    assert training["data"] == {"file": "cycles.txt", "sha256": interactions.sha256}
    assert training["test"]["model"]["hr@10"] == pytest.approx(found["model"], rel=1e-5)


def test_prints_its_figures_beside_popularity(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model.safetensors"
    assert main(["train", str(data), "-o", str(output), *QUICK, "--epochs", "1"]) == 0
    captured = capsys.readouterr()
    lines = [" ".join(line.split()) for line in captured.out.splitlines()]
    assert captured.err == "", "no progress bar where there is no terminal"
    assert lines[0].startswith("data cycles.txt: 200 users, 40 items, ")
    assert lines[1] == (
        "model SASRec: 40 items x 16, 1 layers, 1 heads, history of 10; softmax over the catalogue"
    )
    assert lines[2].startswith("epoch 1 loss ")
    assert lines[3].startswith("training 1 epochs in ")
    assert any(line.startswith("NDCG@10 0.") for line in lines)
    assert lines[-1].startswith(f"{output}: ")


def test_string_ids_and_sampled_negatives(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = write_cycles(tmp_path / "named.txt", [f"film-{i}" for i in range(N_ITEMS)])
    output = tmp_path / "model.safetensors"
    assert main(["train", str(named), "-o", str(output), *LEARN, "--negatives", "20", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["metrics"]["model"]["metrics"]["ndcg@10"]["value"] > 0.8
    assert result["training"]["negatives"] == 20
    teacher = load_teacher(output)
    assert sorted(teacher.item_ids.ids(range(N_ITEMS))) == sorted(f"film-{i}" for i in range(N_ITEMS))


def test_columns_are_named_by_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "log.csv"
    rows = [f"p{user},{user + step},{step}" for user in range(30) for step in range(5)]
    table.write_text("\n".join(["who,what,when", *rows]) + "\n")
    arguments = ["train", str(table), "-o", str(tmp_path / "m.safetensors"), *QUICK, "--epochs", "1"]
    assert main([*arguments, "--user", "who", "--item", "what", "--time", "when"]) == 0
    assert "log.csv: 30 users, 34 items, 150 interactions" in capsys.readouterr().out


def test_the_same_seed_writes_the_same_bytes(data: Path, tmp_path: Path) -> None:
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        output = str(tmp_path / f"{name}.safetensors")
        assert main(["train", str(data), "-o", output, *QUICK, "--epochs", "2", "--seed", seed]) == 0
    written = {name: (tmp_path / f"{name}.safetensors").read_bytes() for name in "abc"}
    assert written["a"] == written["b"] != written["c"]


def test_an_output_that_exists_is_refused_before_any_work_and_replaced_with_force(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model.safetensors"
    output.write_text("precious")
    assert main(["train", "no such data", "-o", str(output), *QUICK]) == 2
    assert (
        f"{output}: already exists; choose another name, or --force to replace it" in capsys.readouterr().err
    )
    assert output.read_text() == "precious"
    assert main(["train", str(data), "-o", str(output), "--force", *QUICK, "--epochs", "1"]) == 0
    assert load_teacher(output).layout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no/such/model.safetensors", "does not exist; create it first"),
        (".", "is a directory, expected a file"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    assert main(["train", "no such data", "-o", str(tmp_path / name), *QUICK]) == 2
    assert message in capsys.readouterr().err
    assert files_of(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(**options: object) -> None:  # simulated: a superuser may write into any folder
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", locked)
    assert main(["train", "no such data", "-o", str(tmp_path / "m.safetensors"), *QUICK]) == 2
    assert f"the folder {tmp_path} cannot be written (Permission denied)" in capsys.readouterr().err
    assert files_of(tmp_path) == []


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--epochs", "0", "train: epochs 0, expected at least 1"),
        ("--patience", "0", "train: patience 0, expected at least 1"),
        ("--batch-size", "0", "train: batch_size 0, expected at least 1"),
        ("--learning-rate", "0", "train: learning_rate 0.0, expected more than 0"),
        ("--learning-rate", "nan", "train: learning_rate nan, expected more than 0"),
        ("--negatives", "-1", "train: negatives -1, expected 0"),
        ("--seed", "-1", "seed: got -1, expected at least 0"),
        ("--threads", "0", "threads: got 0, expected at least 1"),
        ("--dropout", "1", "dropout 1.0; expected 0 <= dropout < 1"),
        ("--width", "0", "width 0; expected at least 1"),
        ("--layers", "0", "n_layers 0; expected at least 1"),
        ("--heads", "0", "n_heads 0; expected 2 numbers, each at least 1"),
        ("--heads", "3", "3 heads do not divide the width 64"),
        ("--max-length", "0", "max_length 0; expected at least 1"),
    ],
)
def test_a_wrong_option_is_one_line_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, message: str
) -> None:
    assert main(["train", "no such data", "-o", str(tmp_path / "m.safetensors"), option, value]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("", "empty"),
        ("1 5 6 7\n2 6 7 5\n", "no next item to learn"),
        ("1 5\n2 6\n3 5\n", "none of the 3 users has 3 events"),
    ],
)
def test_data_that_cannot_be_learned_from_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, message: str
) -> None:
    log = tmp_path / "log.txt"
    if content is not None:
        log.write_text(content)
    output = tmp_path / "m.safetensors"
    arguments = ["train", str(log), "-o", str(output), "--format", "sequence", *QUICK]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not output.exists()


def test_a_full_disk_leaves_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr("pocketrec.cli.main._drop_output", lambda: None)  # it would close the captured stdout
    assert main(["train", str(data), "-o", str(tmp_path / "m.safetensors"), *QUICK, "--epochs", "1"]) == 2
    assert "no space left on the device" in capsys.readouterr().err
    assert files_of(tmp_path) == []


def test_a_loss_that_diverges_writes_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_module, "backward_", lambda *args, **options: (float("inf"), 1))
    assert main(["train", str(data), "-o", str(tmp_path / "m.safetensors"), *QUICK]) == 2
    assert "the loss is inf in epoch 1; try a lower learning rate than 0.001" in capsys.readouterr().err
    assert files_of(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_in_the_first_epoch_leaves_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> Iterator[object]:
        raise KeyboardInterrupt

    monkeypatch.setattr("pocketrec.compress.train.window_batches", interrupted)
    assert main(["train", str(data), "-o", str(tmp_path / "m.safetensors")]) == 130
    assert capsys.readouterr().err == "pocketrec: interrupted; nothing was written\n"
    assert files_of(tmp_path) == []


def test_ctrl_c_later_keeps_the_best_epoch(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.safetensors"
    command = ["train", str(data), "-o", str(output), "--epochs", "100000", "--patience", "100000"]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "pocketrec.cli.main", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert [process.stdout.readline().split()[0] for _ in range(3)] == ["data", "model", "epoch"]
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, "")
    assert ", interrupted; the best is epoch " in stdout
    assert load_teacher(output).model.config.n_items > 0
