"""`pocketrec replay`: figures on the terminal and as JSON, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BUNDLES = Path(__file__).parent.parent / "runtime" / "data"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """40 users of ids 1..50, in the order of their lines, without times."""
    rng = np.random.default_rng(0)
    lines = [f"{user} {' '.join(map(str, rng.permutation(50)[:12] + 1))}\n" for user in range(40)]
    (tmp_path / "data.txt").write_text("".join(lines))
    return tmp_path / "data.txt"


def test_figures_and_json(cli_here: Any, data: Path, tmp_path: Path) -> None:
    bundles = [BUNDLES / "tiny-range.pocket", BUNDLES / "tiny-taste.pocket"]
    done = cli_here(
        "replay", *bundles[1:], "--data", data, "--protocol", "last-share", "--share", "30%",
        "--candidates", "popularity", "--negatives", "20", "--seeds", "2", "--json", tmp_path / "replay.json",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith(
        "replay: 40 users (0 new), 160 events, 2 runs, the last 30% of each user's events"
    )
    for baseline in ("live", "calibrated", "stale"):
        assert f"  adaptive over {baseline}" in done.stdout
    result = json.loads((tmp_path / "replay.json").read_text())
    assert result["settings"]["seeds"] == 2
    assert {gain["over"] for gain in result["gains"] if gain["system"] == "adaptive"} == {
        "live",
        "calibrated",
        "stale",
    }
    assert len(result["by_user"]["adaptive"]) == 40
    assert result["bundles"][0]["adaptation_bytes"] > 0
    assert {"machine", "created", "command", "data"} <= {*result}
    # seeds of candidates are runs, and so are bundles: one of each is another figure
    one = cli_here(
        "replay", *bundles, "--data", data, "--protocol", "leave-one-out", "--baseline", "live", "--json", "-"
    )
    assert one.exit_code == 2
    assert "other systems" in one.stderr


def test_one_baseline(cli_here: Any, data: Path) -> None:
    done = cli_here(
        "replay",
        BUNDLES / "tiny-range.pocket",
        "--data",
        data,
        "--protocol",
        "leave-one-out",
        "--baseline",
        "live",
    )
    assert done.exit_code == 0, done.stderr
    assert "adaptive over live" in done.stdout
    assert "adaptive over stale" not in done.stdout
    assert " 40 events, each user's last event" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "needs times"),
        (("--protocol", "last-share", "--share", "0"), "share=0.0"),
        (("--protocol", "last-share", "--json", "no/such/folder.json"), "no folder"),
    ],
)
def test_what_is_refused(cli_here: Any, data: Path, arguments: tuple[str, ...], text: str) -> None:
    done = cli_here("replay", BUNDLES / "tiny-range.pocket", "--data", data, *arguments)
    assert done.exit_code == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_items_that_a_bundle_lacks_do_not_move_the_cut(cli_here: Any, tmp_path: Path) -> None:
    """Ten events a user, at times 0 to 9; the last two items are unknown. The cut at 70% stays where it was."""
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    lines += [f"{user}\t{900 + n if n > 7 else user + n}\t{n}" for user in range(1, 21) for n in range(10)]
    data = tmp_path / "data.inter"
    data.write_text("\n".join([*lines, ""]))
    command = ("replay", BUNDLES / "tiny-range.pocket", "--data", data, "--quantile", "0.7")
    refused = cli_here(*command)
    assert refused.exit_code == 2
    done = cli_here(*command, "--allow-unknown-items", "--json", "-")
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["protocol"] == "events from time 7 on"
    assert result["events"] == 20  # of each user the event at 7; those at 8 and 9 are unknown
