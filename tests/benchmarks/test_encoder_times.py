"""Times of encoders: every operation, kind of history and bundle has a row, the first bundle being what is compared with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pocketrec.benchmarks.encoder_times import main
from pocketrec.runtime.errors import InputError

DATA = Path(__file__).parents[1] / "runtime" / "data"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.txt"
    path.write_text(
        "".join(
            f"{user} {' '.join(str(1 + (user * 7 + n) % 50) for n in range(6))}\n" for user in range(1, 9)
        )
    )
    return path


def test_every_bundle_is_timed_beside_the_first(tmp_path: Path, data: Path, capsys) -> None:
    teacher, other, out = DATA / "tiny-range.pocket", tmp_path / "other.pocket", tmp_path / "times.json"
    shutil.copy(teacher, other)
    assert main([str(teacher), str(other), "--data", str(data), "--rounds", "20", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    rows = {(r["operation"], r["histories"], r["system"]): r for r in result["rows"]}
    assert set(rows) == {
        (operation, kind, name)
        for operation in ("encoder", "encode")
        for kind in ("of people", "longest")
        for name in ("tiny-range", "other")
    }
    for (_, kind, name), row in rows.items():
        assert row["n"] == 20
        assert row["median_length"] == (
            5 if kind == "of people" else 8
        )  # all but the last event; the encoder's longest
        assert (row["speedup"] is None) == (name == "tiny-range")
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(rows)
    assert all(line.endswith("x") == ("other" in line) for line in printed)


def test_bundles_of_two_teachers_are_not_compared(tmp_path: Path, data: Path) -> None:
    range_bundle = DATA / "tiny-range.pocket"
    with pytest.raises(InputError, match="two bundles of one name"):
        main([str(range_bundle), str(range_bundle), "--data", str(data)])
