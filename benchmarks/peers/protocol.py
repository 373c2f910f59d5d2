"""How another tool is asked: its environment's Python runs a worker with one job, JSON in and JSON out.

    ENVIRONMENT/bin/python -P WORKER JOB.json REPLY.json

The reply is a file, because tools print what they like. A worker writes `{"error": LINE}` for what its tool refused, or
what it made; `versions` of its packages either way. One that crashes, hangs beyond the limit (it is killed with all that
it started) or writes no reply is an error of one line too: a peer that fails is a row of the table, never the end of the
run. Ctrl-C and SIGTERM end the worker before us. Nothing of a peer is imported into our own process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LONGEST_LINE = 200
_QUIET = {
    "HF_HUB_OFFLINE": "1",  # nothing is fetched from a hub
    "TRANSFORMERS_OFFLINE": "1",
    "PYTHONWARNINGS": "ignore",
    "TOKENIZERS_PARALLELISM": "false",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back."""

    content: Mapping[str, Any] = field(default_factory=dict)
    """What the worker wrote."""
    error: str | None = None
    """One line that says why there is nothing to measure; None where there is."""
    seconds: float = 0.0

    @property
    def versions(self) -> dict[str, str]:
        """Of the packages that the worker names; empty where it wrote nothing."""
        return dict(self.content.get("versions", {}))


def python_of(environment: Path) -> Path:
    """Where an environment's Python is, there or not."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def ask(
    environment: Path,
    worker: Path,
    job: Mapping[str, Any],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
) -> Reply:
    """Run one job; never raises for what the other side does.

    Args:
        environment: a virtual environment; where it is missing, the reply says so.
        worker: a file that runs in it.
        job: plain JSON.
        timeout_s: seconds after which the worker is killed.
        env: variables for it, beside ours.
    """
    python = python_of(environment)
    if not python.exists():
        return Reply(error=missing(environment))
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="pocketrec-peer-") as folder:
        asked, answered, log = (Path(folder) / name for name in ("job.json", "reply.json", "log.txt"))
        asked.write_text(json.dumps(job), encoding="utf-8")
        command = [str(python), "-P", str(worker), str(asked), str(answered)]
        with log.open("wb") as output:
            code = _run(command, output.fileno(), folder, {**os.environ, **_QUIET, **(env or {})}, timeout_s)
        seconds = time.perf_counter() - began
        if code is None:
            return Reply(error=f"no reply within {timeout_s:g} s; stopped", seconds=seconds)
        try:
            content = json.loads(answered.read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise ValueError
        except (OSError, ValueError):
            said = last_line(log.read_text(encoding="utf-8", errors="replace"))
            ended = f"signal {-code}" if code < 0 else f"exit code {code}"
            return Reply(error=first_line(f"ended without a reply, {ended}: {said}"), seconds=seconds)
    error = content.get("error")
    return Reply(content=content, error=None if error is None else first_line(str(error)), seconds=seconds)


def missing(environment: Path) -> str:
    """Why there is no environment: what `environments` noted when it could not be made, else that nobody made it."""
    try:
        return first_line((environment / "failed.txt").read_text(encoding="utf-8"))
    except OSError:
        return f"not installed: python -m pocketrec.benchmarks.peers.environments FOLDER {environment.name}"


def first_line(text: str) -> str:
    """The first line that says something, of a bearable length."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "no message")
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 3]}..."


def last_line(text: str) -> str:
    """The last line that says something: of a traceback, the exception."""
    return first_line("\n".join(reversed(text.splitlines())))


@contextlib.contextmanager
def terminated_as_exit() -> Generator[None]:
    """SIGTERM unwinds the stack as `sys.exit` does, so that what was started is ended; else it would outlive us."""
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _run(
    command: list[str], output: int, folder: str, env: Mapping[str, str], timeout_s: float
) -> int | None:
    """The exit code; None where it took too long. It has a process group of its own, which ends with it."""
    with terminated_as_exit():
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=dict(env),
            start_new_session=True,
        )
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the worker and whatever it started that still runs."""
    try:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    except (ProcessLookupError, PermissionError):
        pass  # all of it had ended
    process.wait()
