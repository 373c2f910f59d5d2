"""What the options of a list cost and bring: `python -m pocketrec.benchmarks.list_options BUNDLE --data ... --items ...`.

On the streams of a replay, one user that learns from every choice recommends from the catalogue with each of the options,
at the same moments and from the same state; only the plain list is learned from. Of each option, means over events, then
users:

    ndcg@10    of the item that was chosen next; with a paired bootstrap over users of the ratio to the plain list
    diversity  1 - mean cosine of the listed items' vectors, from the catalogue's mean (intra-list distance)
    genres     different categories in the list
    miscalibration   KL(history || list) of the categories, smoothed as in Steck 2018 (`runtime.category_terms`)
    p50_us     the call, one thread

Categories are a column of the item table, several of an item with spaces between them, as RecBole's `.item` has them.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.atomic_file import write_atomically
from ..runtime.category_terms import LARGEST_KL, Calibration, CategoryShares
from ..runtime.engine import Engine
from ..runtime.item_ids import ItemId
from ..runtime.rank_options import Explore, Policy, RankOptions
from ..runtime.ranking import Ranking
from ..runtime.reranker import Reranker
from .interactions import describe_data, read_interactions
from .item_texts import read_item_texts
from .machine import describe_machine
from .progress import Track, untracked
from .ranking_metrics import ndcg, paired_bootstrap
from .replay import ReplayConfig, drawn
from .replay_bundles import ReplayOptions, cut, map_for_replay

K = 10
PLAIN = "plain"
MEASURES = ("ndcg@10", "diversity", "genres", "miscalibration")

Categories = Mapping[ItemId, tuple[str, ...]]
Values = NDArray[np.float64]


def standard_options(categories: Categories) -> dict[str, RankOptions]:
    """What is measured, by name; the first one is what the others are compared with."""
    found: dict[str, RankOptions] = {PLAIN: RankOptions()}
    for dial in (0.3, 0.5, 0.7):
        found[f"mmr {dial}"] = RankOptions(mmr=dial)
    for dial in (0.3, 0.5, 0.7):
        found[f"dpp {dial}"] = RankOptions(dpp=dial)
    for dial in (0.1, 0.3, 0.5):
        found[f"calibration {dial}"] = RankOptions(calibration=dial, categories=categories)
    found["2 of a category"] = RankOptions(max_per_category=2, categories=categories)
    policies: tuple[tuple[Policy, float], ...] = (
        ("epsilon", 0.1),
        ("softmax", 0.2),
        ("linucb", 0.2),
        ("linucb", 0.5),
        ("thompson", 0.1),
        ("thompson", 0.5),
    )
    for policy, strength in policies:
        found[f"{policy} {strength}"] = RankOptions(explore=Explore(policy=policy, strength=strength))
    return found


def list_options(
    bundle: Path,
    data: Path,
    items: Path,
    column: str,
    options: ReplayOptions,
    max_users: int,
    track: Track = untracked,
) -> dict[str, Any]:
    """Measure all of them on one bundle; ready for JSON."""
    interactions = read_interactions(data)
    ranker = Reranker(Engine.load(bundle))
    replay = cut(map_for_replay(interactions, ranker, options), options)
    texts = read_item_texts(items, text_column=column)
    ids = ranker.engine.item_ids.ids(range(ranker.engine.n_items))
    named = dict(zip(ids, texts.of(ids), strict=True))
    categories = {item_id: tuple(text.split()) for item_id, text in named.items() if text is not None}
    asked = standard_options(categories)
    config = ReplayConfig(
        candidates="catalogue", max_events=options.max_events, max_users=max_users, seed=options.seed
    )
    streams = drawn(replay.streams, config)
    by_user: dict[str, list[Values]] = {name: [] for name in asked}
    times_us: dict[str, list[float]] = {name: [] for name in asked}
    with track("list options", len(streams)) as advance:
        for stream in streams:
            user = ranker.user()
            user.observe(*ranker.engine.item_ids.ids(stream.history.tolist()))
            measured: dict[str, list[Values]] = {name: [] for name in asked}
            for (chosen,) in (
                ranker.engine.item_ids.ids([row]) for row in stream.events[: config.max_events].tolist()
            ):
                plain = Ranking()
                for name, rank_options in asked.items():
                    began = time.perf_counter_ns()
                    ranked = user.recommend(K, options=rank_options)
                    times_us[name].append((time.perf_counter_ns() - began) / 1e3)
                    measured[name].append(_measured(ranker, ranked, chosen, categories, user.history))
                    plain = ranked if name == PLAIN else plain
                user.feedback(chosen, ranking=plain)
            for name, rows in measured.items():
                by_user[name].append(np.nanmean(np.array(rows), axis=0))
            advance(1)
    return {
        "schema_version": 1,
        "command": options.command,
        "bundle": {"file": bundle.name, "fingerprint": ranker.engine.bundle.fingerprint},
        "data": describe_data(interactions),
        "protocol": replay.protocol,
        "users": len(streams),
        "events": len(times_us[PLAIN]),
        "seed": options.seed,
        "options": _summary(by_user, times_us),
        "machine": describe_machine(),
    }


def _measured(
    ranker: Reranker, ranked: Ranking, chosen: ItemId, categories: Categories, history: Sequence[ItemId]
) -> Values:
    """`MEASURES` of one list."""
    listed = ranked.item_ids()
    rank = listed.index(chosen) + 1 if chosen in listed else ranker.engine.n_items
    vectors = ranker.lookup(0, ranker.rows(listed)) - ranker.spaces[0].center
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    cosines = (vectors @ vectors.T)[np.triu_indices(len(listed), 1)]
    shares = CategoryShares(categories, listed, history)
    lacking = np.nan  # without a history whose items have categories
    if shares.of_history is not None:
        term = Calibration(shares, shares.of_history)
        for n in range(len(listed) - 1):
            term.place(n)
        lacking = -float(term.values()[-1]) * LARGEST_KL
    genres = len({name for item_id in listed for name in categories.get(item_id, ())})
    return np.array(
        [float(ndcg(np.array([rank]), K)[0]), 1.0 - float(cosines.mean()), float(genres), lacking]
    )


def _summary(
    by_user: Mapping[str, list[Values]], times_us: Mapping[str, list[float]]
) -> list[dict[str, Any]]:
    plain = np.array(by_user[PLAIN])
    found: list[dict[str, Any]] = []
    for name, rows in by_user.items():
        values = np.array(rows)
        described: dict[str, Any] = {"option": name}
        described |= dict(zip(MEASURES, np.nanmean(values, axis=0).tolist(), strict=True))
        described["p50_us"] = float(np.median(times_us[name]))
        if name != PLAIN:
            described["ndcg_ratio"] = paired_bootstrap(values[:, 0], plain[:, 0]).ratio.to_json()
        found.append(described)
    return found


def option_lines(result: dict[str, Any]) -> list[str]:
    """For people."""
    lines = [
        f"{result['users']} users, {result['events']} lists",
        "  option             ndcg@10   to plain [95%]          diversity  genres  miscalibration  p50",
    ]
    for row in result["options"]:
        change = _change(row.get("ndcg_ratio"))
        lines.append(
            f"  {row['option']:<17} {row['ndcg@10']:>8.4f}   {change:<22} {row['diversity']:>9.3f} {row['genres']:>8.2f} "
            f"{row['miscalibration']:>12.3f} {row['p50_us']:>8.0f} us"
        )
    return lines


def _change(ratio: dict[str, float | None] | None) -> str:
    """Percent, with the interval; nothing where there is none."""
    if ratio is None or any(value is None for value in ratio.values()):
        return ""
    value, low, high = (100 * ((ratio[name] or 0.0) - 1) for name in ("value", "low", "high"))
    return f"{value:+5.1f}% [{low:+.1f}, {high:+.1f}]"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m pocketrec.benchmarks.list_options",
        description="What the options of a list cost and bring.",
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--items", type=Path, required=True, help="a table with item ids and categories")
    parser.add_argument("--column", default="class", help="of the categories")
    parser.add_argument("--protocol", choices=["temporal", "last-share"], default="temporal")
    parser.add_argument("--quantile", type=float, default=0.9)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--max-users", type=int, default=200)
    parser.add_argument("--max-events", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    command = ["python", "-m", "pocketrec.benchmarks.list_options", *(sys.argv[1:] if argv is None else argv)]
    options = ReplayOptions(
        bundles=(args.bundle,),
        protocol=args.protocol,
        quantile=args.quantile,
        share=args.share,
        max_events=args.max_events,
        seed=args.seed,
        allow_unknown_items=True,
        command=shlex.join(command),
    )
    result = list_options(args.bundle, args.data, args.items, args.column, options, args.max_users)
    print("\n".join(option_lines(result)))
    if args.json is not None:
        write_atomically(args.json, [json.dumps(result, indent=1, allow_nan=False).encode()], overwrite=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
