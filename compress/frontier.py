"""`--frontier`: a search through recipes for the bundles that nothing beats in both bytes and ranking.

    minimize   bytes of the bundle;  the metric's loss;  with `timed`, the time to re-rank 100 candidates

Trials are proposed by Optuna: all combinations (`grid`), or a tree-structured Parzen estimator for several objectives (Ozaki et
al. 2020, "Multiobjective tree-structured parzen estimator", GECCO). They are kept in an append-only journal in the folder, so
several processes share one search by being given one folder, and a search that was stopped goes on. A trial that a process left
unfinished when it died is closed by the next one that starts. Two processes never work on one recipe.

Validation decides; the test items are not looked at. Each bundle that nothing beats is in the folder, with its manifest; one
that is beaten is removed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from ..runtime.errors import GateError, InputError
from .report import LOG_LOSS, Measure
from .road import Road
from .search_space import Choice, Params, SearchSpace, describe

if TYPE_CHECKING:
    import optuna

JOURNAL = "trials.journal"
STUDY = "frontier"
MOMENT_S = 30.0
"""Between a trial's beginning and its process's name in the journal there are two writes; on a busy machine, seconds."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """How long, and how."""

    trials: int = 40
    """Finished trials that the folder shall hold, those of other processes and earlier runs among them."""
    timeout_s: float | None = None
    """No trial starts after so many seconds; None is no limit. One that has begun is finished."""
    sampler: Literal["tpe", "grid"] = "tpe"
    timed: bool = False
    """Whether the time to re-rank 100 candidates is an objective too."""
    epochs: int = 2
    """Passes of distillation inside a trial: enough to tell recipes apart. 0 leaves distillation out."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.trials < 1 or self.epochs < 0:
            raise ValueError(f"search: trials {self.trials}, epochs {self.epochs}; expected at least 1 and 0")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One finished trial."""

    number: int
    params: dict[str, Choice]
    size_bytes: int
    value: float
    """Of the metric, on validation."""
    rerank_ms: float | None
    seconds: float
    on_front: bool = False

    @property
    def file(self) -> str:
        """Of its bundle, in the folder."""
        return f"trial-{self.number:04d}.pocket"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """What a search knows, by now."""

    points: tuple[Point, ...]
    """Finished trials in their order."""
    failed: int
    """Trials that a bundle failed its checks in, or that were interrupted."""
    interrupted: bool = False

    @property
    def front(self) -> list[Point]:
        """What nothing beats, smallest first."""
        return sorted((point for point in self.points if point.on_front), key=lambda point: point.size_bytes)


def search(
    road: Road,
    space: SearchSpace,
    folder: Path,
    config: SearchConfig,
    *,
    about: dict[str, Any],
    note: Callable[[str], object] = lambda line: None,
) -> Frontier:
    """Try recipes until there are enough trials in the folder, or time is up; Ctrl-C ends it early.

    Args:
        folder: of the search; made if it is not there.
        about: what the search is of (checkpoint, data, metric): a folder that holds another one is refused.
        note: called with a line a trial.

    Raises:
        InputError: the folder holds a search of something else.
        MissingExtraError: Optuna is not installed.
    """
    began, interrupted = time.monotonic(), False
    study = open_study(
        folder, config, space, {**about, "timed": config.timed, "epochs": config.epochs, "seed": config.seed}
    )
    try:
        while _wanted(study, config, space):
            if config.timeout_s is not None and time.monotonic() - began >= config.timeout_s:
                break
            _try_one(study, road, space, folder, config, note)
    except KeyboardInterrupt:
        interrupted = True
    return dataclasses.replace(frontier_of(study, road.before, config), interrupted=interrupted)


def open_study(folder: Path, config: SearchConfig, space: SearchSpace, about: dict[str, Any]) -> optuna.Study:
    """The folder's study, new or as it was left."""
    optuna = _optuna()
    folder.mkdir(parents=True, exist_ok=True)
    backend = optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL))
    # Not the same draws again where a search goes on.
    sampler = optuna.samplers.TPESampler(
        seed=config.seed + (folder / JOURNAL).stat().st_size, multivariate=True
    )
    study = optuna.create_study(
        storage=optuna.storages.JournalStorage(backend), study_name=STUDY, sampler=sampler, load_if_exists=True,
        directions=["minimize"] * (3 if config.timed else 2),
    )  # fmt: skip
    known = study.user_attrs.get("about", about)
    if known != about:
        differ = ", ".join(sorted(key for key in {*known, *about} if known.get(key) != about.get(key)))
        raise InputError(f"{folder}: holds a search with another {differ}; choose another folder")
    study.set_user_attr("about", about)
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        if not _just_begun(trial) and not _alive(trial.user_attrs.get("process")):
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    if config.sampler == "grid":
        for params in space.all():
            study.enqueue_trial(params, skip_if_exists=True)
    return study


def finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Complete trials."""
    return study.get_trials(deepcopy=False, states=(_optuna().trial.TrialState.COMPLETE,))


def frontier_of(study: optuna.Study, before: Measure, config: SearchConfig) -> Frontier:
    """What the study knows."""
    state = _optuna().trial.TrialState
    sign = 1.0 if before.figure[0] == LOG_LOSS else -1.0
    points = [
        Point(
            number=trial.number, params=dict(trial.params), size_bytes=round(trial.values[0]), value=sign * trial.values[1],
            rerank_ms=trial.values[2] if config.timed else None,
            seconds=trial.duration.total_seconds() if trial.duration else 0.0,
        )
        for trial in finished(study)
    ]  # fmt: skip
    best = pareto([tuple(trial.values) for trial in finished(study)])
    return Frontier(
        points=tuple(dataclasses.replace(point, on_front=n in best) for n, point in enumerate(points)),
        failed=len(study.get_trials(deepcopy=False, states=(state.FAIL,))),
    )


def refine(
    road: Road,
    space: SearchSpace,
    folder: Path,
    front: Sequence[Point],
    epochs: int,
    *,
    note: Callable[[str], object] = lambda line: None,
) -> list[tuple[Point, Path, Measure, dict[str, Any]]]:
    """Make the bundles of the front again with full distillation, and look at the test items with each, once.

    Returns:
        Of each point its file, what validation says of it now, and its metrics on the test items.
    """
    made = list[tuple[Point, Path, Measure, dict[str, Any]]]()
    for point in front:
        passes = {"epochs": epochs} if point.params.get("epochs") else {}
        built = road.build(space.recipe({**point.params, **passes}))
        metrics = road.test(built)
        path = folder / f"refined-{point.number:04d}.pocket"
        _move(road.write(built, metrics), path)
        measure = dataclasses.replace(built.measure, size_bytes=path.stat().st_size)
        title, value = measure.figure
        note(f"refined {point.file}: {measure.size_bytes:,} bytes, {title} {value:.4f}, {path.name}")
        made.append((point, path, measure, metrics))
    return made


def pareto(costs: Sequence[Iterable[float]]) -> set[int]:
    """Which of the costs (lower is better, in each place) no other is as good as in all places and better in one; of equal
    ones the first.

    >>> sorted(pareto([(1, 5), (2, 2), (2, 3), (3, 2), (2, 2), (9, 1)]))
    [0, 1, 5]
    """
    rows = [tuple(cost) for cost in costs]

    def beaten(n: int) -> bool:
        return any(
            all(a <= b for a, b in zip(other, rows[n], strict=True)) and (other != rows[n] or m < n)
            for m, other in enumerate(rows)
            if m != n
        )

    return {n for n in range(len(rows)) if not beaten(n)}


def _try_one(
    study: optuna.Study,
    road: Road,
    space: SearchSpace,
    folder: Path,
    config: SearchConfig,
    note: Callable[[str], object],
) -> None:
    """One trial, told to the study however it ends."""
    state = _optuna().trial.TrialState
    trial = study.ask()
    trial.set_user_attr("process", [socket.gethostname(), os.getpid()])
    params = {
        name: cast(Choice, trial.suggest_categorical(name, list(choices)))
        for name, choices in space.choices.items()
    }
    if _taken(study, {state.COMPLETE, state.RUNNING}, before=trial.number, params=params):
        study.tell(trial, state=state.PRUNED)
        if untried := _untried(study, space):
            drawn = np.random.default_rng([config.seed, trial.number]).integers(len(untried))
            study.enqueue_trial(untried[drawn])
        return
    began = time.monotonic()
    try:
        built = road.build(space.recipe(params))
        draft = road.write(built, None)
    except GateError as error:
        trial.set_user_attr("refused", str(error))
        study.tell(trial, state=state.FAIL)
        note(f"trial {trial.number}: {describe(params)}: left out: {error}")
        return
    except BaseException:
        study.tell(trial, state=state.FAIL)
        raise
    measure = dataclasses.replace(built.measure, size_bytes=draft.stat().st_size)
    title, value = measure.figure
    point = Point(
        number=trial.number, params=params, size_bytes=measure.size_bytes, value=value, rerank_ms=measure.rerank_ms,
        seconds=time.monotonic() - began,
    )  # fmt: skip
    _move(draft, folder / point.file)
    costs = [float(measure.size_bytes), value if title == LOG_LOSS else -value]
    if config.timed and measure.rerank_ms is not None:
        costs.append(measure.rerank_ms)
    study.tell(trial, costs)
    for other in frontier_of(study, road.before, config).points:
        if not other.on_front:
            (folder / other.file).unlink(missing_ok=True)
    time_text = "" if measure.rerank_ms is None else f", {measure.rerank_ms:.3g} ms"
    note(
        f"trial {trial.number}: {describe(params)}: {measure.size_bytes:,} bytes, {title} {value:.4f}{time_text}, {point.seconds:.0f} s"
    )


def _move(draft: Path, path: Path) -> None:
    """Whole or not at all, also from another file system."""
    hidden = path.with_name(f".{path.name}")
    shutil.copyfile(draft, hidden)
    os.replace(hidden, path)


def _wanted(study: optuna.Study, config: SearchConfig, space: SearchSpace) -> bool:
    """Whether another trial shall start, beside those that are done or that other processes are at."""
    state = _optuna().trial.TrialState
    begun = study.get_trials(deepcopy=False, states=(state.COMPLETE, state.RUNNING))
    waiting = study.get_trials(deepcopy=False, states=(state.WAITING,))
    return len(begun) < config.trials and bool(waiting or _untried(study, space))


def _untried(study: optuna.Study, space: SearchSpace) -> list[dict[str, Any]]:
    """Recipes that nobody has tried, is at, or has put in the queue."""
    state = _optuna().trial.TrialState
    return [
        params
        for params in space.all()
        if not _taken(study, {state.COMPLETE, state.RUNNING, state.WAITING}, params=params)
    ]


def _taken(study: optuna.Study, states: set[Any], *, params: Params, before: int | None = None) -> bool:
    """Whether a trial in one of the states is of this recipe, or a bundle of it failed its checks."""
    for trial in study.get_trials(deepcopy=False):
        theirs = trial.params or trial.system_attrs.get("fixed_params", {})
        known = trial.state in states or "refused" in trial.user_attrs
        if known and theirs == params and (before is None or trial.number < before):
            return True
    return False


def _just_begun(trial: optuna.trial.FrozenTrial) -> bool:
    """Whether the process of a trial has had no time yet to say which it is."""
    begun = trial.datetime_start
    if "process" in trial.user_attrs or begun is None:
        return False
    return (datetime.now(begun.tzinfo) - begun).total_seconds() < MOMENT_S


def _alive(process: Any) -> bool:
    """Whether the process of a trial may still be at it: one of another machine may."""
    if not isinstance(process, list) or len(process) != 2:
        return False
    host, pid = process
    if host != socket.gethostname():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()


def _optuna() -> Any:
    """The package, quiet, or one line that names its extra."""
    try:
        import optuna
    except ImportError:
        from ..runtime.errors import MissingExtraError

        raise MissingExtraError("pocketrec compress --frontier", "search") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
