"""The accuracy of several bundles on one set of interactions: every system asked the same questions, beside popularity.

    read the data -> split it -> rank every target with every system -> intervals, segments, each against the reference

A split is by `protocols`: each user's last event, or one cut in time. What a model was trained on is not asked of it here:
the manifest says which file it was compressed with, and where that is the measured one and the split is temporal, a note
says that the model has seen what came after the cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.engine import Engine
from ..runtime.errors import InputError
from .accuracy import compare_rankings, describe_ranking
from .beyond_accuracy import describe_lists, set_metrics
from .evaluate import EngineScorer, Ranking, evaluate_ranks
from .interactions import Interactions, MappedSequences, describe_data, map_items, read_interactions
from .machine import available_cores
from .popularity import PopularityScorer, item_counts
from .progress import Track
from .protocols import Split, leave_one_out, temporal, training_sequences
from .ranking_metrics import per_user
from .segments import Segment, describe_segments, segments_of

if TYPE_CHECKING:
    from .bench import BenchConfig, System

POPULARITY = "popularity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """What was found, as the results object has it, and what the timing needs."""

    data: dict[str, Any]
    split: dict[str, Any]
    """How the data were cut, for the settings: `kind`, and of a temporal split `cut` and `quantile`."""
    systems: dict[str, dict[str, Any]]
    """By name; popularity among them."""
    segments: list[dict[str, Any]]
    comparisons: dict[str, dict[str, Any]]
    notes: list[str]
    histories: list[NDArray[np.int64]]
    """Item rows of the first system, before each target."""
    catalogue: list[int | str]
    """Ids of the items that occur in the data: every system knows these."""
    ids_of: Any
    """Rows of the first system -> ids."""


def measure_accuracy(
    config: BenchConfig, systems: Sequence[System], reference: str | None, track: Track
) -> Accuracy:
    """Rank, describe and compare; see docs/results-schema.md for the parts.

    Raises:
        InputError: the data do not belong to a bundle, or have no times where the split needs them.
    """
    data = read_interactions(config.data)
    threads = min(available_cores(), max(config.threads))
    rankings: dict[str, Ranking] = {}
    lists: dict[str, dict[str, float | None]] = {}
    splits: dict[str, Split] = {}
    segments: list[Segment] = []
    first: Engine | None = None
    how: dict[str, Any] = {}
    sequences: list[NDArray[np.int64]] = []
    for system in systems:
        engine = Engine.load(system.path, threads=threads, device=config.device, verify=False)
        mapped = map_items(data, engine.item_ids, max_unknown=float(config.allow_unknown_items))
        split, training, described = split_of(config, mapped)
        splits[system.name] = split
        counts = item_counts(training, engine.n_items)
        with track(f"ranking, {system.name}", len(split.targets)) as advance:
            rankings[system.name] = evaluate_ranks(
                EngineScorer(engine), split, keep_repeats=config.keep_repeats, progress=advance
            )
        lists[system.name] = describe_lists(rankings[system.name], counts)
        if first is None:
            first, how, sequences = engine, described, mapped.sequences
            popular = evaluate_ranks(PopularityScorer(counts), split, keep_repeats=config.keep_repeats)
            rankings[POPULARITY], lists[POPULARITY] = popular, describe_lists(popular, counts)
            segments = segments_of(split, counts)
    assert first is not None  # there is at least one system
    _check_same_users(splits)
    split = splits[systems[0].name]
    return Accuracy(
        data={
            **describe_data(data),
            "users_evaluated": len(split.targets),
            "users_left_out": split.left_out,
            "repeated_targets": rankings[systems[0].name].repeated_targets,
        },
        split=how,
        systems={
            name: {
                **describe_ranking(ranking, seed=config.seed),
                "sets": set_metrics(ranking.ranks),
                "lists": lists[name],
            }
            for name, ranking in rankings.items()
        },
        segments=describe_segments(segments, rankings, reference, seed=config.seed),
        comparisons={
            system.name: compare_rankings(rankings[system.name], rankings[reference], seed=config.seed)
            for system in systems
            if reference is not None and system.name != reference
        },
        notes=_notes(systems, data, how, rankings),
        histories=split.histories,
        catalogue=first.item_ids.ids(np.unique(np.concatenate(sequences))),
        ids_of=first.item_ids.ids,
    )


def split_of(
    config: BenchConfig, mapped: MappedSequences
) -> tuple[Split, list[NDArray[np.int64]], dict[str, Any]]:
    """The questions, what a model may have learned from, and what the settings say of the split."""
    match config.protocol:
        case "leave-one-out":
            split = leave_one_out(mapped.sequences, stage="test")
            return split, training_sequences(mapped.sequences), {"kind": "leave-one-out"}
        case "temporal":
            found = temporal(mapped.sequences, mapped.times, quantile=config.quantile, cut=config.cut)
            by = {"quantile": config.quantile if config.cut is None else None, "cut": found.cut}
            return found.test, found.training, {"kind": "temporal", **by}


def _notes(
    systems: Sequence[System], data: Interactions, how: Mapping[str, Any], rankings: Mapping[str, Ranking]
) -> list[str]:
    """What a reader must know before believing the figures."""
    notes: list[str] = []
    for system in systems:
        provenance = system.bundle.manifest.get("provenance")
        learned = provenance.get("data") if isinstance(provenance, dict) else None
        same = isinstance(learned, dict) and learned.get("sha256") == data.sha256
        if how["kind"] == "temporal" and same:
            notes.append(
                f"{system.name} was compressed with this very file, so it has seen events after the cut: its temporal "
                "figures are too good; train and compress with the past alone (python -m pocketrec.benchmarks.past_events)"
            )
        ours, popular = (
            float(per_user(ranking.ranks, "ndcg@10").mean())
            for ranking in (rankings[system.name], rankings[POPULARITY])
        )
        if ours <= popular:
            notes.append(
                f"{system.name} ranks no better than popularity (NDCG@10 {ours:.4f} against {popular:.4f})"
            )
    return notes


def _check_same_users(splits: Mapping[str, Split]) -> None:
    (first, expected), *others = splits.items()
    for name, split in others:
        same = np.array_equal(split.users, expected.users) and all(
            len(a) == len(b) for a, b in zip(split.histories, expected.histories, strict=True)
        )
        if not same:
            raise InputError(
                f"{name} and {first}: they know different items of the data, so they would be asked different"
                " questions; measure them one at a time"
            )
