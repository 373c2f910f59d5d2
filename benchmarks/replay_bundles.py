"""Replay bundles on data: what `pocketrec replay` measures and writes.

Several bundles are several runs of one experiment (trained with other seeds), and every seed draws other candidates;
the figures of a user are means over all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..runtime.bundle import Bundle
from ..runtime.engine import Engine
from ..runtime.errors import InputError
from ..runtime.reranker import Reranker
from .interactions import Interactions, describe_data, map_items
from .machine import describe_machine
from .progress import Track, untracked
from .replay import (
    Candidates,
    Replay,
    ReplayConfig,
    Rows,
    drawn,
    replay_from_time,
    replay_last_event,
    replay_last_share,
    trace,
)
from .replay_summary import summarize_runs
from .replay_systems import standard_systems

Protocol = Literal["temporal", "last-share", "leave-one-out"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """What to replay, and how."""

    bundles: tuple[Path, ...]
    """All trained on what lies before the cut."""
    protocol: Protocol = "temporal"
    """`temporal`: the events after one moment, of users old and new. `last-share`: each user's last events, for data
    with order only. `leave-one-out`: each user's last event, for bundles made under it."""
    quantile: float = 0.9
    """Of `temporal`: the share of all events that lies before the cut."""
    share: float = 0.2
    """Of `last-share`."""
    candidates: Candidates = "catalogue"
    n_negatives: int = 99
    max_events: int = 100
    max_users: int | None = None
    seeds: int = 1
    """Draws of candidates for each bundle; with the catalogue one is enough."""
    seed: int = 0
    allow_unknown_items: bool = False
    """Leave out events with items that a bundle does not know."""
    command: str = ""


def replay_bundles(options: ReplayOptions, data: Interactions, track: Track = untracked) -> dict[str, Any]:
    """Replay and summarize: a dict that is ready for JSON; see docs/results-schema.md.

    Raises:
        InputError: the data have no times and the protocol wants them, or they do not fit a bundle or the protocol.
        BundleError: a bundle is damaged.
    """
    if options.seeds < 1:
        raise InputError(f"replay: seeds {options.seeds}, expected at least 1")
    began = time.perf_counter()
    runs, protocol = [], ""
    for path in options.bundles:
        ranker = Reranker(Engine.load(path), candidates=options.candidates)
        replay = cut(map_for_replay(data, ranker, options), options)
        protocol = replay.protocol
        for seed in range(options.seeds):
            config = ReplayConfig(
                candidates=options.candidates,
                n_negatives=options.n_negatives,
                max_events=options.max_events,
                max_users=options.max_users,
                seed=options.seed + seed,
                users_seed=options.seed,
            )
            with track(
                f"replay {path.name}, seed {config.seed}", len(drawn(replay.streams, config))
            ) as advance:
                runs.append(trace(standard_systems(ranker), replay, ranker.engine.n_items, config, advance))
    if len({tuple(run.ranks[0]) for run in runs}) > 1:
        raise InputError(
            "replay: some of the bundles have a prior and others have none, so they are replayed as other systems; "
            "replay them one at a time"
        )
    return {
        "schema_version": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": options.command,
        "bundles": [_describe_bundle(path) for path in options.bundles],
        "data": describe_data(data),
        "protocol": protocol,
        "candidates": f"{options.n_negatives} by popularity"
        if options.candidates == "popularity"
        else "catalogue",
        "settings": {
            name: value for name, value in asdict(options).items() if name not in ("bundles", "command")
        },
        **summarize_runs(runs, seed=options.seed),
        "machine": describe_machine(),
        "seconds": round(time.perf_counter() - began, 1),
    }


@dataclass(frozen=True, slots=True, eq=False)
class MappedEvents:
    """The data as rows of a bundle's table, unknown items among them: a cut is that of all events."""

    sequences: list[Rows]
    """int64, one array a user; -1 where the bundle does not know the item."""
    times: list[NDArray[np.float64]] | None
    """Beside `sequences`."""


def map_for_replay(data: Interactions, ranker: Reranker, options: ReplayOptions) -> MappedEvents:
    """The data as rows of the bundle's table.

    Raises:
        InputError: items that the bundle does not know, unless they may be left out.
    """
    item_ids = ranker.engine.item_ids
    map_items(data, item_ids, max_unknown=1.0 if options.allow_unknown_items else 0.0)
    rows = item_ids.rows(data.item_ids)[data.items]
    ends = data.indptr[1:-1]
    return MappedEvents(np.split(rows, ends), None if data.times is None else np.split(data.times, ends))


def cut(mapped: MappedEvents, options: ReplayOptions) -> Replay:
    """Past and future, as the protocol has them; what the bundle does not know is left out after the cut is made.

    Raises:
        InputError: as the protocol's function, or no event of the future is known.
    """
    match options.protocol:
        case "temporal":
            replay = replay_from_time(mapped.sequences, mapped.times, quantile=options.quantile)
        case "last-share":
            replay = replay_last_share(mapped.sequences, share=options.share)
        case "leave-one-out":  # which `compress` does with the items that it knows
            return replay_last_event([_known(sequence) for sequence in mapped.sequences])
    streams = [replace(s, history=_known(s.history), events=_known(s.events)) for s in replay.streams]
    streams = [stream for stream in streams if len(stream.events)]
    if not streams:
        raise InputError("replay: the bundle knows none of the items after the cut; is it of these data?")
    return Replay(streams, [_known(sequence) for sequence in replay.training], replay.protocol)


def _known(rows: Rows) -> Rows:
    return rows[rows >= 0]


def replay_one(
    ranker: Reranker,
    replay: Replay,
    config: ReplayConfig | None = None,
    progress: Callable[[int], object] = lambda done: None,
) -> dict[str, Any]:
    """One bundle, one seed: the figures alone, as the demo shows them."""
    config = config or ReplayConfig()
    traces = trace(standard_systems(ranker), replay, ranker.engine.n_items, config, progress)
    candidates = f"{config.n_negatives} by popularity" if config.candidates == "popularity" else "catalogue"
    return {
        "protocol": replay.protocol,
        "candidates": candidates,
        "seed": config.seed,
        **summarize_runs([traces], seed=config.seed),
    }


def _describe_bundle(path: Path) -> dict[str, Any]:
    bundle = Bundle.open(path)
    adaptation: Any = bundle.manifest.get("adaptation") or {}
    return {
        "file": path.name,
        "fingerprint": bundle.fingerprint,
        "size_bytes": bundle.size_bytes,
        "adaptation_bytes": sum(
            part["size"] for part in bundle.manifest["parts"] if part["name"].startswith("taste_")
        ),
        "experts": adaptation.get("experts"),
        "provenance": bundle.manifest.get("provenance"),
    }
