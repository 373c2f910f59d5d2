"""The front door: speed of `--help`, extras that are missing, and which error becomes which exit code."""

from __future__ import annotations

import argparse
import copy
import errno
import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from pocketrec.cli import main as cli_main
from pocketrec.runtime.errors import BundleError, GateError, InputError, MissingExtraError

HEAVY = ("numpy", "onnxruntime", "torch", "onnx", "polars", "pandas", "matplotlib")


def run_with(monkeypatch: pytest.MonkeyPatch, action) -> int:
    """Run `main` with a parser whose only command does `action`."""
    parser = argparse.ArgumentParser()
    parser.set_defaults(version=False)
    monkeypatch.setattr(cli_main, "_parser", lambda asked: (parser, action))
    return cli_main.main([])


def raising(error: BaseException):
    def action(args: argparse.Namespace) -> int:
        raise error

    return action


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_answers_in_under_a_second(cli, option: str) -> None:
    took_s = []
    for _ in range(3):  # the best of three: other tests share the cores
        start = time.perf_counter()
        assert cli(option).exit_code == 0
        took_s.append(time.perf_counter() - start)
    assert min(took_s) < 1


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_answers_without_heavy_imports(option: str) -> None:
    code = (
        "import sys; from pocketrec.cli.main import main; code = main(sys.argv[1:]);"
        f"print(code, [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, option], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_help_lists_every_command(cli) -> None:
    result = cli("--help")
    for command in cli_main.COMMANDS:
        assert f"    {command.name}" in result.stdout
        assert command.help in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("name", [command.name for command in cli_main.COMMANDS])
def test_every_command_has_help_and_keeps_heavy_packages_out_of_it(name: str) -> None:
    code = (
        "import sys; from pocketrec.cli.main import main; code = main(sys.argv[1:]);"
        f"print(code, [name for name in {HEAVY!r} if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, name, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"usage: pocketrec {name}" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 []"


def test_version(cli) -> None:
    assert cli("--version").stdout == f"pocketrec {version('pocketrec')}\n"


def test_the_console_command_is_this_main() -> None:
    script = Path(sys.executable).parent / "pocketrec"
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"pocketrec {version('pocketrec')}\n"


@pytest.mark.parametrize("args", [(), ("compres",), ("inspect",), ("inspect", "--jso", "x"), ("--nope",)])
def test_wrong_usage_exits_2(cli, args: tuple[str, ...]) -> None:
    result = cli(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "usage: pocketrec" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("name", "extra", "without"),
    [
        ("compress", "compress", "torch"),
        ("compress", "compress", "onnxscript"),
        ("compress", "compress", "polars"),  # the extra `compress` brings `bench` along
        ("train", "compress", "torch"),
        ("bench", "bench", "jinja2"),
    ],
)
def test_a_missing_extra_is_one_line_that_names_it(cli, name: str, extra: str, without: str) -> None:
    result = cli(name, without=(without,))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        f"pocketrec: error: pocketrec {name} needs the extra `{extra}`: pip install 'pocketrec[{extra}]'\n"
    )


def test_help_of_a_command_needs_no_extra(cli) -> None:
    assert cli("bench", "--help", without=cli_main.COMPRESS_MODULES).exit_code == 0


def test_bench_does_not_need_the_extra_compress() -> None:
    bench = next(command for command in cli_main.COMMANDS if command.name == "bench")
    assert not {"torch", "onnx"} & {*bench.modules}


@pytest.mark.parametrize(
    ("error", "exit_code", "line"),
    [
        (InputError("a.tsv: empty, expected lines"), 2, "pocketrec: error: a.tsv: empty, expected lines"),
        (BundleError("b.pocket: truncated"), 2, "pocketrec: error: b.pocket: truncated"),
        (GateError("NDCG@10 fell by 3%"), 1, "pocketrec: failed: NDCG@10 fell by 3%"),
        (InputError("first line\n  second line\n"), 2, "pocketrec: error: first line; second line"),
        (
            MissingExtraError("reading titles", "text"),
            2,
            "pocketrec: error: reading titles needs the extra `text`: pip install 'pocketrec[text]'",
        ),
        (
            FileNotFoundError(errno.ENOENT, "x", "no.pt"),
            2,
            "pocketrec: error: no.pt: no such file or directory",
        ),
        (PermissionError(errno.EACCES, "x", "no.pt"), 2, "pocketrec: error: no.pt: permission denied"),
        (
            IsADirectoryError(errno.EISDIR, "x", "folder"),
            2,
            "pocketrec: error: folder: is a directory, expected a file",
        ),
        (
            FileExistsError(errno.EEXIST, "x", ".out.tmp", None, "out.pocket"),
            2,
            "pocketrec: error: out.pocket: already exists",
        ),
        (KeyboardInterrupt(), 130, "pocketrec: interrupted; nothing was written"),
    ],
)
def test_an_error_becomes_one_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    exit_code: int,
    line: str,
) -> None:
    assert run_with(monkeypatch, raising(error)) == exit_code
    captured = capsys.readouterr()
    assert captured.err == f"{line}\n"
    assert captured.out == ""


@pytest.mark.parametrize("error", [KeyError("width"), OSError("no errno"), ImportError("torch is broken")])
def test_a_bug_keeps_its_traceback_and_is_no_gate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    assert run_with(monkeypatch, raising(error)) == 70
    stderr = capsys.readouterr().err
    assert "Traceback (most recent call last)" in stderr
    assert type(error).__name__ in stderr


def test_the_exit_code_of_a_command_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_with(monkeypatch, lambda args: 1) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pocketrec.cli.main", "doctor"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == (
        "pocketrec: error: no space left on the device; free some, or write elsewhere, and run it again\n"
    )


def test_a_reader_that_goes_away_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "pocketrec.cli.main", "doctor"],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_is_one_line() -> None:
    code = (
        "import time; import pocketrec.cli.main as m;"
        "m._run = lambda argv: (print('ready', flush=True), time.sleep(60));"
        "raise SystemExit(m.main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stderr == "pocketrec: interrupted; nothing was written\n"


def test_doctor_says_what_is_installed_and_what_is_not(cli) -> None:
    report = json.loads(cli("doctor", "--json").stdout)
    assert report["pocketrec"] == version("pocketrec")
    assert report["packages"]["base"]["numpy"] == version("numpy")
    assert "CPUExecutionProvider" in report["providers"]
    assert "onnxruntime" in cli("doctor").stdout


def test_the_extras_of_doctor_are_those_of_main() -> None:
    from pocketrec.cli.doctor import PACKAGES

    modules = [name.replace("-", "_") for name in (*PACKAGES["bench"], *PACKAGES["compress"])]
    assert tuple(modules) == cli_main.COMPRESS_MODULES


def test_a_missing_extra_survives_copying_and_so_pickling() -> None:
    error = copy.copy(MissingExtraError("pocketrec bench", "bench"))
    assert (error.extra, str(error)) == ("bench", str(MissingExtraError("pocketrec bench", "bench")))
