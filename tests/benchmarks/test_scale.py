"""Lines and knees of known costs; the axes at tiny sizes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pocketrec.benchmarks import scale, store_users
from pocketrec.benchmarks.latency import Timing
from pocketrec.benchmarks.scale_line import find_knees, fit_line

TINY = Path(__file__).parents[1] / "runtime" / "data" / "tiny-range.pocket"
SIZES = scale.Sizes(catalogue=(40, 400, 4000), history=(2, 8, 16), candidates=(5, 20, 50, 500), users=(1, 20))
TIMING = Timing(n_rounds=3, n_warmup=1, min_rounds=1)


@pytest.mark.parametrize(("fixed", "per_unit"), [(3.0, 0.01), (0.0, 2.0), (5.0, 0.0), (1e-3, 1e-9)])
def test_a_line_is_found(fixed: float, per_unit: float) -> None:
    sizes = [10, 100, 1000, 10_000]
    costs = [fixed + per_unit * size for size in sizes]
    line = fit_line(sizes, costs)
    assert (line.fixed, line.per_unit) == pytest.approx((fixed, per_unit), abs=1e-9)
    assert line.deviations == pytest.approx([0.0] * 4, abs=1e-9)
    assert line.balanced_at == (pytest.approx(fixed / per_unit) if fixed and per_unit else None)
    assert find_knees(sizes, costs, line) == []


@pytest.mark.parametrize("costs", [[9.0, 5.0, 1.0], [1.0, 8.0, 640.0]])
def test_neither_part_of_a_line_is_negative(costs: list[float]) -> None:
    line = fit_line([1, 2, 3] if costs[0] > 1 else [1, 4, 16], costs)
    assert (line.fixed > 0) != (line.per_unit > 0)
    best = min(np.square(np.array(line.deviations)))
    assert best < 0.5


def test_a_knee_is_where_the_slope_changes() -> None:
    """Ten a unit until 100, one a unit from there: a cost that is cut off."""
    sizes = [10, 100, 1000, 10_000]
    costs = [100.0, 1000.0, 1900.0, 10_900.0]
    knees = find_knees(sizes, costs, fit_line(sizes, costs))
    assert [(knee.at, knee.before, knee.after) for knee in knees] == [(100, 10.0, 1.0)]


def test_what_is_not_told_apart_is_no_knee() -> None:
    sizes, costs = [10, 20, 50, 100], [1.0, 2.5, 1.0, 1.0]
    line = fit_line(sizes, costs)
    assert [knee.at for knee in find_knees(sizes, costs, line)] == [20]
    wide = [(0.5 * cost, 3.0) for cost in costs]
    assert find_knees(sizes, costs, line, wide) == []


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes take seconds to begin, and users to live: neither is needed to see the rest."""
    tasks = {"recommend": {"added_bytes": 7}, "rerank": {"added_bytes": 5}}
    monkeypatch.setattr(scale, "baseline_memory", lambda **_: 1)
    monkeypatch.setattr(scale, "measure_memory", lambda *_, **__: tasks)
    monkeypatch.setattr(scale, "_memory", lambda _, of: dict.fromkeys(of, 3))
    monkeypatch.setattr(store_users, "LIVED", 2)
    monkeypatch.setattr(store_users, "MEDIAN_EVENTS", 3)


@pytest.mark.parametrize("axis", scale.AXES)
def test_every_axis(axis: str, cheap: None) -> None:
    series = scale.measure_axis(axis, [str(TINY), str(TINY)], SIZES, TIMING)
    wanted = {"candidates": (5, 20, 50)}.get(axis, getattr(SIZES, axis))
    for one in series:
        assert tuple(point["size"] for point in one["points"]) == tuple(wanted)
        assert all(point["value"] > 0 for point in one["points"])
        assert one["quantity"] in ("ms", "bytes")
        assert len(one["deviations"]) == len(wanted)
    assert len({one["name"] for one in series}) == len(series) / (2 if axis == "history" else 1)


def test_the_bundle_grows_by_its_rows(cheap: None) -> None:
    """32 bytes of codes and 2 of a scale an item, in parts that begin at multiples of 64."""
    series = scale.measure_axis("catalogue", [str(TINY)], SIZES, TIMING)
    (bundle,) = [one for one in series if one["name"] == "the bundle"]
    assert bundle["per_unit"] == pytest.approx(34, rel=0.02)


def test_as_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheap: None) -> None:
    monkeypatch.setattr(scale, "Sizes", lambda: SIZES)
    argv = [
        str(TINY),
        "--axes",
        "candidates",
        "users",
        "--rounds",
        "2",
        "--json-dir",
        str(tmp_path / "scale"),
    ]
    assert scale.main(argv) == 0
    assert sorted(path.name for path in (tmp_path / "scale").iterdir()) == ["candidates.json", "users.json"]
    whole = json.loads((tmp_path / "scale" / "candidates.json").read_text())
    assert whole["results"]["axis"] == "candidates"
    assert whole["settings"]["bundles"] == ["tiny-range.pocket"]


def test_memory_is_of_a_process_of_its_own() -> None:
    (taken,) = scale._memory(str(TINY), {8: (8, 500)}).values()
    assert 1e5 < taken < 1e9


def test_an_axis_that_is_not_there() -> None:
    with pytest.raises(
        ValueError, match="axis: got 'width', expected one of catalogue, history, candidates, users"
    ):
        scale.measure_axis("width", [str(TINY)], SIZES, TIMING)
