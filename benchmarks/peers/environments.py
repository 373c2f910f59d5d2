"""Make the virtual environment of each peer: they cannot live together, nor with us.

    python -m pocketrec.benchmarks.peers.environments FOLDER [NAME ...]

makes `FOLDER/NAME` from `requirements/NAME.txt`, whose versions are pinned; all of them without a NAME. What is there
already with these versions is kept, whoever made it, so that a run that was stopped goes on. One that cannot be made leaves
`FOLDER/NAME/failed.txt` with the reason in one line, which becomes its row in the table; the others are made all the same.
Together they take about 9 GB.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from ...runtime.atomic_file import write_atomically
from .peer_list import ENVIRONMENTS, REQUIREMENTS
from .protocol import first_line, python_of, terminated_as_exit

INSTALL_SECONDS = 1800
"""Limit of one installation: torch and what comes with it are a gigabyte."""
_MADE, _FAILED = "made.txt", "failed.txt"


def make_environment(folder: Path, requirements: Path, *, timeout_s: float = INSTALL_SECONDS) -> str | None:
    """Make or keep one environment; returns why it could not be made, in one line, or None.

    `made.txt` holds the requirements that it was made from: it is the last file written, so half an environment is
    never taken for one.
    """
    wanted = requirements.read_text(encoding="utf-8")
    made = folder / _MADE
    if python_of(folder).exists():
        if made.is_file() and made.read_text(encoding="utf-8") == wanted:
            return None
        if has_versions(python_of(folder), wanted):
            write_atomically(made, [wanted.encode()], overwrite=True)
            return None
    if folder.exists():
        if not (folder / "pyvenv.cfg").is_file() and not (folder / _FAILED).is_file():
            return f"{folder}: exists and is no virtual environment; name another folder"
        shutil.rmtree(folder)
    problem = _install(folder, requirements, timeout_s)
    if problem is None:
        write_atomically(made, [wanted.encode()], overwrite=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_atomically(folder / _FAILED, [problem.encode()], overwrite=True)
    return problem


_VERSIONS = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
def found(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None
print(json.dumps({name: found(name) for name in sys.argv[1:]}))
"""


def has_versions(python: Path, requirements: str) -> bool:
    """Whether the environment of that Python has exactly the pinned versions; a local part such as `+cpu` may differ."""
    lines = (line.partition("#")[0].strip() for line in requirements.splitlines())
    pins = dict(re.sub(r"\[.*?\]", "", line).split("==", 1) for line in lines if "==" in line)
    command = [str(python), "-P", "-c", _VERSIONS, *pins]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return False
    found: dict[str, str | None] = json.loads(done.stdout)
    return all((found[name] or "").partition("+")[0] == pin.partition("+")[0] for name, pin in pins.items())


def _install(folder: Path, requirements: Path, timeout_s: float) -> str | None:
    venv.create(folder, with_pip=True, symlinks=True)
    command = [str(python_of(folder)), "-m", "pip", "--disable-pip-version-check", "install", "--no-input"]
    command += ["--quiet", "--no-cache-dir", "-r", str(requirements)]
    try:
        with terminated_as_exit():
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return f"pip was not done after {timeout_s:g} s"
    if done.returncode == 0:
        return None
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr]
    return first_line(f"pip install failed: {errors[0].removeprefix('ERROR: ')}")


def main(argv: Sequence[str] | None = None) -> int:
    """Make them one after the other; 1 where one could not be made."""
    parser = argparse.ArgumentParser(
        prog="python -m pocketrec.benchmarks.peers.environments",
        description="Make the environments that `pocketrec bench --peers` runs other tools in.",
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where: a cache, outside of any project")
    parser.add_argument(
        "names", metavar="NAME", nargs="*", help=f"which (default: all): {', '.join(ENVIRONMENTS)}"
    )
    args = parser.parse_args(argv)
    if unknown := [name for name in args.names if name not in ENVIRONMENTS]:
        parser.error(f"unknown environment {unknown[0]!r}; expected {', '.join(ENVIRONMENTS)}")
    args.folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in args.names or ENVIRONMENTS:
        print(f"{name} ...", end=" ", flush=True, file=sys.stderr)
        problem = make_environment(args.folder.absolute() / name, REQUIREMENTS / f"{name}.txt")
        print(problem or "ready", file=sys.stderr)
        failed += problem is not None
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
