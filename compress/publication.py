"""What every road of compression shares: destinations checked beforehand, drafts that vanish, and what the
manifest says of provenance and accuracy.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import platform
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from ..benchmarks.accuracy import compare_rankings, describe_ranking
from ..benchmarks.evaluate import Ranking
from ..export.bundle_writer import publish
from ..runtime.errors import InputError
from .layouts import ItemItemTeacher, PointwiseTeacher, Teacher
from .report import StepReport


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Compressed:
    """What `compress_model` did."""

    path: Path
    size_bytes: int
    steps: tuple[StepReport, ...]
    metrics: dict[str, Any]
    """On the test items: `accuracy` (ours), `teacher`, `popularity`, `kept` (ours against the teacher, paired), and, of a
    model with a vector for each user, `own_users`: these, and what is kept of them."""
    checkpoint_bytes: int
    """Bytes of the checkpoint's weights."""
    seconds: float


def check_destinations(*outputs: Path | None, overwrite: bool, inputs: Sequence[Path] = ()) -> None:
    """Refuse destinations before minutes of work, not after; `inputs` are files that must not be replaced."""
    given = [path for path in outputs if path is not None]
    for path in given:
        check_destination(path, overwrite=overwrite)
    taken = [(path, "an input") for path in inputs]
    for path in given:
        for other, what in taken:
            if os.path.realpath(path) == os.path.realpath(other):
                raise InputError(f"{path}: is {what} too; choose another name for what is written")
        taken.append((path, "the other output" if len(given) == 2 else "another output"))


def check_destination(path: Path, *, overwrite: bool) -> None:
    """Refuse a destination that cannot be written, or that is there already."""
    if path.is_dir():
        raise InputError(f"{path}: is a directory, expected a file name such as {path / 'model.pocket'}")
    if os.path.lexists(path):
        if not (path.is_file() or path.is_symlink()):
            raise InputError(f"{path}: is no ordinary file, so it is not replaced; choose another name")
        if not overwrite:
            raise InputError(f"{path}: already exists; choose another name, or --force to replace it")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; create it first")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(
            f"{path}: the folder {path.parent} cannot be written ({error.strerror}); choose another one"
        ) from None


@contextlib.contextmanager
def drafts(output: Path) -> Generator[Path]:
    """A hidden folder beside the output. Writes that fail say where: the system's error for a full disk does not."""
    with tempfile.TemporaryDirectory(prefix=f".{output.name[:100]}.", dir=output.parent) as folder:
        try:
            yield Path(folder)
        except OSError as error:
            if error.filename2 is None and str(error.filename or folder).startswith(folder):
                error.filename = str(output)
            raise


def provenance(
    teacher: Teacher | ItemItemTeacher | PointwiseTeacher, seed: int, data: dict[str, Any] | None
) -> dict[str, Any]:
    """Where a bundle comes from: enough to make it again, and nothing about the machine's folders."""
    packages = ("pocketrec", "torch", "torch-pruning", "onnx", "onnxruntime", "numpy")
    source = teacher.source
    return {
        "checkpoint": {
            "file": source.path.name,
            "sha256": source.sha256,
            "weights_bytes": source.weights_bytes,
            "layout": teacher.layout,
        },
        "data": data or {},
        "versions": {
            "python": platform.python_version(),
            **{p: importlib.metadata.version(p) for p in packages},
        },
        "seed": seed,
        "notes": list(teacher.notes),
    }


def describe_rankings(ours: Ranking, theirs: Ranking, popular: Ranking, seed: int) -> dict[str, Any]:
    """What the manifest says of the test items: the bundle, its teacher, popularity, and the first against the second."""
    return {
        "split": "test",
        "accuracy": describe_ranking(ours, seed=seed),
        "teacher": describe_ranking(theirs, seed=seed),
        "popularity": describe_ranking(popular, seed=seed),
        "kept": compare_rankings(ours, theirs, seed=seed),
    }


def rounded(value: Any) -> Any:
    """Floats to six significant digits: what is measured is not known to more, and the manifest is part of the bytes."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner) for inner in value]
    return value


def release(
    final: Path, output: Path, *, original: Path, teacher_output: Path | None = None, overwrite: bool
) -> None:
    """Give the draft `final`, and the teacher's `original` where it is asked for, their names: both or none.

    Raises:
        OSError: the disk is full.
    """
    if teacher_output is not None:
        publish(original, teacher_output, overwrite=overwrite)
    try:
        publish(final, output, overwrite=overwrite)
    except BaseException:
        if teacher_output is not None:
            teacher_output.unlink(missing_ok=True)
        raise
