"""The study of an encoder's forms on a tiny teacher: a row for each, and learned rows beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pocketrec.compress.encoder_study import FORMS, main
from pocketrec.runtime.errors import InputError


def test_every_form_has_a_row(tiny_road, tmp_path: Path, capsys) -> None:
    out = tmp_path / "encoder.json"
    call = [str(tiny_road.checkpoint), "--data", str(tiny_road.data), "--json", str(out)]
    assert main([*call, "--users", "40", "--epochs", "1"]) == 0
    result = json.loads(out.read_text())
    *forms, afterwards, inside = result["rows"]
    assert [row["form"] for row in forms] == list(FORMS)
    assert forms[0]["kept"]["value"] == 1
    assert all(row["encode_us"] > 0 and row["longest_us"] > 0 for row in forms)
    assert [row["learned"] for row in (afterwards, inside)] == ["rounded afterwards", "rounded in the loop"]
    assert result["users"] == 40
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(result["rows"])
    with pytest.raises(InputError, match="--epochs: -2, expected at least 0"):
        main([*call, "--epochs", "-2"])
