"""The road of texts: titles -> vectors -> a ranker, or rows of a checkpoint -> a small tower -> the bundle.

    encoder alone      its titles' vectors, projected, are the item table of a SASRec that learns on the interactions
                       (`text_ranker`); that is the teacher, and it goes the road of every other (`pipeline`)
    encoder beside a   the checkpoint is the teacher; its items keep their rows, and the encoder's vectors are mapped onto
    checkpoint         them by ridge regression, for items it does not know

At the end either way: a small tower is taught what the finished bundle's rows are (`tower_distill`), chosen by how well it
ranks items of which it was not taught the title, and written into the bundle. With `teacher_output`, the uncompressed
bundle carries the encoder itself as its tower: what the small one is measured against.

Hidden items (`TextOptions.hide_items`) are left out of everything, as if they came out tomorrow; `benchmarks.cold_items`
then asks for them.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...benchmarks.evaluate import evaluate_ranks
from ...benchmarks.hide_items import hidden_items, titled_items
from ...benchmarks.interactions import Interactions, map_items
from ...benchmarks.item_texts import ItemTexts
from ...benchmarks.progress import Track, untracked
from ...benchmarks.protocols import Split, leave_one_out, training_sequences
from ...benchmarks.ranking_metrics import per_user
from ...export.bundle_writer import publish
from ...runtime.engine import Engine
from ...runtime.errors import GateError, InputError
from ...runtime.item_ids import ItemIds
from ..budget import Budget
from ..ladder import Rungs
from ..layouts import Teacher
from ..meter import TorchScorer
from ..models.sasrec import SASRec
from ..pipeline import compress_model
from ..publication import Compressed, check_destinations
from ..recipe import Recipe
from ..report import StepReport
from .hf_encoder import HfEncoder
from .text_bundle import encoder_parts, write_with_text
from .text_ranker import TextRankerConfig, train_text_ranker
from .tower_choice import FittedTower, TowerConfig, fit_tower

VALIDATION_USERS = 5_000
"""Users who are asked after each epoch of the ranker: their mean is known to .002, which is less than epochs differ by."""
RIDGE = 0.01
"""Of the map from the encoder's vectors onto a checkpoint's rows, as a share of the mean variance of a coordinate."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TextOptions:
    """What the road of texts does besides what a recipe says."""

    hide_items: float = 0.0
    """Share of the items, drawn with the recipe's seed, that is left out of everything."""
    ranker: TextRankerConfig = dataclasses.field(default_factory=TextRankerConfig)
    tower: TowerConfig = dataclasses.field(default_factory=TowerConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.hide_items < 1:
            raise InputError(f"hide_items {self.hide_items}, expected 0 or more, and less than 1")


def compress_text(
    encoder: HfEncoder,
    texts: ItemTexts,
    interactions: Interactions,
    recipe: Recipe,
    output: Path,
    *,
    teacher: Teacher | None = None,
    options: TextOptions,
    budget: Budget,
    rungs: Rungs = Rungs(),  # noqa: B008 -- it is frozen
    teacher_output: Path | None = None,
    overwrite: bool = False,
    keep_repeats: bool = False,
    data: dict[str, Any] | None = None,
    threads: int = 1,
    track: Track = untracked,
    say: Callable[[StepReport], object] = lambda report: None,
    note: Callable[[str], object] = lambda line: None,
) -> Compressed:
    """Compress an encoder, or a checkpoint (`teacher`) with an encoder beside it, into a bundle with a text tower.

    Args:
        teacher: a checkpoint of the sequence family; None trains a ranker over the titles.
        note: called with what was left out.

    Raises:
        GateError: the budget is broken; nothing is written.
        InputError: too few titles, or as `compress_model`.
    """
    began = time.perf_counter()
    check_destinations(output, teacher_output, overwrite=overwrite)
    if teacher is None:
        item_ids = _items_to_rank(interactions, texts, options, recipe.seed, note)
    else:
        item_ids = teacher.item_ids
        if options.hide_items:
            raise InputError(
                "hide_items: a checkpoint has learned all of its items; hide them before it is trained"
            )
    sequences = map_items(interactions, item_ids, max_unknown=1.0).sequences
    validation, training = leave_one_out(sequences, stage="validation"), training_sequences(sequences)
    titles = texts.of(item_ids.ids(range(len(item_ids))))
    vectors = _embed(encoder, titles, threads, track)
    if teacher is None:
        teacher, projection = _train(
            encoder, vectors, item_ids, sequences, options.ranker, keep_repeats=keep_repeats, seed=recipe.seed,
            track=track, note=note,
        )  # fmt: skip
    else:
        projection = _regressed(vectors, teacher.model.item_table.detach().numpy(), titles)
    with tempfile.TemporaryDirectory(prefix=f".{output.name[:100]}.", dir=output.parent) as folder:
        draft, uncompressed = Path(folder) / output.name, Path(folder) / "teacher.pocket"
        done = compress_model(
            teacher, sequences, recipe, draft, budget=budget, rungs=rungs, teacher_output=uncompressed,
            keep_repeats=keep_repeats, data=data, track=track, say=say, note=note,
        )  # fmt: skip
        step_began = time.perf_counter()
        engine = Engine.load(draft)
        tower = fit_tower(
            engine, encoder, titles, training, validation, options.tower, seed=recipe.seed, track=track
        )  # fmt: skip
        step = _step(done, tower, time.perf_counter() - step_began)
        say(step)
        note(_what_it_keeps(tower))
        said = engine.manifest
        steps = {"steps": [*said["steps"], step.to_json()]}
        final, reference = Path(folder) / "final.pocket", Path(folder) / "reference.pocket"
        size_bytes = write_with_text(draft, final, tower.described, tower.parts, manifest=steps)
        if budget.max_size_bytes is not None and size_bytes > budget.max_size_bytes:
            raise GateError(
                f"{output}: {size_bytes:,} bytes with the text tower, --max-size allows {budget.max_size_bytes:,}; "
                "nothing was written; try fewer bits or a smaller table width"
            )
        if teacher_output is not None:
            described, parts = encoder_parts(encoder, projection)
            name = {"name": teacher_output.name.removesuffix(".pocket")}
            write_with_text(uncompressed, reference, described, parts, manifest=name)
            publish(reference, teacher_output, overwrite=overwrite)
        try:
            publish(final, output, overwrite=overwrite)
        except BaseException:
            if teacher_output is not None:
                teacher_output.unlink(missing_ok=True)  # both or none
            raise
    return dataclasses.replace(
        done,
        path=output,
        size_bytes=size_bytes,
        steps=(*done.steps, step),
        seconds=time.perf_counter() - began,
    )


def _items_to_rank(
    interactions: Interactions,
    texts: ItemTexts,
    options: TextOptions,
    seed: int,
    note: Callable[[str], object],
) -> ItemIds:
    """Items of the data with a title, without the hidden ones, integers in their order."""
    titled = titled_items(interactions, texts)
    if len(titled) < interactions.n_items:
        note(f"left out: {interactions.n_items - len(titled):,} items without a title")
    hidden = hidden_items(titled, options.hide_items, seed)
    if hidden:
        note(f"hidden: {len(hidden):,} of the items, as if they came out tomorrow")
    return ItemIds.from_sequence(sorted(item for item in titled if item not in hidden))  # type: ignore[type-var]


def _embed(encoder: HfEncoder, titles: list[str | None], threads: int, track: Track) -> NDArray[np.float32]:
    """The encoder's vector of each title, float32 (N, H); zeros where there is none."""
    vectors = np.zeros((len(titles), encoder.hidden), np.float32)
    tower = encoder.tower(np.zeros((encoder.hidden + 1, 1), np.float32), threads=threads)
    titled = [n for n, title in enumerate(titles) if title is not None]
    # near lengths share a call, and short calls keep the progress moving
    titled.sort(key=lambda n: len(str(titles[n])))
    with track("titles", len(titled)) as advance:
        for start in range(0, len(titled), 256):
            some = titled[start : start + 256]
            vectors[some] = tower.pooled([str(titles[n]) for n in some])
            advance(len(some))
    return vectors


def _train(
    encoder: HfEncoder,
    vectors: NDArray[np.float32],
    item_ids: ItemIds,
    sequences: Sequence[NDArray[np.int64]],
    config: TextRankerConfig,
    *,
    keep_repeats: bool,
    seed: int,
    track: Track,
    note: Callable[[str], object],
) -> tuple[Teacher, NDArray[np.float32]]:
    """A teacher over the titles, and its projection."""
    asked = _some(leave_one_out(sequences, stage="validation"), VALIDATION_USERS, seed)

    def validate(model: SASRec) -> float:
        ranks = evaluate_ranks(TorchScorer(model), asked, keep_repeats=keep_repeats, n_top=0).ranks
        return float(per_user(ranks, "ndcg@10").mean())

    ranker = train_text_ranker(
        vectors, training_sequences(sequences), config, validate=validate, seed=seed, track=track
    )
    best = max(epoch["validation_ndcg10"] for epoch in ranker.epochs)
    note(f"text ranker: {len(ranker.epochs)} epochs, validation NDCG@10 {best:.4f}")
    source = dataclasses.replace(
        encoder.source, tensors={**encoder.source.tensors, **ranker.model.state_dict()}
    )
    notes = (f"a SASRec over the titles' vectors by {encoder.name}",)
    teacher = Teacher(model=ranker.model, item_ids=item_ids, layout="text", source=source, notes=notes)
    return teacher, ranker.projection


def _regressed(
    vectors: NDArray[np.float32], table: NDArray[np.float32], titles: list[str | None]
) -> NDArray[np.float32]:
    """Ridge regression from the encoder's vectors onto rows: float32 (H + 1, D)."""
    titled = np.array([title is not None for title in titles])
    if not titled.any():
        raise InputError("no item of the checkpoint has a title; are these its items?")
    x, y = vectors[titled].astype(np.float64), table[titled].astype(np.float64)
    center, target = x.mean(0), y.mean(0)
    gram = (x - center).T @ (x - center)
    gram[np.diag_indices_from(gram)] += RIDGE * np.trace(gram) / len(gram) + 1e-9
    weight = np.linalg.solve(gram, (x - center).T @ (y - target))
    return np.concatenate([weight, (target - center @ weight)[None]]).astype(np.float32)


def _what_it_keeps(tower: FittedTower) -> str:
    """One line for people."""
    chosen = next(form for form in tower.detail["tried"] if form["form"] == tower.detail["chosen"])
    probes = chosen["probes"]
    if probes["kept"] is None or probes["kept"]["value"] is None:
        return (
            f"{chosen['form']}: no validation user chose one of the {tower.detail['n_probes']:,} probe items"
        )
    kept = probes["kept"]
    return (
        f"{chosen['form']}, {chosen['bytes']:,} B: among {tower.detail['n_probes']:,} items whose titles it was not taught, titles keep "
        f"{kept['value']:.1%} ({kept['low']:.1%} to {kept['high']:.1%}) of the rows' NDCG@10, {probes['users']:,} users"
    )


def _step(done: Compressed, tower: FittedTower, seconds: float) -> StepReport:
    before = done.steps[-1].after
    after = dataclasses.replace(
        before,
        size_bytes=before.size_bytes
        + sum(len(p) if isinstance(p, bytes) else p.nbytes for p in tower.parts.values()),
    )
    return StepReport(name="text", before=before, after=after, detail=tower.detail, seconds=seconds)


def _some(split: Split, n_users: int, seed: int) -> Split:
    """At most so many users of the split, drawn with the seed."""
    if len(split) <= n_users:
        return split
    drawn = np.sort(np.random.default_rng(seed).choice(len(split), n_users, replace=False))
    return dataclasses.replace(
        split, histories=[split.histories[user] for user in drawn.tolist()], targets=split.targets[drawn],
        users=split.users[drawn],
    )  # fmt: skip
