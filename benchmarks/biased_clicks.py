"""Clicks with position bias: does learning from them still help, and what does correcting for the bias gain?

A person is shown the first `N_SHOWN` of a ranking and reads from the top: place k is examined with probability
theta_k = k ** -eta; of what is examined, the item that the person really chose next is clicked, and any other with
probability `NOISE`; the first click ends the list, and where there is none nothing is learned. That is the position-based
model (Craswell et al. 2008, WSDM) with one click a list. Every system shows its own lists to its own copy of the person, who
draws the same numbers:

    frozen     follows the clicks as history, and learns nothing
    naive      learns from them as they are: against the whole list that was ranked
    given      learns with theta (`runtime.examination`): against what was displayed, as far as it was seen
    estimated  the same with theta from the logs of other people: half of the people are the others of the other half, and
               their logs are those that `naive` wrote

The figure is the NDCG@10 of what the person really chose next, as displayed: a mean over events, over bundles, then over
people, with a paired bootstrap over people.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.engine import Engine
from ..runtime.examination import estimate_examination
from ..runtime.impressions import ImpressionLog
from ..runtime.item_ids import ItemId
from ..runtime.reranker import Reranker
from ..runtime.user import User
from .popularity import item_counts
from .ranking_metrics import Interval, ndcg, paired_bootstrap
from .replay import Replay, ReplayConfig, Stream, candidate_lists, drawn

ETAS = (0.0, 0.5, 1.0, 2.0)
N_SHOWN = 10
NOISE = 0.02
SYSTEMS = ("frozen", "naive", "given", "estimated")
PAIRS = (
    ("naive", "frozen"),
    ("given", "frozen"),
    ("estimated", "frozen"),
    ("given", "naive"),
    ("estimated", "naive"),
)

Values = NDArray[np.float64]


@dataclass(slots=True)
class ClickRun:
    """One bundle in front of everybody, with one strength of bias."""

    eta: float
    ndcg: dict[str, dict[int, float]] = field(default_factory=lambda: {name: {} for name in SYSTEMS})
    """By system and `Stream.user`: the mean over the person's events."""
    clicks: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SYSTEMS, 0))
    estimated: list[Values] = field(default_factory=list[Values])
    """theta of `estimated`, float64 (N_SHOWN,), of each half that had clicks to learn it from."""


def click_run(
    engine: Engine,
    replay: Replay,
    config: ReplayConfig,
    eta: float,
    progress: Callable[[int], object] = lambda done: None,
) -> ClickRun:
    """Everybody clicks; `progress` gets the number of people just done, each of them once for every system."""
    run, streams = ClickRun(eta), drawn(replay.streams, config)
    popularity = item_counts(replay.training, engine.n_items).astype(np.float64)
    theta = examined_chances(eta)
    plain = Reranker(engine, candidates=config.candidates)
    given = Reranker(engine, candidates=config.candidates, examination=theta.tolist())
    logs: list[ImpressionLog] = []

    def lists(stream: Stream) -> list[tuple[ItemId, list[ItemId]]]:
        rows = [
            [row, *candidates.tolist()] for row, candidates in candidate_lists(stream, popularity, config)
        ]
        return [(ids[0], ids[1:]) for ids in map(engine.item_ids.ids, rows)]

    def click(
        name: str, ranker: Reranker, stream: Stream, ranked: list[tuple[ItemId, list[ItemId]]]
    ) -> ImpressionLog:
        person = _Person(ranker, stream, learns=name != "frozen")
        values = person.clicks_through(ranked, theta, np.random.default_rng([config.seed, stream.user, 1]))
        run.ndcg[name][stream.user] = float(values.mean())
        run.clicks[name] += person.n_clicks
        progress(1)
        return person.user.log

    for stream in streams:
        ranked = lists(stream)
        click("frozen", plain, stream, ranked)
        logs.append(click("naive", plain, stream, ranked))
        click("given", given, stream, ranked)
    for half in range(2):
        others = logs[1 - half :: 2]
        ranker = plain  # where nothing was clicked, nothing can be estimated, and nothing is corrected
        if any(log.outcomes for log in others):
            run.estimated.append(estimate_examination(others, N_SHOWN))
            ranker = Reranker(engine, candidates=config.candidates, examination=run.estimated[-1].tolist())
        for stream in streams[half::2]:
            click("estimated", ranker, stream, lists(stream))
    return run


def examined_chances(eta: float) -> Values:
    """theta, float64 (N_SHOWN,).

    >>> examined_chances(1.0)[:4].tolist()
    [1.0, 0.5, 0.3333333333333333, 0.25]
    """
    return np.arange(1.0, N_SHOWN + 1.0) ** -eta


class _Person:
    """One copy of a person, in front of one system."""

    def __init__(self, ranker: Reranker, stream: Stream, *, learns: bool) -> None:
        self._item_ids = ranker.engine.item_ids
        self._learns = learns
        self.n_clicks = 0
        self.user: User = ranker.user()
        self.user.observe(*self._item_ids.ids(stream.history))

    def clicks_through(
        self, lists: Sequence[tuple[ItemId, list[ItemId]]], theta: Values, rng: np.random.Generator
    ) -> Values:
        """NDCG@10 of every event, float64 (events,); a list is the item that was really chosen, and the candidates."""
        ranks: list[int] = []
        for target, ids in lists:
            examined, noise = rng.random(N_SHOWN) < theta, rng.random(N_SHOWN) < NOISE
            ranking = self.user.rerank(ids, N_SHOWN)
            shown = ranking.item_ids()
            ranks.append(shown.index(target) + 1 if target in shown else N_SHOWN + 1)
            for n, item_id in enumerate(shown):
                if examined[n] and (item_id == target or noise[n]):
                    self._click(item_id, ranking.id)
                    break
        return ndcg(np.array(ranks), N_SHOWN)

    def _click(self, item_id: ItemId, ranking: int) -> None:
        self.n_clicks += 1
        if self._learns:
            self.user.feedback(item_id, ranking=ranking)
        else:
            self.user.observe(item_id)


def summarize_clicks(runs: Sequence[ClickRun], *, seed: int = 0) -> dict[str, Any]:
    """One strength of bias, one or more bundles, ready for JSON."""
    users = sorted({user for run in runs for user in run.ndcg["naive"]})
    by_user: dict[str, Values] = {}
    for name in SYSTEMS:
        found = [[run.ndcg[name][u] for run in runs if u in run.ndcg[name]] for u in users]
        by_user[name] = np.array([sum(values) / len(values) for values in found])
    estimated = [theta for run in runs for theta in run.estimated]
    return {
        "eta": runs[0].eta,
        "people": len(users),
        "runs": len(runs),
        "clicks": {name: sum(run.clicks[name] for run in runs) for name in SYSTEMS},
        "examination": {
            "given": examined_chances(runs[0].eta).round(4).tolist(),
            "estimated": np.mean(estimated, axis=0).round(4).tolist() if estimated else None,
        },
        "ndcg@10": {name: float(values.mean()) for name, values in by_user.items()},
        "gains": [
            {"system": a, "over": b, "percent": _percent(by_user[a], by_user[b], seed)} for a, b in PAIRS
        ],
    }


def click_lines(found: dict[str, Any]) -> list[str]:
    """For people."""
    lines = [
        f"clicks with examination 1/k^{found['eta']:g}: {found['people']} people, {found['clicks']['naive']:,} clicks"
    ]
    for gain in found["gains"]:
        value, low, high = (gain["percent"][name] for name in ("value", "low", "high"))
        percent = "n/a" if None in (value, low, high) else f"{value:+.1f}% [{low:+.1f}, {high:+.1f}]"
        lines.append(f"  {gain['system']:<9} over {gain['over']:<7} {percent}")
    return lines


def _percent(a: Values, b: Values, seed: int) -> dict[str, float | None]:
    ratio = paired_bootstrap(a, b, seed=seed).ratio
    return Interval(*(100.0 * (value - 1.0) for value in (ratio.value, ratio.low, ratio.high))).to_json()
