"""Fit the text tower of a finished bundle, and choose its form by items whose titles it was not taught.

A share of the items, the probes, is kept from the tower's lessons. Of the validation users who chose a probe, it is asked how
well the item is ranked among the probes by its row in the table and by its title's vector; the share of NDCG@10 that the
title keeps chooses, where several forms are tried, and is reported. The bundle's table and encoder are as they ship.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ...benchmarks.evaluate import count_ranks, equal_length_batches
from ...benchmarks.progress import Track, untracked
from ...benchmarks.protocols import Split
from ...benchmarks.ranking_metrics import paired_bootstrap, per_user
from ...runtime.bundle import Bundle
from ...runtime.engine import Engine
from ...runtime.errors import InputError
from ...runtime.text_tokens import Tokens
from ...runtime.text_tower import UNKNOWN, read_text_tower
from .bag_net import BagConfig, BagNet, bag_tokens, fresh_bag
from .calibration import calibrate
from .hf_encoder import HfEncoder
from .small_transformer import SmallTransformer, SmallTransformerConfig
from .text_bundle import write_with_text
from .tokenizer_pruning import prune_tokenizer
from .tower_distill import DistillTowerConfig, Lesson, distill_tower_, padded

MAX_MOMENTS = 60_000
"""Moments of training histories to encode: more do not change what a tower learns, and cost seconds each 100,000."""
MAX_PROBES = 2_000
"""Of a large catalogue: scores of all who are asked are held at once, 160 MB."""
MAX_ASKED = 20_000
"""Validation users who choose the scale and the form: a twentieth of them, or less, chose a probe."""
LEAST_TITLES = 20
"""Below it nothing can be learned, nor probed."""
Form = Literal["bag", "transformer"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TowerConfig:
    """Which towers are tried, and how they learn."""

    forms: tuple[Form, ...] = ("bag",)
    """Of several the one that keeps most on the probes, the first where they tie."""
    bag: BagConfig = dataclasses.field(default_factory=BagConfig)
    transformer: SmallTransformerConfig = dataclasses.field(default_factory=SmallTransformerConfig)
    distill: DistillTowerConfig = dataclasses.field(default_factory=DistillTowerConfig)
    probe_share: float = 0.05
    """Of the items, whose titles are kept from the lessons."""

    def __post_init__(self) -> None:
        if not self.forms or not set(self.forms) <= {"bag", "transformer"}:
            raise InputError(f"text tower: forms {self.forms}, expected bag, transformer or both")
        if not 0 < self.probe_share < 1:
            raise InputError(f"text tower: probe_share {self.probe_share}, expected between 0 and 1")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FittedTower:
    """A tower on its way into a bundle."""

    described: dict[str, Any]
    """The manifest's `text`."""
    parts: dict[str, Any]
    detail: dict[str, Any]
    """For the step's report: what each form kept on the probes."""


def fit_tower(
    engine: Engine,
    encoder: HfEncoder,
    titles: Sequence[str | None],
    training: Sequence[NDArray[np.int64]],
    validation: Split,
    config: TowerConfig,
    *,
    seed: int,
    track: Track = untracked,
) -> FittedTower:
    """Teach towers the rows of `engine`'s table by the titles of its items (None where there is none).

    Raises:
        InputError: too few titles, or no user with two events.
    """
    titled = np.array([row for row, title in enumerate(titles) if title is not None], np.int64)
    if len(titled) < LEAST_TITLES:
        raise InputError(f"text tower: titles of {len(titled)} items, expected at least {LEAST_TITLES}")
    random = np.random.default_rng(seed)
    n_probes = min(MAX_PROBES, max(1, round(len(titled) * config.probe_share)))
    probes = np.sort(random.choice(titled, n_probes, replace=False))
    taught = np.setdiff1d(titled, probes)
    table = engine.table.lookup(np.arange(engine.n_items))
    users, chosen = _moments(engine, training, taught, random)
    taught_titles = [str(titles[row]) for row in taught.tolist()]
    whole = Tokens(encoder.tokenizer, max_tokens=encoder.max_tokens, where=encoder.name, special=False)
    used = {token for ids in whole.encode(taught_titles) for token in ids}
    tokenizer, kept = prune_tokenizer(encoder.tokenizer, used)
    school = _School(
        tokenizer=tokenizer,
        words=encoder.word_vectors[np.minimum(kept, len(encoder.word_vectors) - 1)],
        taught_titles=taught_titles,
        probe_titles=[str(titles[row]) for row in probes.tolist()],
        taught_rows=torch.from_numpy(table[taught]),
        users=users,
        chosen=chosen,
    )
    asked = _ask(engine, validation, random)
    found: list[FittedTower] = []
    for form in config.forms:
        began = time.perf_counter()
        net, losses = _taught_net(form, school, encoder, config, seed, track)
        with torch.no_grad():
            vectors = net(_tokens(form, school, school.probe_titles, encoder, config)).numpy()
        fair = calibrate(asked.vectors, asked.targets, asked.histories, table, probes, vectors)
        net.move_(fair.scale, fair.shift)
        if isinstance(net, BagNet):
            described, parts = net.stored(tokenizer, bits=config.bag.bits, max_tokens=encoder.max_tokens)
        else:
            described, parts = net.stored(tokenizer, max_tokens=encoder.max_tokens)
        shipped = _as_shipped(engine, described, parts, school.probe_titles)
        detail = {
            "form": form, "bytes": sum(map(_size, parts.values())), "scale": fair.scale,
            "probes": _kept(asked, table, probes, shipped, seed), "losses": [round(x, 4) for x in losses],
            "seconds": round(time.perf_counter() - began, 1),
        }  # fmt: skip
        found.append(FittedTower(described, parts, detail))
    best = max(found, key=lambda tower: tower.detail["probes"]["title"])
    tried = [tower.detail for tower in found]
    detail = {"chosen": best.detail["form"], "n_probes": len(probes), "tokens": len(kept), "tried": tried}
    return FittedTower(best.described, best.parts, detail)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _School:
    """What towers of every form are taught with."""

    tokenizer: bytes
    words: NDArray[np.float32]
    """float32 (V, H'): the encoder's word vector of each of its tokens."""
    taught_titles: list[str]
    probe_titles: list[str]
    taught_rows: torch.Tensor
    """float32 (n, D)."""
    users: torch.Tensor
    chosen: torch.Tensor


def _tokens(
    form: Form, school: _School, titles: list[str], encoder: HfEncoder, config: TowerConfig
) -> torch.Tensor:
    """What a tower of that form sees of titles: int64 (n, L)."""
    tokens = Tokens(school.tokenizer, max_tokens=encoder.max_tokens, where=encoder.name, special=False)
    encoded = tokens.encode(titles)
    if form == "bag":
        return bag_tokens(encoded, len(school.words), config.bag.pairs)
    return padded([np.array(ids or [UNKNOWN], np.int64) for ids in encoded])


def _taught_net(
    form: Form, school: _School, encoder: HfEncoder, config: TowerConfig, seed: int, track: Track
) -> tuple[BagNet | SmallTransformer, list[float]]:
    tokens = _tokens(form, school, school.taught_titles, encoder, config)
    lesson = Lesson(tokens, school.taught_rows, school.users, school.chosen)
    if form == "bag":
        net = fresh_bag(school.words, lesson, config.bag, seed=seed)
    else:
        width = school.taught_rows.shape[1]
        net = SmallTransformer(
            school.words, width, config.transformer, max_tokens=encoder.max_tokens, seed=seed
        )
    return net, distill_tower_(net, lesson, config.distill, seed=seed, track=track)


def _as_shipped(
    engine: Engine, described: dict[str, Any], parts: dict[str, Any], titles: list[str]
) -> NDArray[np.float32]:
    """Vectors of titles as the device will make them, rounding included: float32 (n, D)."""
    with tempfile.TemporaryDirectory(prefix="pocketrec-tower.", dir=engine.bundle.path.parent) as folder:
        path = Path(folder) / "tower.pocket"
        write_with_text(engine.bundle.path, path, described, parts)
        tower = read_text_tower(Bundle.open(path))
        assert tower is not None  # it was just written
        return tower.embed(titles)


def _moments(
    engine: Engine,
    training: Sequence[NDArray[np.int64]],
    taught: NDArray[np.int64],
    random: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Users' vectors at random moments, float32 (P, D), and which of the taught items came next, int64 (P,)."""
    place = np.full(engine.n_items, -1, np.int64)
    place[taught] = np.arange(len(taught))
    moments = [
        (user, n)
        for user, events in enumerate(training)
        for n in range(1, len(events))
        if place[events[n]] >= 0
    ]
    if not moments:
        raise InputError(
            "text tower: no training history leads to an item with a title; nothing to learn from"
        )
    if len(moments) > MAX_MOMENTS:
        moments = [moments[n] for n in random.choice(len(moments), MAX_MOMENTS, replace=False).tolist()]
    users = encode_histories(engine, [training[user][:n] for user, n in moments])
    chosen = place[[training[user][n] for user, n in moments]]
    return torch.from_numpy(users), torch.from_numpy(chosen)


def encode_histories(engine: Engine, histories: list[NDArray[np.int64]]) -> NDArray[np.float32]:
    """User vectors of histories of any lengths of at least 1: float32 (U, D)."""
    users = np.empty((len(histories), engine.width), np.float32)
    for some, rows in equal_length_batches(histories, 256, engine.max_length):
        users[some] = engine.encode(rows)
    return users


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """Validation users."""

    vectors: NDArray[np.float32]
    """float32 (U, D), before their target."""
    targets: NDArray[np.int64]
    histories: list[NDArray[np.int64]]


def _ask(engine: Engine, validation: Split, random: np.random.Generator) -> _Asked:
    """All validation users, or so many that are drawn."""
    asked = np.arange(len(validation))
    if len(asked) > MAX_ASKED:
        asked = np.sort(random.choice(asked, MAX_ASKED, replace=False))
    histories = [validation.histories[user] for user in asked.tolist()]
    return _Asked(encode_histories(engine, histories), validation.targets[asked], histories)


def _kept(
    asked: _Asked,
    table: NDArray[np.float32],
    probes: NDArray[np.int64],
    titles: NDArray[np.float32],
    seed: int,
) -> dict[str, Any]:
    """NDCG@10 among the probes by their rows and by their titles, and the ratio with its interval."""
    place = np.full(len(table), -1, np.int64)
    place[probes] = np.arange(len(probes))
    chose = np.flatnonzero(place[asked.targets] >= 0)
    if not len(chose):
        return {"users": 0, "row": 0.0, "title": 0.0, "kept": None}
    met = [place[asked.histories[user]] for user in chose.tolist()]
    masked = [np.unique(rows[rows >= 0]) for rows in met]
    figures: list[NDArray[np.float64]] = []
    for vectors in (table[probes], titles):
        ranks, _ = count_ranks(asked.vectors[chose] @ vectors.T, place[asked.targets[chose]], masked)
        figures.append(per_user(ranks, "ndcg@10"))
    row, title = figures
    kept = paired_bootstrap(title, row, seed=seed).ratio.to_json()
    return {"users": len(row), "row": float(row.mean()), "title": float(title.mean()), "kept": kept}


def _size(part: Any) -> int:
    return len(part) if isinstance(part, bytes) else part.nbytes
