"""Energy: counters that wrap, machines that do not tell, and a figure known by construction."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocketrec.benchmarks.energy import EnergyMeter, find_meter, measure_energy
from pocketrec.benchmarks.latency_rows import Operation


def make_zone(root: Path, name: str, energy_uj: int, range_uj: int = 1_000_000) -> Path:
    zone = root / name
    zone.mkdir()
    (zone / "energy_uj").write_text(f"{energy_uj}\n")
    (zone / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return zone


def test_packages_are_added_and_their_parts_are_not(tmp_path: Path):
    zones = [make_zone(tmp_path, name, 0) for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0")]
    meter = find_meter(tmp_path)
    assert isinstance(meter, EnergyMeter)
    for zone in zones:
        (zone / "energy_uj").write_text("250000")
    assert meter.joules() == pytest.approx(0.5)
    assert meter.joules() == 0.0


def test_a_counter_that_wraps_goes_on(tmp_path: Path):
    zone = make_zone(tmp_path, "intel-rapl:0", 900_000)
    meter = find_meter(tmp_path)
    assert isinstance(meter, EnergyMeter)
    (zone / "energy_uj").write_text("100000")
    assert meter.joules() == pytest.approx(0.2)


def test_no_counters_is_one_line(tmp_path: Path):
    assert (
        find_meter(tmp_path / "missing")
        == f"energy is not measured: no RAPL counters in {tmp_path / 'missing'}"
    )


def test_counters_that_cannot_be_read_are_one_line(tmp_path: Path):
    zone = make_zone(tmp_path, "intel-rapl:0", 0)
    (zone / "energy_uj").unlink()
    reason = find_meter(tmp_path)
    assert isinstance(reason, str)
    assert "cannot be read" in reason
    assert "\n" not in reason


def test_energy_of_a_call_is_what_the_counter_says(tmp_path: Path):
    """A call of `hungry` takes 10 ms and 20 mJ, one of `frugal` 10 ms and 5 mJ; idling takes 1 W."""
    zone = make_zone(tmp_path, "intel-rapl:0", 0, range_uj=10**12)
    meter = find_meter(tmp_path)
    assert isinstance(meter, EnergyMeter)
    now, spent = [0.0], [0]

    def spend(seconds: float, microjoules: int) -> None:
        now[0] += seconds
        spent[0] += microjoules
        (zone / "energy_uj").write_text(str(spent[0]))

    def prepare(microjoules: int, n: int):
        return lambda: spend(0.01, microjoules)

    found = measure_energy(
        meter,
        [Operation("rerank", 100, prepare)],
        {"hungry": 20_000, "frugal": 5_000},
        threads=1,
        block_seconds=0.1,
        n_blocks=3,
        clock=lambda: now[0],
        sleep=lambda seconds: spend(seconds, round(seconds * 1e6)),
    )
    assert found["idle_watts"] == pytest.approx(1.0)
    by_system = {row["system"]: row for row in found["rows"]}
    assert by_system["hungry"]["millijoules"]["value"] == pytest.approx(20.0)
    assert by_system["frugal"]["millijoules"]["value"] == pytest.approx(5.0)
    assert by_system["hungry"]["watts"] == pytest.approx(2.0)
