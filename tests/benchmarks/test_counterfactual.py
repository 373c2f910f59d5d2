"""The policies know nothing they should not, and the command evaluates them on a log."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketrec.benchmarks import counterfactual
from pocketrec.benchmarks.bandit_policies import EXPLORATION, POLICIES
from pocketrec.benchmarks.counterfactual import evaluate
from pocketrec.benchmarks.open_bandit import BanditLog, read_items, read_logs
from pocketrec.runtime.errors import InputError

N_ITEMS, N_POSITIONS = 6, 3
ITEMS = np.eye(N_ITEMS, dtype=np.float32)


def make_log(n: int, seed: int, rates: np.ndarray | None = None, even: bool = True) -> BanditLog:
    """A log of a fashion store with six items; `rates` (A,) are their click rates."""
    rng = np.random.default_rng(seed)
    chances = np.full(N_ITEMS, 1 / N_ITEMS) if even else np.arange(1, N_ITEMS + 1) / 21
    actions = rng.choice(N_ITEMS, n, p=chances)
    rates = np.full(N_ITEMS, 0.1) if rates is None else rates
    return BanditLog(
        actions=actions,
        positions=rng.integers(0, N_POSITIONS, n),
        clicks=(rng.random(n) < rates[actions]).astype(np.float64),
        propensities=chances[actions],
        user_features=rng.integers(0, 3, (n, 4)),
        affinities=rng.poisson(0.1, (n, N_ITEMS)).astype(np.float64),
    )


@pytest.mark.parametrize("name", POLICIES)
class TestPolicies:
    def test_probabilities(self, name: str) -> None:
        probabilities = POLICIES[name](make_log(500, 0), make_log(300, 1, even=False), ITEMS)
        assert probabilities.shape == (500, N_ITEMS)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
        assert probabilities.min() >= (EXPLORATION / N_ITEMS - 1e-12 if name != "other log" else 0)

    def test_a_round_is_not_known_before_it_happens(self, name: str) -> None:
        """Whatever is shown and clicked from round 250 on, up to there the policy is the same."""
        log, other = make_log(500, 0), make_log(300, 1)
        changed, later = make_log(500, 9), np.arange(500) >= 250
        mixed = replace(
            log,
            actions=np.where(later, changed.actions, log.actions),
            clicks=np.where(later, 1 - log.clicks, log.clicks),
        )
        before, after = (POLICIES[name](which, other, ITEMS) for which in (log, mixed))
        np.testing.assert_array_equal(before[:251], after[:251])


@pytest.mark.parametrize("name", ["popularity", "click counts", "online softmax", "re-ranker"])
def test_what_learns_prefers_what_is_clicked(name: str) -> None:
    rates = np.array([0.6, 0.05, 0.05, 0.05, 0.05, 0.05])
    log, other = make_log(3000, 0, rates), make_log(3000, 1, rates)
    found = evaluate(log, other, ITEMS, n_resamples=100)
    assert POLICIES[name](log, other, ITEMS)[-1].argmax() == 0
    for estimator in ("ips", "snips", "dr"):
        over = found["policies"][name]["over_uniform"][estimator]
        assert over["low"] > 0, (name, estimator, over)


def test_logs_of_either_policy_agree() -> None:
    """An even log, and one that shows some items six times as often as others, tell the same of each policy."""
    rates = np.array([0.1, 0.2, 0.3, 0.1, 0.2, 0.3])
    even, uneven = make_log(6000, 0, rates), make_log(6000, 1, rates, even=False)
    found = evaluate(uneven, even, ITEMS, n_resamples=100)
    for estimator in ("ips", "snips", "dr"):
        estimated = found["policies"]["uniform"][estimator]
        assert estimated["low"] < rates.mean() < estimated["high"]
    assert found["logged"]["low"] > rates.mean()
    found = evaluate(even, uneven, ITEMS, n_resamples=100)
    estimated = found["policies"]["other log"]["snips"]
    assert estimated["low"] < (rates * np.arange(1, 7) / 21).sum() < estimated["high"]


def write_csv(folder: Path, name: str, log: BanditLog) -> None:
    columns = ["", "timestamp", "item_id", "position", "click", "propensity_score"]
    columns += [f"user_feature_{n}" for n in range(4)]
    columns += [f"user-item_affinity_{n}" for n in reversed(range(N_ITEMS))]  # any order
    lines = [",".join(columns)]
    for n in range(len(log)):
        fields = [n, f"2019-11-24 {n:08}", log.actions[n], log.positions[n] + 1, int(log.clicks[n])]
        fields += [log.propensities[n], *(f"hash{v}" for v in log.user_features[n]), *log.affinities[n][::-1]]
        lines.append(",".join(map(str, fields)))
    (folder / f"{name}.csv").write_text("\n".join(lines))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_csv(tmp_path, "random", make_log(300, 0))
    write_csv(tmp_path, "bts", make_log(200, 1, even=False))
    lines = [",item_id,item_feature_0,item_feature_1,item_feature_2,item_feature_3"]
    lines += [f"{n},{n},{n * 0.5},a{n % 2},b{n % 3},c" for n in range(N_ITEMS)]
    (tmp_path / "item_context.csv").write_text("\n".join(lines))
    return tmp_path


class TestFiles:
    def test_what_is_written_is_read(self, folder: Path) -> None:
        log, expected = read_logs(folder)["random"], make_log(300, 0)
        for name in ("actions", "positions", "clicks", "user_features", "affinities"):
            np.testing.assert_array_equal(getattr(log, name), getattr(expected, name))
        np.testing.assert_allclose(log.propensities, expected.propensities)
        items = read_items(folder)
        assert items.shape == (N_ITEMS, 1 + 2 + 3 + 1)
        np.testing.assert_allclose([items[:, 0].mean(), items[:, 0].std()], [0, 1], atol=1e-6)

    def test_the_command(self, folder: Path, cli_here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(counterfactual, "N_RESAMPLES", 20)
        path = folder / "out.json"
        done = cli_here("replay", "--counterfactual", folder, "--seed", "3", "--json", path)
        assert done.exit_code == 0, done.stderr
        written = json.loads(path.read_text())
        results = written["results"]
        assert set(results["random"]["policies"]) == {*POLICIES}
        assert (results["random"]["rounds"], results["bts"]["rounds"]) == (300, 200)
        assert written["settings"] == {"data": folder.name, "resamples": 20, "seed": 3}
        assert {"created", "command", "machine"} <= {*written}
        lines = done.stdout.splitlines()
        assert lines[0].startswith("log random: 300 rounds, ")
        assert sum(line.startswith("  re-ranker") for line in lines) == 2
        alone = cli_here("replay", "--counterfactual", folder, "--seed", "3", "--json", "-")
        assert json.loads(alone.stdout)["results"] == results

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--counterfactual", "nowhere"), "nowhere: no such folder"),
            (("--counterfactual", ".", "--data", "x.inter"), "--data beside --counterfactual"),
            (("x.pocket", "--counterfactual", "."), "a bundle beside --counterfactual"),
            (("--data", "x.inter"), "expected a bundle; or --counterfactual DIR"),
            (("x.pocket",), "expected --data FILE"),
        ],
    )
    def test_what_does_not_go_together(self, cli_here: Any, arguments: tuple[str, ...], message: str) -> None:
        done = cli_here("replay", *arguments)
        assert done.exit_code == 2
        assert message in done.stderr
        assert done.stderr.count("\n") == 1

    @pytest.mark.parametrize(
        ("name", "old", "new", "message"),
        [
            ("random.csv", ",0.16666666666666666,", ",0.0,", "a propensity outside"),
            ("random.csv", ",0.16666666666666666,", ",1.5,", "a propensity outside"),
            ("random.csv", ",0.16666666666666666,", ",,", "'propensity_score' has a row that is empty"),
            (
                "random.csv",
                ",0.16666666666666666,",
                ",often,",
                "'propensity_score' has a row that is empty or no",
            ),
            ("random.csv", "hash0", "", "has a row that is empty"),
            ("bts.csv", ",click,", ",clicked,", "no column 'click'"),
            ("item_context.csv", "5,5,2.5,a1,b2,c", "", "item_context.csv has 5"),
            ("item_context.csv", "2,2,1.0,", "2,7,1.0,", "item_id is not 0, 1, ..."),
        ],
    )
    def test_logs_that_are_none(
        self, folder: Path, cli_here: Any, name: str, old: str, new: str, message: str
    ) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))
        done = cli_here("replay", "--counterfactual", folder, "--json", folder / "out.json")
        assert done.exit_code == 2, done.stderr
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
        assert not (folder / "out.json").exists()

    def test_files_that_are_none(self, folder: Path) -> None:
        text = (folder / "bts.csv").read_text()
        (folder / "bts.csv").write_text(text.replace("propensity_score", "chance"))
        with pytest.raises(InputError, match=r"bts\.csv: no column 'propensity_score'"):
            read_logs(folder)
        (folder / "bts.csv").unlink()
        with pytest.raises(InputError, match=r"bts\.csv: no such file"):
            read_logs(folder)


@pytest.mark.shared
def test_the_real_logs(shared: Path) -> None:
    """Each log tells of the other's policy what that one earned, within the intervals."""
    folder = shared / "data" / "open-bandit-men"
    logs, items = read_logs(folder), read_items(folder)
    assert {name: (len(log), int(log.clicks.sum())) for name, log in logs.items()} == {
        "random": (10_000, 46),
        "bts": (10_000, 69),
    }
    assert items.shape == (34, 28)
    found = evaluate(logs["random"], logs["bts"], items, n_resamples=100)
    interval = found["policies"]["other log"]["snips"]
    assert interval["low"] < 0.0069 < interval["high"]
    assert found["policies"]["uniform"]["ips"]["value"] == pytest.approx(0.0046)
