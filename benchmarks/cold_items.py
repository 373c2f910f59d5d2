"""Cold items: how well items that a bundle was not made with are ranked, by vectors that its text tower makes of their titles.

Cold are the items of the data that have a title and no row in the bundle. Asked is who chose one: of the users whose last
item ("test"; or the one before it, "validation") is cold, with what they did before as history, cold items in it
included. That item is ranked

    all     among all items, warm by the bundle's table and cold by the tower, without the history's
    cold    among the cold items alone, without the history's

and beside it stand chance (k of C candidates), popularity before the target (a cold item has none: it ranks behind every
item that has, and by chance among its like) and, knowing more than anybody could, popularity of the cold items counted over
the very events that were hidden. What a smaller tower keeps is measured against a reference bundle's tower, the same users
paired: `kept`, and the ratios of size and of the time for one title.

    python -m pocketrec.benchmarks.cold_items SMALL.pocket --reference TEACHER.pocket --data FILE --items TITLES
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.engine import Engine
from ..runtime.errors import BundleError, InputError, MissingExtraError
from ..runtime.text_tower import TextTower, read_text_tower
from .accuracy import compare_rankings, describe_ranking
from .evaluate import EngineScorer, Ranking, Scorer, evaluate_ranks
from .interactions import Interactions, map_items, read_interactions
from .item_texts import ItemTexts, read_item_texts
from .latency import Timing, compare, summarize, time_interleaved
from .measurement_file import write_measurement
from .popularity import PopularityScorer, item_counts
from .protocols import Split, Stage, leave_one_out, training_sequences

CUTOFFS = (10, 20)
TEXT_PARTS = ("tokenizer.json", "token_codes", "token_scales", "token_weights", "text_head", "text_encoder.onnx", "text_projection")  # fmt: skip
"""What a text tower weighs."""


@dataclass(frozen=True, slots=True, eq=False)
class ColdQuestions:
    """Who chose a cold item. Rows of the bundle's items are its own; the n-th cold item has row `n_warm` + n."""

    n_warm: int
    titles: list[str]
    """Of the cold items, in the order of their rows."""
    sequences: list[NDArray[np.int64]]
    """Every user's events; those with items that have neither a row nor a title are left out."""
    split: Split
    """Users whose target is cold."""

    @property
    def n_items(self) -> int:
        return self.n_warm + len(self.titles)


class TextScorer:
    """The `Scorer` of a bundle with cold items beside its table, float32 (M, D)."""

    def __init__(self, engine: Engine, cold: NDArray[np.float32]) -> None:
        self._inner = EngineScorer(engine)
        self._engine = engine
        self._cold = cold
        self.n_items = engine.n_items + len(cold)
        self.max_length = engine.max_length

    def __call__(self, histories: NDArray[np.int64]) -> NDArray[np.float32]:
        """int64 (B, n) -> float32 (B, N + M)."""
        engine = self._engine
        if histories.shape[1] == 0:
            users = np.repeat(engine.prior()[None], len(histories), axis=0)
        else:
            vectors = engine.table.lookup(np.minimum(histories, engine.n_items - 1))  # (B, n, D)
            added = histories >= engine.n_items
            vectors[added] = self._cold[histories[added] - engine.n_items]
            if self._inner.one_by_one:
                users = np.concatenate([engine.encode_vectors(one[None]) for one in vectors])
            else:
                users = engine.encode_vectors(vectors)
        return np.concatenate([engine.score_all(users), users @ self._cold.T], axis=1)


class ColdOnly:
    """A `Scorer` for which cold items alone are candidates."""

    def __init__(self, inner: Scorer, n_warm: int) -> None:
        self._inner, self._n_warm, self.n_items = inner, n_warm, inner.n_items
        self.max_length: int | None = getattr(inner, "max_length", None)

    def __call__(self, histories: NDArray[np.int64]) -> NDArray[np.float32]:
        """int64 (B, n) -> float32 (B, N), -inf for the others."""
        scores = np.array(self._inner(histories), np.float32)
        scores[:, : self._n_warm] = -np.inf
        return scores


def ask_about_cold_items(engine: Engine, data: Interactions, texts: ItemTexts, stage: Stage) -> ColdQuestions:
    """Find the cold items and who chose them.

    Raises:
        InputError: no item of the data is cold, or nobody's target is.
    """
    ids = data.item_ids
    if (
        not (engine.item_ids.rows(ids) >= 0).any()
        and not (engine.item_ids.rows([str(i) for i in ids]) >= 0).any()
    ):
        raise InputError(f"{data.source}: the bundle knows none of its items; is it of another data set?")
    known = map_items(data, engine.item_ids, max_unknown=1.0)
    if not known.unknown_items:
        raise InputError(
            f"{data.source}: the bundle knows all of its {data.n_items:,} items, so none is cold; "
            "make it with `pocketrec compress ... --hide-items 10%`"
        )
    rows = _rows(engine, ids)
    titles = texts.of(ids)
    cold = [n for n in np.flatnonzero(rows < 0).tolist() if titles[n] is not None]
    rows[cold] = engine.n_items + np.arange(len(cold))
    sequences = [rows[history][rows[history] >= 0] for history in data.sequences()]
    split = leave_one_out(sequences, stage=stage)
    asked = np.flatnonzero(split.targets >= engine.n_items)
    if not len(asked):
        raise InputError(
            f"{data.source}: no user's {stage} item is among the {len(cold):,} cold items with a title"
        )
    return ColdQuestions(
        n_warm=engine.n_items,
        titles=[str(titles[n]) for n in cold],
        sequences=sequences,
        split=replace(
            split,
            histories=[split.histories[user] for user in asked.tolist()],
            targets=split.targets[asked],
            users=split.users[asked],
            protocol=f"{split.protocol}, cold targets",
        ),
    )


def rank_cold(scorer: Scorer, questions: ColdQuestions) -> dict[str, Ranking]:
    """Rankings by candidates: "all" and "cold"."""
    n_warm = questions.n_warm
    return {
        "all": evaluate_ranks(scorer, questions.split, n_top=0),
        "cold": evaluate_ranks(ColdOnly(scorer, n_warm), questions.split, n_top=0),
    }


def measure_cold_items(
    bundles: dict[str, Path], data: Interactions, texts: ItemTexts, *, stage: Stage, seed: int, timing: Timing
) -> dict[str, Any]:
    """Everything that the module's docstring names; the first of the bundles is the reference.

    Raises:
        InputError: the bundles do not have the same items, or as `ask_about_cold_items`.
        BundleError: a bundle without a text tower.
    """
    engines = {name: Engine.load(path) for name, path in bundles.items()}
    towers = {name: _tower(engine) for name, engine in engines.items()}
    reference = next(iter(bundles))
    questions = ask_about_cold_items(engines[reference], data, texts, stage)
    systems: dict[str, Any] = {}
    rankings: dict[str, dict[str, Ranking]] = {}
    for name, engine in engines.items():
        if engine.item_ids.ids(range(engine.n_items)) != engines[reference].item_ids.ids(
            range(questions.n_warm)
        ):
            raise InputError(
                f"{bundles[name]}: other items than {bundles[reference]}; expected bundles of the same items"
            )
        rankings[name] = rank_cold(TextScorer(engine, towers[name].embed(questions.titles)), questions)
        systems[name] = {
            "file": bundles[name].name,
            "text": engine.manifest["text"],
            "tower_bytes": tower_bytes(engine),
            "size_bytes": engine.bundle.size_bytes,
            "candidates": {
                of: describe_ranking(r, cutoffs=CUTOFFS, seed=seed) for of, r in rankings[name].items()
            },
        }
    samples = time_interleaved(
        towers, lambda tower, n: lambda: tower.embed([questions.titles[n % len(questions.titles)]]), timing
    )
    comparisons: dict[str, Any] = {}
    for name in bundles:
        systems[name]["embed_one"] = {
            k: v for k, v in summarize(samples[name]).items() if k != "percentiles_ms"
        }
        if name == reference:
            continue
        comparisons[name] = {
            "reference": reference,
            "kept": {
                of: compare_rankings(rankings[name][of], rankings[reference][of], cutoffs=CUTOFFS, seed=seed)[
                    "metrics"
                ]
                for of in ("all", "cold")
            },
            "tower_size_ratio": systems[reference]["tower_bytes"] / systems[name]["tower_bytes"],
            "embed_one_speed_up": compare(samples[name], samples[reference], seed=seed).to_json(),
        }
    return {
        "data": {
            "source": data.source, "sha256": data.sha256, "texts": texts.source, "users_asked": len(questions.split),
            "warm_items": questions.n_warm, "cold_items": len(questions.titles), "stage": stage,
        },
        "reference": reference,
        "systems": systems,
        "baselines": _baselines(questions, seed),
        "comparisons": comparisons,
    }  # fmt: skip


def tower_bytes(engine: Engine) -> int:
    """Bytes of the parts that only the text tower needs."""
    return sum(part["size"] for part in engine.manifest["parts"] if part["name"] in TEXT_PARTS)


def _baselines(questions: ColdQuestions, seed: int) -> dict[str, Any]:
    counts = item_counts(training_sequences(questions.sequences), questions.n_items)
    warm_counts = np.where(np.arange(questions.n_items) < questions.n_warm, counts, 0)
    split = questions.split
    popularity = evaluate_ranks(PopularityScorer(warm_counts), split, n_top=0)
    hidden = rank_cold(PopularityScorer(counts), questions)
    seen_cold = [len(np.unique(h[h >= questions.n_warm])) for h in split.histories]
    seen = [len(np.unique(h)) for h in split.histories]
    chance = {
        "all": _chance(questions.n_items - np.array(seen)),
        "cold": _chance(len(questions.titles) - np.array(seen_cold)),
    }
    return {
        "chance": chance,
        "popularity": {
            "all": describe_ranking(popularity, cutoffs=CUTOFFS, seed=seed),
            "cold": chance["cold"],
        },
        "popularity_of_the_hidden_events": {
            of: describe_ranking(ranking, cutoffs=CUTOFFS, seed=seed) for of, ranking in hidden.items()
        },
    }


def _chance(candidates: NDArray[np.int64]) -> dict[str, Any]:
    """Expected metrics of a random order, the candidates being so many for each user."""
    found: dict[str, Any] = {}
    for k in CUTOFFS:
        ranks = np.arange(1, k + 1)
        gains = {"hr": np.ones(k), "ndcg": 1 / np.log2(ranks + 1), "mrr": 1 / ranks}
        for metric, gain in gains.items():
            found[f"{metric}@{k}"] = {"value": float((gain.sum() / np.maximum(candidates, k)).mean())}
    return {"metrics": found}


def _rows(engine: Engine, ids: list[int] | list[str]) -> NDArray[np.int64]:
    rows = engine.item_ids.rows(ids)
    other = engine.item_ids.rows([str(i) if isinstance(i, int) else i for i in ids])
    return np.where(rows >= 0, rows, other)


def _tower(engine: Engine) -> TextTower:
    tower = read_text_tower(engine.bundle)
    if tower is None:
        raise BundleError(
            f"{engine.bundle.path}: has no text tower; make one with `pocketrec compress hf:FOLDER --items TITLES`"
        )
    return tower


def main(argv: Sequence[str] | None = None) -> int:
    """The module as a command."""
    parser = argparse.ArgumentParser(prog="python -m pocketrec.benchmarks.cold_items", allow_abbrev=False)
    parser.add_argument(
        "bundle", type=Path, help="a bundle with a text tower, made without some of the items"
    )
    parser.add_argument(
        "--reference", type=Path, required=True, help="what it is compared with, such as --teacher-out"
    )
    parser.add_argument("--data", type=Path, required=True, help="all interactions")
    parser.add_argument("--items", type=Path, required=True, help="titles of all items")
    parser.add_argument("--stage", choices=("validation", "test"), default="test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    try:
        results = measure_cold_items(
            {"reference": args.reference, "bundle": args.bundle},
            read_interactions(args.data), read_item_texts(args.items),
            stage=args.stage, seed=args.seed, timing=Timing(),
        )  # fmt: skip
    except (InputError, MissingExtraError, OSError) as error:
        print(f"cold_items: {error}", file=sys.stderr)
        return 2
    settings = {
        "stage": args.stage,
        "seed": args.seed,
        "bundle": args.bundle.name,
        "reference": args.reference.name,
    }
    write_measurement(args.json, "cold_items", settings, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
