"""Bundles are verified before they have a name, the table is in them once, and publishing leaves no half file."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from pocketrec.export import bundle_writer
from pocketrec.export.bundle_writer import export_bundle, publish, verify_bundle
from pocketrec.runtime.bundle import Bundle
from pocketrec.runtime.engine import Engine
from pocketrec.runtime.errors import GateError
from pocketrec.runtime.item_ids import ItemIds
from pocketrec.runtime.item_table import ItemTable, QuantizedRows

from .conftest import mean_graph, random_table


def listing(folder: Path) -> dict[str, bytes]:
    """Every file, hidden ones too."""
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*"))}


def test_what_is_written_is_what_was_given(tmp_path: Path, make_content, histories) -> None:
    path = tmp_path / "mean.pocket"
    table = random_table(60, 24, 3)
    content = make_content(table, manifest={"recipe": None, "metrics": {"ndcg@10": 0.5}})
    size_bytes = export_bundle(path, content, histories)
    assert size_bytes == path.stat().st_size
    assert os.listdir(tmp_path) == ["mean.pocket"]
    engine = Engine.load(path)
    manifest = {key: value for key, value in engine.manifest.items() if key != "parts"}
    assert manifest == {
        "format_version": 1,
        "name": "mean",
        "family": "sequence",
        "max_length": 5,
        "items": {"count": 60, "ids": content.item_ids.describe()},
        "item_table": {**table.describe(), "block": 32},
        "encoder": {"weights": "float32", "products": "float32"},
        "recipe": None,
        "metrics": {"ndcg@10": 0.5},
    }
    np.testing.assert_array_equal(engine.prior(), np.arange(24, dtype=np.float32))
    rows = np.array([[3, 9, 20]])
    np.testing.assert_allclose(engine.encode(rows), table.lookup(rows).mean(1), atol=1e-6)


def test_the_bundles_own_manifest_wins(tmp_path: Path, make_content, histories) -> None:
    path = tmp_path / "x.pocket"
    export_bundle(path, make_content(random_table(60, 16, 4), manifest={"name": "mine"}), histories)
    assert Bundle.open(path).manifest["name"] == "mine"


@pytest.mark.parametrize("bits", [2, 3, 4, 8, None])
def test_the_table_is_stored_once(tmp_path: Path, make_content, histories, bits: int | None) -> None:
    """It is looked up and scored from the same bytes. The rest is graphs, manifest, prior and alignment: under 4 kB."""
    table = random_table(4000, 64, bits)
    size_bytes = export_bundle(tmp_path / "x.pocket", make_content(table), histories)
    expected = 4000 * 64 * 4 if bits is None else 4000 * (64 * bits // 8 + 2)
    assert table.size_bytes == expected
    assert expected < size_bytes < expected + 4000


def test_consecutive_ids_cost_nothing_and_strings_are_kept(tmp_path: Path, make_content, histories) -> None:
    table = random_table(60, 16, 4)
    plain = export_bundle(tmp_path / "range.pocket", make_content(table), histories)
    assert "item_ids" not in Bundle.open(tmp_path / "range.pocket")
    named = [f"artikel-{n:03} ünïcode" for n in range(60)]
    content = make_content(table, item_ids=ItemIds.from_sequence(named))
    size_bytes = export_bundle(tmp_path / "text.pocket", content, histories)
    assert plain < size_bytes
    assert Engine.load(tmp_path / "text.pocket").item_ids.ids(range(60)) == named


def test_what_verifying_finds(tmp_path: Path, make_content, histories) -> None:
    for name, bits in (("float", None), ("rows", 3)):
        content = make_content(random_table(60, 24, bits))
        path = tmp_path / f"{name}.pocket"
        export_bundle(path, content, histories)
        found = verify_bundle(path, content, histories)
        assert found["vector_error"] < 1e-6  # a mean of five
        assert found["top_10_agreement"] > 0.9
        assert found["score_error"] < (0.1 if bits is None else 1.0)


def float_scorer(table: ItemTable, alpha: float) -> onnx.ModelProto:
    assert not isinstance(table, QuantizedRows)
    good = bundle_writer_scorer(table)
    (gemm,) = good.graph.node
    gemm.attribute.append(helper.make_attribute("alpha", alpha))
    return good


bundle_writer_scorer = bundle_writer.scorer_graph


def not_a_number(width: int) -> onnx.ModelProto:
    """The mean, divided by zero twice over."""
    model = mean_graph(width)
    zero = helper.make_node("Sub", ["history", "history"], ["zeros"])
    model.graph.node[0].input[0] = "nans"
    model.graph.node.insert(0, helper.make_node("Div", ["zeros", "zeros"], ["nans"]))
    model.graph.node.insert(0, zero)
    return model


@pytest.mark.parametrize(
    ("changes", "bits", "message"),
    [
        ({"encoder_graph": mean_graph(24, 1.001)}, 3, r"mean: the exported encoder differs from torch by \d\.\de-0\d, at most 1e-04 is rounding"),
        ({"encoder_graph": not_a_number(24)}, 3, r"mean: the exported encoder differs from torch by nan, at most 1e-04"),
        ({"encoder_graph": mean_graph(24, -1.0), "encoder_form": "int8"}, 3, r"mean: the bundle finds 0% of torch's top 10 again, expected at least 70%; try a recipe with more bits"),
        ({"encoder_graph": not_a_number(24), "encoder_form": "int8"}, 3, r"mean: the bundle finds \d+% of torch's top 10"),
        ({"scorer": 1.01}, None, r"mean: the catalogue's scores differ from the candidates' by \d+\.\d times what rounding explains"),
        ({"scorer": -1.0}, None, r"mean: the bundle finds 0% of torch's top 10"),
    ],
    ids=["off by a thousandth", "not a number", "wrong way", "not a number in int8", "scores", "scores the wrong way"],
)  # fmt: skip
def test_a_bundle_that_is_wrong_is_refused(
    tmp_path: Path, make_content, histories, monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any], bits: int | None, message: str,
) -> None:  # fmt: skip
    changes = dict(changes)
    if (alpha := changes.pop("scorer", None)) is not None:
        monkeypatch.setattr(bundle_writer, "scorer_graph", lambda table: float_scorer(table, alpha))
    content = make_content(random_table(60, 24, bits), **changes)
    path = tmp_path / "mean.pocket"
    with pytest.raises(GateError, match=message):
        export_bundle(path, content, histories)
    assert listing(tmp_path) == {}
    path.write_bytes(b"an older bundle")
    with pytest.raises(GateError, match=message):
        export_bundle(path, content, histories, overwrite=True)
    assert listing(tmp_path) == {"mean.pocket": b"an older bundle"}


def test_without_histories_nothing_is_verified_so_nothing_is_written(tmp_path: Path, make_content) -> None:
    with pytest.raises(ValueError, match="mean: no histories to verify the bundle on; give at least one"):
        export_bundle(tmp_path / "x.pocket", make_content(random_table(60, 16, 4)), [])
    assert listing(tmp_path) == {}


def test_an_existing_file_is_replaced_only_when_told(tmp_path: Path, make_content, histories) -> None:
    path = tmp_path / "x.pocket"
    path.write_bytes(b"old")
    content = make_content(random_table(60, 16, 4))
    with pytest.raises(FileExistsError) as refused:
        export_bundle(path, content, histories)
    assert refused.value.filename2 == str(path) or refused.value.filename2 == path
    assert listing(tmp_path) == {"x.pocket": b"old"}
    export_bundle(path, content, histories, overwrite=True)
    assert Engine.load(path).n_items == 60


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["write_bundle", "verify_bundle", "publish"])
def test_whatever_goes_wrong_leaves_the_folder_as_it_was(
    tmp_path: Path, make_content, histories, monkeypatch: pytest.MonkeyPatch, where: str, error: BaseException
) -> None:
    def fails(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(bundle_writer, where, fails)
    path = tmp_path / "x.pocket"
    path.write_bytes(b"old")
    with pytest.raises(type(error)):
        export_bundle(path, make_content(random_table(60, 16, 4)), histories, overwrite=True)
    assert listing(tmp_path) == {"x.pocket": b"old"}


def test_long_names(tmp_path: Path, make_content, histories) -> None:
    path = tmp_path / f"{'n' * 240}.pocket"  # a file system takes 255 bytes
    export_bundle(path, make_content(random_table(60, 16, 4)), histories)
    assert path.is_file()


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    (tmp_path / "drafts").mkdir()
    path = tmp_path / "drafts" / "draft"
    path.write_bytes(b"new")
    return path


def test_publish(tmp_path: Path, draft: Path) -> None:
    target = tmp_path / "x.pocket"
    publish(draft, target)
    assert target.read_bytes() == b"new"
    assert not draft.exists()


@pytest.mark.parametrize("elsewhere", [False, True])
def test_publish_over_an_existing_file(
    tmp_path: Path, draft: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    target = tmp_path / "x.pocket"
    target.write_bytes(b"old")
    if elsewhere:
        put_in_another_file_system(monkeypatch, draft)
    with pytest.raises(FileExistsError):
        publish(draft, target)
    assert target.read_bytes() == b"old"
    assert draft.read_bytes() == b"new"
    publish(draft, target, overwrite=True)
    assert target.read_bytes() == b"new"
    assert not draft.exists()


def test_publish_into_another_file_system(
    tmp_path: Path, draft: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_another_file_system(monkeypatch, draft)
    publish(draft, tmp_path / "x.pocket")
    assert (tmp_path / "x.pocket").read_bytes() == b"new"
    assert sorted(os.listdir(tmp_path)) == ["drafts", "x.pocket"]
    assert not draft.exists()


def test_publish_into_a_folder_that_is_not_there(tmp_path: Path, draft: Path) -> None:
    for overwrite in (False, True):
        with pytest.raises(FileNotFoundError):
            publish(draft, tmp_path / "no" / "x.pocket", overwrite=overwrite)
    assert draft.read_bytes() == b"new"


def put_in_another_file_system(monkeypatch: pytest.MonkeyPatch, draft: Path) -> None:
    """Neither a link nor a rename leads out of the one that the draft lies in."""
    real = {name: getattr(os, name) for name in ("link", "replace")}

    def refusing(name: str) -> Any:
        def refuses(source: Any, target: Any) -> None:
            if Path(source) == draft:
                raise OSError(errno.EXDEV, "Invalid cross-device link", str(source), None, str(target))
            real[name](source, target)

        return refuses

    for name in real:
        monkeypatch.setattr(os, name, refusing(name))
