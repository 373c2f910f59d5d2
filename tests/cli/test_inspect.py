"""`pocketrec inspect`: what it shows of a whole manifest, of a bare one, and of a hostile one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketrec.cli.inspect import describe
from pocketrec.runtime.bundle import Bundle, write_bundle

MANIFEST: dict[str, Any] = {
    "name": "sasrec-beauty",
    "family": "sequence",
    "model": {"architecture": "SASRec", "layers": 2, "heads": 1, "width": 64},
    "items": {"count": 12101, "ids": {"kind": "range", "first": 1}},
    "item_table": {"format": "int8_rows", "bits": 8, "width": 64},
    "encoder": {"weights": "int8"},
    "max_length": 50,
    "recipe": {"name": "default", "prune": {"keep_ratio": 0.5}},
    "steps": [
        {
            "name": "prune",
            "before": {"bytes": 3_512_000, "parameters": 878_000, "ndcg10": 0.0579},
            "after": {"bytes": 3_400_000, "parameters": 850_000, "ndcg10": 0.0571},
            "detail": {"heads": "2 -> 1"},
            "seconds": 3.21,
        },
        {
            "name": "quantize",
            "before": {"bytes": 3_400_000, "parameters": 850_000, "ndcg10": 0.0571},
            "after": {"bytes": 425_000, "parameters": 850_000, "ndcg10": None},
            "detail": {},
            "seconds": None,
        },
    ],
    "metrics": {"NDCG@10": 0.05754, "HR@10": 0.0951},
    "provenance": {"versions": {"torch": "2.13.0"}, "seed": 0},
}


@pytest.fixture
def bundle_path(tmp_path: Path) -> Path:
    path = tmp_path / "small.pocket"
    write_bundle(path, MANIFEST, {"item_table": np.zeros((100, 64), np.int8), "encoder": b"x" * 1600})
    return path


def test_shows_what_the_bundle_holds(cli, bundle_path: Path) -> None:
    result = cli("inspect", bundle_path)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    for expected in (
        "name sasrec-beauty",
        "architecture SASRec (sequence): layers 2, heads 1, width 64",
        "items 12,101, ids range (first 1)",
        "item table int8_rows, 8 bits, width 64",
        "encoder int8 weights",
        "history the last 50 items",
        "prune 3.51 MB -> 3.40 MB (1.03x smaller) 878,000 -> 850,000 (1.03x fewer) 0.0579 -> 0.0571 (98.6%) 3.2 s",
        "quantize 3.40 MB -> 425.0 kB (8.00x smaller) 850,000 -> 850,000 0.0571 -> - -",
        "NDCG@10 0.05754",
        "prune.keep_ratio 0.5",
        "versions.torch 2.13.0",
    ):
        assert expected in lines


def test_the_parts_add_up_to_the_file(cli, bundle_path: Path) -> None:
    size_bytes = bundle_path.stat().st_size
    rows = [line.split() for line in cli("inspect", bundle_path).stdout.splitlines()]
    assert ["item_table", "6,400", f"{6400 / size_bytes:.1%}"] in rows
    assert ["encoder", "1,600", f"{1600 / size_bytes:.1%}"] in rows
    parts = {part["name"]: part["size"] for part in Bundle.open(bundle_path).manifest["parts"]}
    rest = size_bytes - sum(parts.values())
    assert ["record", f"{parts['record']:,}", f"{parts['record'] / size_bytes:.1%}"] in rows
    assert ["manifest,", "alignment", f"{rest:,}", f"{rest / size_bytes:.1%}"] in rows
    assert ["total", f"{size_bytes:,}", "100.0%"] in rows


def test_json_is_the_manifest_and_the_sizes(cli, bundle_path: Path) -> None:
    content = json.loads(cli("inspect", bundle_path, "--json").stdout)
    assert content["size_bytes"] == bundle_path.stat().st_size
    assert content["file"] == str(bundle_path)
    assert {key: content["manifest"][key] for key in MANIFEST} == MANIFEST
    assert [part["name"] for part in content["manifest"]["parts"]] == ["item_table", "encoder", "record"]


def test_a_bare_manifest_is_shown_with_dashes(cli, tmp_path: Path) -> None:
    path = tmp_path / "bare.pocket"
    write_bundle(path, {}, {"a": b"1"})
    result = cli("inspect", path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "architecture  - (-)" in result.stdout
    assert "steps" not in result.stdout


@pytest.mark.parametrize("value", [None, 3, "text", [], [1], {}, {"count": None}, True])
@pytest.mark.parametrize("field", sorted(MANIFEST))
def test_no_shape_of_a_field_breaks_it(field: str, value: object) -> None:
    assert list(describe({**MANIFEST, "parts": [], field: value}, "x.pocket", 1000, "0" * 64))


@pytest.mark.parametrize("number", ["text", None, [1], {"a": 1}, True, 0, -1, 1e308])
@pytest.mark.parametrize("field", ["bytes", "parameters", "ndcg10"])
def test_no_figure_of_a_step_breaks_it(field: str, number: object) -> None:
    step = {"name": "x", "before": {field: number}, "after": {field: number}}
    assert list(describe({"steps": [step, {}, None], "parts": []}, "x.pocket", 1000, "0" * 64))


def test_text_of_the_manifest_cannot_steer_the_terminal(cli, tmp_path: Path) -> None:
    path = tmp_path / "hostile.pocket"
    evil = "\x1b[2J\rname"
    write_bundle(path, {"name": evil, "metrics": {evil: evil}, "model": {evil: evil}}, {evil: b"1"})
    result = cli("inspect", path)
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "\\x1b[2J" in result.stdout


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[:-1], "the bundle is truncated"),
        (lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), "edited or damaged"),
        (lambda raw: raw[:8] + b"\xff" + raw[9:], "upgrade pocketrec"),
        (lambda raw: b"", "not a pocketrec bundle"),
        (lambda raw: b"user item\n1 2\n" * 10, "not a pocketrec bundle"),
    ],
)
def test_a_damaged_bundle_is_refused_by_name(cli, bundle_path: Path, damage, message: str) -> None:
    bundle_path.write_bytes(damage(bundle_path.read_bytes()))
    result = cli("inspect", bundle_path)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"pocketrec: error: {bundle_path}: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_folder_and_a_missing_file(cli, tmp_path: Path) -> None:
    assert (
        cli("inspect", tmp_path).stderr == f"pocketrec: error: {tmp_path}: is a directory, expected a file\n"
    )
    missing = tmp_path / "no.pocket"
    result = cli("inspect", missing)
    assert (result.exit_code, result.stderr) == (
        2,
        f"pocketrec: error: {missing}: no such file or directory\n",
    )


def test_inspect_works_in_a_base_install(cli, bundle_path: Path) -> None:
    from pocketrec.cli.main import COMPRESS_MODULES

    assert cli("inspect", bundle_path, without=COMPRESS_MODULES).exit_code == 0


def test_a_pointwise_bundle_shows_its_fields(cli_here, repository: Path) -> None:
    result = cli_here("inspect", repository / "tests" / "runtime" / "data" / "tiny-deepfm.pocket")
    assert result.exit_code == 0
    shown = [" ".join(line.split()) for line in result.stdout.splitlines()]
    for line in (
        "user fields user_id, age",
        "label click >= 4",
        "tables 4 of 29 rows, rows, 3 bits, width 7",
    ):
        assert line in shown
    assert "pocketrec.runtime.pointwise.PointwiseRanker" in result.stdout


def test_shows_the_tiers_of_a_table() -> None:
    head = {"count": 1210, "format": "rows", "bits": 4, "width": 64}
    tail = {
        "count": 10891,
        "format": "codebooks",
        "codebooks": 8,
        "entries": 256,
        "entry_bits": 4,
        "width": 64,
    }
    table = {"format": "tiers", "width": 64, "tiers": [head, tail]}
    shown = describe({**MANIFEST, "parts": [], "item_table": table}, "x.pocket", 1000, "0" * 64)
    lines = [" ".join(line.split()) for line in shown]
    assert "item table tiers, by how often items occur, width 64" in lines
    assert "tier 1 1,210 items, rows, 4 bits, width 64" in lines
    assert "tier 2 10,891 items, codebooks, 8 of 256 entries, width 64" in lines
