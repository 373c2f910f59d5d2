"""The speed of evaluation is measured on the road that `pocketrec bench` takes, and written with the machine."""

from __future__ import annotations

import json
from pathlib import Path

from pocketrec.cli.evaluation_speed import main, write_interactions


def test_a_small_run_writes_what_it_measured(tmp_path: Path):
    path = tmp_path / "speed.json"
    assert main(["--users", "20", "--items", "60", "--threads", "1", "--json", str(path)]) == 0
    written = json.loads(path.read_text())
    found = written["results"]
    assert (found["users"], found["items"]) == (20, 60)
    assert set(found["ranking_seconds"]) == {"float32", "int8", "popularity"}
    assert found["seconds"] >= sum(found["ranking_seconds"].values()) > 0
    assert written["command"] == "python -m pocketrec.cli.evaluation_speed"
    assert written["machine"]["cores"] >= 1


def test_logs_are_seeded_and_every_user_can_be_asked(tmp_path: Path):
    paths = [tmp_path / name for name in ("a.tsv", "b.tsv")]
    n_events = {write_interactions(path, 30, 100, seed=3) for path in paths}
    assert paths[0].read_text() == paths[1].read_text()
    rows = [line.split("\t") for line in paths[0].read_text().splitlines()[1:]]
    assert n_events == {len(rows)}
    users = [user for user, _, _ in rows]
    assert len(set(users)) == 30
    assert min(users.count(user) for user in set(users)) >= 3
