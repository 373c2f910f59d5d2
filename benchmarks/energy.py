"""Energy of calls, from the processor's own counters (Intel's RAPL, which AMD has too), where the system lets us read them.

The counters are of a whole package, whoever uses it: a figure is what all of the machine spent while the calls ran, and
`idle_watts`, of the moment before, says how much it spends anyway. Systems take turns in blocks of at least `BLOCK_SECONDS`,
because the counter moves in steps of about a millisecond; a figure is the mean over blocks, with a bootstrap interval.

Source: the kernel's Documentation/power/powercap/powercap.rst.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .latency_rows import Operation
from .ranking_metrics import bootstrap_mean

POWERCAP = Path("/sys/class/powercap")
BLOCK_SECONDS = 0.25
BLOCKS = 12


@dataclass(frozen=True, slots=True)
class Counter:
    """One package's energy, in microjoules, which starts again at zero beyond its range."""

    path: Path
    range_uj: int

    def read(self) -> int:
        """Raises `OSError` where it may not be read."""
        return int((self.path / "energy_uj").read_text())


class EnergyMeter:
    """All packages of the machine."""

    def __init__(self, counters: Sequence[Counter]) -> None:
        self._counters = counters
        self._before = [counter.read() for counter in counters]

    def joules(self) -> float:
        """Spent since the meter was made or last asked."""
        now = [counter.read() for counter in self._counters]
        spent = sum(
            (after - before) % counter.range_uj
            for counter, before, after in zip(self._counters, self._before, now, strict=True)
        )
        self._before = now
        return spent / 1e6


def find_meter(root: Path = POWERCAP) -> EnergyMeter | str:
    """The meter of this machine, or why there is none, in one line."""
    zones = [
        zone for zone in sorted(root.glob("*-rapl:*")) if zone.name.count(":") == 1
    ]  # packages, not parts
    if not zones:
        return f"energy is not measured: no RAPL counters in {root}"
    try:
        return EnergyMeter([Counter(zone, int((zone / "max_energy_range_uj").read_text())) for zone in zones])
    except (OSError, ValueError) as error:
        return f"energy is not measured: {zones[0]} cannot be read ({error}); root may read it"


def measure_energy(
    meter: EnergyMeter,
    operations: Sequence[Operation],
    systems: Mapping[str, Any],
    *,
    threads: int,
    seed: int = 0,
    block_seconds: float = BLOCK_SECONDS,
    n_blocks: int = BLOCKS,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """`{"idle_watts", "rows"}`; a row has the millijoules of one call of an operation by a system, as an interval.

    The time and energy of making a call's questions count with it, for all systems alike.
    """
    meter.joules()
    began = clock()
    sleep(block_seconds * 4)
    idle_watts = meter.joules() / (clock() - began)
    rows: list[dict[str, Any]] = []
    for operation in operations:
        spent: dict[str, list[float]] = {name: [] for name in systems}
        watts: dict[str, list[float]] = {name: [] for name in systems}
        for _ in range(n_blocks):
            for name, system in systems.items():
                meter.joules()
                began, calls = clock(), 0
                while (took := clock() - began) < block_seconds:
                    operation.prepare(system, calls)()
                    calls += 1
                joules = meter.joules()
                spent[name].append(1e3 * joules / calls)
                watts[name].append(joules / took)
        rows += [
            {
                "operation": operation.name,
                "size": operation.size,
                "threads": threads,
                "system": name,
                "millijoules": bootstrap_mean(spent[name], seed=seed).to_json(),
                "watts": float(np.mean(watts[name])),
            }
            for name in systems
        ]
    return {"idle_watts": idle_watts, "rows": rows}
