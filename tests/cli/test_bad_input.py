"""Whatever is wrong with what it is given, `pocketrec` says so in one line, exits as it should, and leaves no trace."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pocketrec.runtime import atomic_file
from pocketrec.runtime.bundle import FORMAT_VERSION


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder below, hidden ones too; of files, the size and when they were changed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        is_file = stat.S_ISREG(status.st_mode)
        found[str(path.relative_to(folder))] = (status.st_size, status.st_mtime_ns) if is_file else (0, 0)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the outputs would go; something of the user's own lies in it."""
    folder = tmp_path / "outputs"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    return folder


@pytest.fixture
def refused(cli_here, tiny_road, tmp_path: Path, folder: Path) -> Callable[..., None]:
    """`refused(message, *options, checkpoint=..., data=..., output=...)`: one line with it, exit code 2, no trace."""

    def run(
        message: str,
        *options: str,
        checkpoint: Path = tiny_road.checkpoint,
        data: Path = tiny_road.data,
        output: Path = folder / "x.pocket",
        exit_code: int = 2,
    ) -> None:
        before = listing(tmp_path)
        result = cli_here(
            "compress",
            checkpoint,
            "--data",
            data,
            "-o",
            output,
            "--recipe",
            "lossless",
            "--threads",
            "1",
            *options,
        )
        assert re.fullmatch(rf"pocketrec: error: {message}[^\n]*\n", result.stderr), result.stderr
        assert result.exit_code == exit_code
        assert listing(tmp_path) == before

    return run


# --- the checkpoint ---------------------------------------------------------------------------------------------------


def test_no_checkpoint_there(refused, tmp_path: Path) -> None:
    refused(f"{tmp_path}/no.pt: no such file; expected a checkpoint", checkpoint=tmp_path / "no.pt")


def test_a_folder_for_a_checkpoint(refused, tmp_path: Path) -> None:
    refused(f"{tmp_path}: a directory; expected a checkpoint file inside it", checkpoint=tmp_path)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "an empty file; expected a checkpoint"),
        (b"PK", "2 bytes, too few for a checkpoint; is the file truncated[?]"),
        (
            b"user,item,time\n1,2,3\n" * 9,
            "a text file that begins with 'user,item,time.*expected a checkpoint",
        ),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "a text file that begins with '<!DOCTYPE"),
        (
            bytes(range(128, 256)),
            "an unknown format that begins with bytes 80 81|a bare pickle, not torch's format",
        ),
    ],
)
def test_a_file_that_is_no_checkpoint(refused, tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(raw)
    refused(f"{path}: ({message})", checkpoint=path)


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_truncated_checkpoint(refused, tiny_road, tmp_path: Path, kind: str, kept: float) -> None:
    from ..compress.hostile_checkpoints import saved, state_dict

    if kind == "safetensors":
        whole = tiny_road.checkpoint.read_bytes()
    else:
        whole = saved(state_dict("s3-rec"), zipped=kind == "zip")
    path = tmp_path / "model.pt"
    path.write_bytes(whole[: int(kept * len(whole))])
    refused(f"{path}: .*(truncated|damaged|zip|ends|incomplete)", checkpoint=path)


def test_a_checkpoint_that_would_run_a_command(refused, tmp_path: Path) -> None:
    """Whichever way it calls, and whatever it calls itself."""
    from ..compress.hostile_checkpoints import (
        Runs,
        calling_pickles,
        command_leaving,
        record,
        rewritten,
        saved,
    )

    trace = tmp_path / "trace"
    command = command_leaving(trace)
    files = {f"bare {name}": raw for name, raw in calling_pickles(command).items()}
    good = saved({"weight": np.zeros(3)})
    assert record(good, "data.pkl")
    files |= {
        f"zip {name}": rewritten(good, {"data.pkl": raw}) for name, raw in calling_pickles(command).items()
    }
    files["torch.save"] = saved(Runs(command))
    files["torch.save, legacy"] = saved(Runs(command), zipped=False)
    files["beside nothing"] = saved({"state_dict": Runs(command), "epoch": 3})
    for name, raw in files.items():
        path = tmp_path / "model.pt"
        path.write_bytes(raw)
        refused(f"{path}: ", checkpoint=path)
        assert not trace.exists(), name


def test_a_command_beside_good_weights_does_not_run_either(refused, tmp_path: Path) -> None:
    """Here the weights are found, and read: so it goes on, to data that do not fit."""
    from ..compress.hostile_checkpoints import Runs, command_leaving, saved, state_dict

    path, trace = tmp_path / "model.pt", tmp_path / "trace"
    path.write_bytes(saved({"state_dict": state_dict("s3-rec"), "config": Runs(command_leaving(trace))}))
    refused("tiny.txt: 20 of 50 item ids .* are not in the checkpoint's 30 items", checkpoint=path)
    assert not trace.exists()


def test_weights_that_are_not_numbers(refused, tmp_path: Path) -> None:
    from ..compress.hostile_checkpoints import TABLE, saved, state_dict

    path = tmp_path / "model.pt"
    weights = state_dict("s3-rec")
    weights[TABLE["s3-rec"]][5, 3] = float("nan")
    path.write_bytes(saved(weights))
    refused(
        f"{path}: item_embeddings.weight has 1 of 256 values that are NaN or infinite; the training diverged",
        checkpoint=path,
    )


def test_an_architecture_that_is_not_known(refused, tmp_path: Path) -> None:
    import torch

    from ..compress.hostile_checkpoints import saved

    path = tmp_path / "model.pt"
    path.write_bytes(saved({"tower.0.weight": torch.zeros(3, 3), "tower.0.bias": torch.zeros(3)}))
    refused(
        f"{path}: its layout is not known [(]keys tower.0.weight, tower.0.bias[)]; known are .*s3-rec",
        checkpoint=path,
    )


def test_heads_that_do_not_divide_the_width(refused, tmp_path: Path) -> None:
    from ..compress.hostile_checkpoints import saved, state_dict

    path = tmp_path / "model.pt"
    path.write_bytes(saved(state_dict("s3-rec")))
    for heads in ("3", "0", "-2"):
        refused(f"{path}: {heads} heads do not divide the width 8", "--heads", heads, checkpoint=path)


# --- the data ---------------------------------------------------------------------------------------------------------


def test_no_data_there(refused, tmp_path: Path) -> None:
    refused(f"{tmp_path}/no.txt: no such file; expected a file of interactions", data=tmp_path / "no.txt")


def test_a_folder_for_data(refused, tmp_path: Path) -> None:
    refused(f"{tmp_path}: a directory; expected a file of interactions", data=tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "{path}: .*empty"),
        ("\n\n  \n", "{path}: "),
        ("1 3 4 5 6\n2 5 6 51 52\n", "data.txt: 2 of 6 item ids [(]first: 51[)] are not in the checkpoint's 50 items; is this the data set .*--allow-unknown-items drops them"),
        ("1 0 4 5 6\n", "data.txt: 1 of 4 item ids [(]first: 0[)] are not in the checkpoint's 50 items"),
        ("1 901 902 903\n2 903 904 905\n", "data.txt: 5 of 5 item ids [(]first: 901[)] are not in the checkpoint's 50 items; is this the data set that the checkpoint was trained on[?]"),
        ("anna tea milk bread\nben milk tea salt\n", "data.txt: 4 of 4 item ids [(]first: 'tea'[)] are not in"),
        ("1 3\n2 4\n3 5\n", "none of the 3 users has 3 events; leave-one-out needs at least one"),
        ("1 3 4\n2 4 5\n", "none of the 2 users has 3 events"),
    ],
    ids=["empty", "blank", "beyond the table", "before the table", "another data set", "other ids", "one event", "two events"],
)  # fmt: skip
def test_data_that_do_not_do(refused, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "data.txt"
    path.write_text(text)
    refused(message.replace("{path}", str(path)), data=path)


def test_another_data_set_is_not_let_through_by_leaving_all_of_it_out(refused, tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_text("1 901 902 903\n2 903 904 905\n")
    refused("data.txt: 5 of 5 item ids", "--allow-unknown-items", data=path)


def test_a_checkpoint_for_data(refused, tiny_road) -> None:
    refused(f"{tiny_road.checkpoint}:1: not UTF-8 text", data=tiny_road.checkpoint)


# --- the output -------------------------------------------------------------------------------------------------------


def test_outputs_that_cannot_be_written(refused, folder: Path, tiny_road) -> None:
    notes = folder / "notes.txt"
    refused(f"{notes}: already exists; choose another name, or --force to replace it", output=notes)
    refused(f"{folder}: is a directory, expected a file name such as {folder}/model.pocket", output=folder)
    refused(f"{folder}: is a directory", "--force", output=folder)
    missing = folder / "no" / "x.pocket"
    refused(f"{missing}: the folder {folder}/no does not exist; create it first", output=missing)
    below = notes / "x.pocket"
    refused(f"{below}: (the folder {notes} does not exist|a part of this path)", output=below)
    refused(f"{folder / 'x.pocket'}: is the other output too", "--teacher-out", str(folder / "x.pocket"))
    refused(f"{missing}: the folder .* does not exist", "--teacher-out", str(missing))
    refused(f"{notes}: already exists", "--teacher-out", str(notes))
    for path in (tiny_road.checkpoint, tiny_road.data):
        refused(f"{path}: is an input too; choose another name", "--force", output=path)
    refused("[^:]*: the file name is too long", output=folder / ("n" * 300))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="the system has no /proc")
def test_a_folder_that_nobody_can_write_to(refused) -> None:
    """Not even root, so that this holds in a container too."""
    refused(
        "/proc/x.pocket: the folder /proc cannot be written [(].*[)]; choose another one",
        output=Path("/proc/x.pocket"),
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere; see the test above")
def test_a_folder_without_permission(refused, folder: Path) -> None:
    folder.chmod(0o555)
    refused(
        f"{folder}/x.pocket: the folder {folder} cannot be written [(]Permission denied[)]; choose another one"
    )


def test_a_device_is_not_replaced(refused) -> None:
    refused("/dev/null: is no ordinary file, so it is not replaced", "--force", output=Path("/dev/null"))
    assert Path("/dev/null").is_char_device()


@pytest.mark.usefixtures("export_once")
@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5])
def test_a_full_disk(refused, folder: Path, monkeypatch: pytest.MonkeyPatch, nth: int) -> None:
    """Found out at the nth file that is written: the teacher, after a step, the draft, the bundle itself."""
    real, calls = os.fsync, []

    def full(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):  # not the folder
            calls.append(descriptor)
        if len(calls) == nth:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(atomic_file.os, "fsync", full)
    refused(
        f"{folder}/x.pocket: no space left on the device; free some, or write elsewhere, and run it again",
        "--teacher-out",
        str(folder / "teacher.pocket"),
    )


@pytest.mark.usefixtures("export_once")
def test_a_write_that_the_system_cuts_off(refused, folder: Path) -> None:
    """For real: this process may not write files of more than 4,000 bytes for a moment."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        refused(f"{folder}/x.pocket: larger than the file system, or a limit of this process, allows")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


# --- interrupted ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_in_the_middle(tiny_road, tmp_path: Path, folder: Path) -> None:
    """As soon as it has begun to write drafts."""
    before = listing(tmp_path)
    command = [
        sys.executable,
        "-m",
        "pocketrec.cli.main",
        "compress",
        tiny_road.checkpoint,
        "--data",
        tiny_road.data,
    ]
    process = subprocess.Popen(
        [*map(str, command), "-o", str(folder / "x.pocket"), "--teacher-out", str(folder / "t.pocket"), "--threads", "1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while listing(tmp_path) == before:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert stderr == "pocketrec: interrupted; nothing was written\n"
    assert process.returncode == 130
    assert listing(tmp_path) == before


@pytest.mark.usefixtures("export_once")
@pytest.mark.parametrize("where", ["run_steps", "describe_rankings", "publish"])
def test_ctrl_c_at_other_moments(
    cli_here, tiny_road, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    from pocketrec.compress import pipeline, publication

    def interrupted(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(publication if where == "publish" else pipeline, where, interrupted)
    before = listing(tmp_path)
    result = cli_here(
        "compress",
        tiny_road.checkpoint,
        "--data",
        tiny_road.data,
        "-o",
        folder / "x.pocket",
        "--recipe",
        "lossless",
    )
    assert (result.exit_code, result.stderr) == (130, "pocketrec: interrupted; nothing was written\n")
    assert listing(tmp_path) == before


# --- bundles ----------------------------------------------------------------------------------------------------------


def newer(raw: bytes) -> bytes:
    return raw[:8] + struct.pack("<I", FORMAT_VERSION + 1) + raw[12:]


def edited_manifest(raw: bytes) -> bytes:
    at = raw.index(b'"width":')
    return raw[: at + 8] + b"9" + raw[at + 9 :]


DAMAGES = {
    "truncated": (
        lambda raw: raw[:-100],
        r"\d+ bytes, the manifest says \d+; the bundle is truncated, export it again",
    ),
    "truncated in the manifest": (lambda raw: raw[:300], "300 bytes, the manifest alone needs .*truncated"),
    "longer": (lambda raw: raw + b"more", "the bundle is longer than it should be"),
    "a weight": (lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), "part .* edited or damaged, export it again"),
    "the manifest": (
        edited_manifest,
        "the manifest does not have the sha256 in the header; the bundle was edited",
    ),
    "newer": (
        newer,
        f"bundle format {FORMAT_VERSION + 1}, this pocketrec reads {FORMAT_VERSION}; upgrade pocketrec",
    ),
    "empty": (lambda raw: b"", "not a pocketrec bundle"),
    "text": (lambda raw: b"user item\n1 2\n" * 10, "not a pocketrec bundle"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_bundle_is_refused_by_name(
    cli_here, walked, tiny_road, tmp_path: Path, damage: str
) -> None:
    change, message = DAMAGES[damage]
    bad = tmp_path / "bad.pocket"
    bad.write_bytes(change(walked.done.path.read_bytes()))
    report = tmp_path / "report.html"
    bench = ("bench", "--data", tiny_road.data, "--report", report)
    for command in (
        ("inspect", bad),
        (*bench, bad),
        (*bench, walked.done.path, bad),
        (*bench, walked.done.path, "--teacher", bad),
    ):
        result = cli_here(*command)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert re.fullmatch(rf"pocketrec: error: {bad}: .*{message}[^\n]*\n", result.stderr), result.stderr
        assert not report.exists()


def test_a_bundle_of_other_items_than_the_data(cli_here, walked, tmp_path: Path) -> None:
    data = tmp_path / "other.txt"
    data.write_text("1 901 902 903\n2 903 904 905\n")
    result = cli_here("bench", walked.done.path, "--data", data)
    assert result.exit_code == 2
    assert re.fullmatch(r"pocketrec: error: other.txt: 5 of 5 item ids [^\n]*\n", result.stderr)
