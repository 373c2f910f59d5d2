"""What stands beside a run is refused where it is something else, and shown by the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pocketrec.benchmarks.report_beside import PEERS_FIELDS, check_beside, frontier_view, peers_view
from pocketrec.runtime.errors import InputError


@pytest.mark.parametrize("found", [[], {"contestants": []}, None])
def test_something_else_is_refused(found: Any):
    with pytest.raises(
        InputError, match=r"p\.json: without .*; expected what `pocketrec bench --peers` writes"
    ):
        check_beside(found, PEERS_FIELDS, "p.json", "pocketrec bench --peers")


def test_points_are_those_that_were_measured(peers: dict[str, Any]):
    view = peers_view(peers)
    assert view["operations"] == ["recommend"]
    assert [row["ndcg"] is None for row in view["rows"]] == [False, False, False, True]
    assert view["plot"].count("<circle") == 3


def test_the_front_is_by_size(frontier: dict[str, Any]):
    view = frontier_view(frontier)
    sizes = [trial["bytes"] for trial, _ in view["front"]]
    assert sizes == sorted(sizes)
    assert len(sizes) == 3
    assert view["plot"].count("<circle") == 4, "the trials that are beaten are drawn too"


def test_the_command_puts_them_on_the_page(
    cli_here: Callable[..., Any],
    make_results: Callable[..., dict[str, Any]],
    peers: dict[str, Any],
    frontier: dict[str, Any],
    tmp_path: Path,
):
    for name, content in (("run", make_results()), ("peers", peers), ("frontier", frontier)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    beside = ("--peers", tmp_path / "peers.json", "--frontier", tmp_path / "frontier.json")
    page = tmp_path / "page.html"
    done = cli_here("report", tmp_path / "run.json", *beside, "--html", page)
    assert done.exit_code == 0, done.stderr
    html = page.read_text()
    assert "Against other tools" in html
    assert "The search through recipes" in html
    done = cli_here("report", tmp_path / "run.json", *beside)
    assert (done.exit_code, "say where with --html" in done.stderr) == (2, True)
    done = cli_here("report", tmp_path / "run.json", "--peers", tmp_path / "run.json", "--html", page)
    assert (done.exit_code, "without contestants" in done.stderr) == (2, True)
