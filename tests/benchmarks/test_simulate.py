"""Simulations: people who click what is seen, and people who become others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pocketrec.benchmarks import biased_clicks, simulate, swapped_tastes
from pocketrec.benchmarks.biased_clicks import (
    N_SHOWN,
    PAIRS,
    SYSTEMS,
    click_run,
    examined_chances,
    summarize_clicks,
)
from pocketrec.benchmarks.replay import (
    Replay,
    ReplayConfig,
    Start,
    Traces,
    candidate_lists,
    replay_last_share,
    trace,
)
from pocketrec.benchmarks.swapped_tastes import RATIOS, Swap, summarize_swaps, swap_lines, swapped_ranks
from pocketrec.runtime import Engine, Reranker

TINY = Path(__file__).parent.parent / "runtime" / "data" / "tiny-taste.pocket"
N_ITEMS = 50
CONFIG = ReplayConfig(n_negatives=20, max_events=12)
SWAP = Swap(before=6, edges=(1, 3, 6), partners=2)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load(TINY)


@pytest.fixture(scope="module")
def sequences(engine: Engine) -> list[np.ndarray]:
    """The one half of the catalogue or the other."""
    halves = np.argsort(engine.table.lookup(np.arange(N_ITEMS))[:, 0]).reshape(2, 25)
    rng = np.random.default_rng(0)
    return [rng.permutation(halves[user % 2])[:18] for user in range(12)]


@pytest.fixture(scope="module")
def replay(sequences: list[np.ndarray]) -> Replay:
    return replay_last_share(sequences, share=0.6)


@pytest.fixture(scope="module")
def long(sequences: list[np.ndarray]) -> Replay:
    return replay_last_share(sequences, share=0.9)


class TestClicks:
    def test_the_stronger_the_bias_the_fewer_clicks(self, engine: Engine, replay: Replay) -> None:
        weak, strong = (click_run(engine, replay, CONFIG, eta) for eta in (0.0, 3.0))
        for name in SYSTEMS:
            assert weak.clicks[name] > 1.5 * strong.clicks[name] > 0, name
            assert len(weak.ndcg[name]) == 12

    def test_the_same_twice(self, engine: Engine, replay: Replay) -> None:
        one, two = (click_run(engine, replay, CONFIG, 1.0) for _ in range(2))
        assert summarize_clicks([one]) == summarize_clicks([two])

    def test_a_correction_is_made(self, engine: Engine, replay: Replay) -> None:
        """What is displayed is known to the learner: lists come from `rerank`, which logs them."""
        run = click_run(engine, replay, CONFIG, 1.0)
        assert run.ndcg["given"] != run.ndcg["naive"]
        assert run.ndcg["estimated"] != run.ndcg["naive"]

    def test_the_estimate_falls_as_the_truth_does(self, engine: Engine, sequences: list[np.ndarray]) -> None:
        many = Replay(
            [s for _ in range(4) for s in replay_last_share(sequences, share=0.6).streams], sequences, ""
        )
        found = summarize_clicks([click_run(engine, many, CONFIG, 2.0)])["examination"]
        assert found["given"] == examined_chances(2.0).round(4).tolist()
        estimated = np.array(found["estimated"])
        assert estimated[0] == 1.0
        assert estimated[1:].max() < 0.6

    def test_where_nobody_clicks_nothing_is_estimated_and_nothing_learned(
        self, engine: Engine, replay: Replay, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(biased_clicks, "examined_chances", lambda _eta: np.zeros(N_SHOWN))
        run = click_run(engine, replay, CONFIG, 2.0)
        assert run.estimated == []
        assert set(run.clicks.values()) == {0}
        assert run.ndcg["frozen"] == run.ndcg["naive"] == run.ndcg["given"] == run.ndcg["estimated"]


class TestSwaps:
    def test_spans_and_figures(self, engine: Engine, long: Replay) -> None:
        ranks = swapped_ranks(Reranker(engine), long, CONFIG, SWAP)
        found = summarize_swaps([ranks, ranks], SWAP)
        assert found is not None
        assert [(p["first"], p["last"]) for p in found["spans"]] == [(1, 2), (3, 5)]
        assert (found["people"], found["runs"]) == (len(ranks), 2)
        assert found["swaps"] == 2 * sum(len(values) for values in ranks.values()) > 2 * len(ranks)
        json.dumps(found, allow_nan=False)
        lines = swap_lines(found)
        assert lines[0].startswith(f"tastes swapped after 6 events: {len(ranks)} people")
        assert len(lines) == 4

    def test_what_the_copies_know(
        self, engine: Engine, long: Replay, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Steady knows the own first events, swapped another's, new none; what either chose is no candidate or event later."""
        ids, checked = engine.item_ids.ids, 0

        def spied(systems: dict[str, Start], replay: Replay, n_items: int, config: ReplayConfig) -> Traces:
            nonlocal checked
            (stream,) = replay.streams
            own = next(s.events for s in long.streams if s.user == stream.user)
            copies = {name: start(stream) for name, start in systems.items()}
            assert copies["steady"].user.history == ids(own[:6])
            assert copies["new"].user.history == []
            other = engine.item_ids.rows(copies["swapped"].user.history)
            assert other.tolist() in [s.events[:6].tolist() for s in long.streams if s.user != stream.user]
            assert stream.history.tolist() == sorted({*own[:6].tolist(), *other.tolist()})
            assert stream.events.tolist() == [row for row in own[6:].tolist() if row not in other][:5]
            for target, candidates in candidate_lists(stream, np.ones(n_items), config):
                assert not np.isin(np.setdiff1d(candidates, target), [*own[:6], *other]).any()
            checked += 1
            return trace(systems, replay, n_items, config)

        monkeypatch.setattr(swapped_tastes, "trace", spied)
        ranks = swapped_ranks(Reranker(engine), long, CONFIG, SWAP)
        assert checked == sum(len(values) for values in ranks.values()) > 0

    def test_steady_is_as_if_nothing_was_saved_between(self, engine: Engine, long: Replay) -> None:
        """Swapped with a person who did the same before, nothing changes: the copies start alike."""
        twins = Replay([long.streams[0], long.streams[0]], long.training, "")
        later = Swap(before=2, edges=(1, 4), partners=1)
        (values,) = swapped_ranks(Reranker(engine), twins, CONFIG, later).values()
        steady, swapped = values[0][:2]
        np.testing.assert_array_equal(steady, swapped)

    def test_recovered_within(self) -> None:
        """Three spans: .5, .96, .97 of the steady state; five events each."""
        steady = np.ones(15)
        swapped = np.repeat([0.5, 0.96, 0.97], 5)
        swap = Swap(before=1, edges=(1, 6, 11, 16), partners=1)
        run = {user: np.stack([steady, swapped, steady, steady, steady])[None] for user in range(3)}
        found = summarize_swaps([run], swap)
        assert found is not None
        assert found["recovered_within"] == 5
        assert [p["recovered"]["value"] for p in found["spans"]] == pytest.approx([0.5, 0.96, 0.97])
        assert {name for name in found["spans"][0] if name in RATIOS} == {*RATIOS}
        run = {user: values[:, [1, 0, 2, 3, 4]] for user, values in run.items()}
        backwards = {user: values[:, :, ::-1] for user, values in run.items()}
        assert summarize_swaps([backwards], swap)["recovered_within"] == 0  # never below
        lost = {user: np.stack([steady, swapped[::-1], steady, steady, steady])[None] for user in range(3)}
        assert summarize_swaps([lost], swap)["recovered_within"] is None
        assert "not back to 95%" in swap_lines(summarize_swaps([lost], swap))[0]

    def test_too_few_events(self, engine: Engine, long: Replay) -> None:
        swap = Swap(before=40, partners=1)
        assert summarize_swaps([swapped_ranks(Reranker(engine), long, CONFIG, swap)], swap) is None


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    lines = [f"{user} {' '.join(map(str, rng.permutation(50)[:12] + 1))}\n" for user in range(20)]
    (tmp_path / "data.txt").write_text("".join(lines))
    out = tmp_path / "simulated.json"
    arguments = [str(TINY), str(TINY), "--data", str(tmp_path / "data.txt"), "--protocol", "last-share"]
    assert simulate.main([*arguments, "--share", "0.3", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    printed = capsys.readouterr().out
    assert printed.startswith("tastes swapped: too few people")
    assert result["swapped_tastes"] is None
    assert [found["eta"] for found in result["biased_clicks"]["strengths"]] == [0.0, 0.5, 1.0, 2.0]
    for found in result["biased_clicks"]["strengths"]:
        assert (found["people"], found["runs"]) == (20, 2)
        assert [(g["system"], g["over"]) for g in found["gains"]] == [*PAIRS]
    assert printed.count(" over frozen") == 12
    assert len(result["bundles"]) == 2
    assert result["settings"]["partners"] == 4
