"""Fixtures for every test; also loaded in the bare environment, so: standard library and pytest only."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .tiny_road import TinyRoad, Walked

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("POCKETREC_SHARED", REPOSITORY.parent / "shared"))

# These hold only where nothing but the wheel and pytest is installed; `make test-bare` runs them.
collect_ignore = [] if os.environ.get("POCKETREC_BARE") else ["bare"]


@dataclass(frozen=True, slots=True)
class CliResult:
    """What a run of the command line left behind."""

    exit_code: int
    stdout: str
    stderr: str


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("shared") and not SHARED.is_dir():
        pytest.skip(f"no development data: {SHARED} is not a folder; set POCKETREC_SHARED")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of the development data; mark the test `@pytest.mark.shared`."""
    if not SHARED.is_dir():
        pytest.skip(f"no development data: {SHARED} is not a folder; set POCKETREC_SHARED")
    return SHARED


@pytest.fixture
def cli(tmp_path: Path) -> Callable[..., CliResult]:
    """`cli("inspect", path)` runs the command in a process of its own, in an empty folder.

    `without` names modules that this process shall believe are not installed.
    """

    def run(
        *args: str | os.PathLike[str],
        without: tuple[str, ...] = (),
        env: Mapping[str, str] | None = None,
        cwd: Path = tmp_path,
        timeout_s: float = 300,
    ) -> CliResult:
        # `sys.modules[name] = None` is the import system's own way of saying "there is none".
        start = (
            f"import sys; sys.modules.update(dict.fromkeys({without!r}));"
            "from pocketrec.cli.main import main; sys.exit(main())"
        )
        command = ["-c", start] if without else ["-m", "pocketrec.cli.main"]
        done = subprocess.run(
            [sys.executable, *command, *map(os.fspath, args)],
            capture_output=True,
            text=True,
            check=False,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            timeout=timeout_s,
        )
        return CliResult(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def cli_here(capsys: pytest.CaptureFixture[str]) -> Callable[..., CliResult]:
    """`cli_here("compress", ...)`: as `cli`, but in this process, which has paid for importing torch already."""

    def run(*args: str | os.PathLike[str]) -> CliResult:
        from pocketrec.cli.main import main

        capsys.readouterr()
        exit_code = main([os.fspath(arg) for arg in args])
        captured = capsys.readouterr()
        return CliResult(exit_code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def tiny_road(tmp_path_factory: pytest.TempPathFactory) -> TinyRoad:
    """A small trained model and its data; needs the extra `compress`."""
    from .tiny_road import make_tiny_road

    return make_tiny_road(tmp_path_factory.mktemp("tiny_road"))


@pytest.fixture
def export_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoders that were traced before are not traced again; what is exported is verified all the same."""
    from pocketrec.compress import meter

    from .tiny_road import export_encoder_once

    monkeypatch.setattr(meter, "export_encoder", export_encoder_once)


@pytest.fixture(scope="session")
def walked(tiny_road: TinyRoad, tmp_path_factory: pytest.TempPathFactory) -> Walked:
    """The tiny model after every step that there is: treat its files as read-only."""
    from pocketrec.compress import meter

    from .tiny_road import export_encoder_once, walk_all_steps

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meter, "export_encoder", export_encoder_once)
        return walk_all_steps(tiny_road, tmp_path_factory.mktemp("walked"))
