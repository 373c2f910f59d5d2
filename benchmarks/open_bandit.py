"""The Open Bandit Dataset: what a fashion store showed, with which probability, and whether it was clicked.

    random.csv        logged by a policy that draws items evenly
    bts.csv           logged by Bernoulli Thompson sampling
    item_context.csv  a number and three categories of each item

Of each impression: the item, its position, the click, the propensity, four hashed categories of the user, and how often that
user clicked each item before. Source: Saito et al. 2021, NeurIPS Datasets and Benchmarks, arXiv:2008.07146.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..runtime.errors import InputError

USER_FEATURES = tuple(f"user_feature_{n}" for n in range(4))
LOGGED = ("item_id", "position", "click", "propensity_score")
ITEM_CATEGORIES = tuple(f"item_feature_{n}" for n in range(1, 4))


@dataclass(frozen=True, slots=True, eq=False)
class BanditLog:
    """n impressions in time order, of A items."""

    actions: NDArray[np.int64]
    """int64 (n,), 0..A-1."""
    positions: NDArray[np.int64]
    """int64 (n,), from 0."""
    clicks: NDArray[np.float64]
    propensities: NDArray[np.float64]
    user_features: NDArray[np.int64]
    """int64 (n, 4): numbers of the categories; they mean the same in all logs that were read together."""
    affinities: NDArray[np.float64]
    """float64 (n, A)."""

    def __len__(self) -> int:
        return len(self.actions)


def read_items(folder: Path) -> NDArray[np.float32]:
    """The items' features, float32 (A, D): the number, standardized, and a column for each category.

    Raises:
        InputError: no such file, or not of this form.
    """
    path = folder / "item_context.csv"
    frame = _read(path, ("item_id", "item_feature_0"), ITEM_CATEGORIES).sort("item_id")
    if frame["item_id"].to_list() != list(range(len(frame))):
        raise InputError(f"{path}: item_id is not 0, 1, ...; expected the file of the Open Bandit Dataset")
    number = frame["item_feature_0"].to_numpy()
    number = (number - number.mean()) / (number.std() or 1.0)
    categories = frame.select(ITEM_CATEGORIES).to_dummies().to_numpy()
    return np.concatenate([number[:, None], categories], axis=1).astype(np.float32)


def read_logs(folder: Path, names: tuple[str, ...] = ("random", "bts")) -> dict[str, BanditLog]:
    """Logs by name.

    Raises:
        InputError: no such file, or not of this form; a propensity of 0 for what was shown is neither.
    """
    frames = {name: _read(folder / f"{name}.csv", LOGGED, ("timestamp", *USER_FEATURES)) for name in names}
    values = [sorted({value for frame in frames.values() for value in frame[name]}) for name in USER_FEATURES]
    return {name: _log(folder / f"{name}.csv", frame, values) for name, frame in frames.items()}


def _log(path: Path, frame: pl.DataFrame, values: list[list[str]]) -> BanditLog:
    frame = frame.sort("timestamp", maintain_order=True)
    affinities = [name for name in frame.columns if name.startswith("user-item_affinity_")]
    affinities.sort(key=lambda name: int(name.rsplit("_", 1)[1]))
    log = BanditLog(
        actions=frame["item_id"].to_numpy().astype(np.int64),
        positions=frame["position"].to_numpy().astype(np.int64) - 1,
        clicks=frame["click"].to_numpy().astype(np.float64),
        propensities=frame["propensity_score"].to_numpy().astype(np.float64),
        user_features=np.stack(
            [
                np.searchsorted(np.array(known), frame[name].to_numpy().astype(str))
                for name, known in zip(USER_FEATURES, values, strict=True)
            ],
            axis=1,
        ).astype(np.int64),
        affinities=frame.select(affinities).to_numpy().astype(np.float64),
    )
    propensities, clicks = log.propensities, log.clicks
    sound = ((propensities > 0) & (propensities <= 1)).all() and ((clicks == 0) | (clicks == 1)).all()
    sound &= log.actions.min() >= 0 and log.positions.min() >= 0
    if not sound or log.actions.max() >= len(affinities) or not np.isfinite(log.affinities).all():
        raise InputError(
            f"{path}: a propensity outside (0, 1], a click that is not 0 or 1, an item without a column of affinities, "
            "an affinity that is no number, or a position below 1"
        )
    return log


def _read(path: Path, numbers: tuple[str, ...], texts: tuple[str, ...]) -> pl.DataFrame:
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; give the folder of the Open Bandit Dataset: random.csv, bts.csv and item_context.csv"
        )
    try:
        frame = pl.read_csv(path)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path}: not a CSV file ({str(error).splitlines()[0][:100]})") from None
    missing = [name for name in (*numbers, *texts) if name not in frame.columns]
    if missing or not len(frame):
        raise InputError(f"{path}: no column {missing[0]!r}" if missing else f"{path}: no rows")
    for name in (*numbers, *texts):
        column = frame[name]
        if column.null_count() or (
            name in numbers and not (column.dtype.is_numeric() and column.is_finite().all())
        ):
            raise InputError(
                f"{path}: column {name!r} has a row that is empty or no number; expected the file of the Open Bandit Dataset"
            )
    return frame.with_columns(pl.col(texts).cast(pl.String))
