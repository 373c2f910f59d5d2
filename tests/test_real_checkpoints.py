"""The road on a real checkpoint: nothing here is tiny, so there is one run of it, of half a minute."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pocketrec.runtime.bundle import Bundle
from pocketrec.runtime.engine import Engine

WEIGHTS_BYTES = 3_311_616  # of ICLRec's SASRec on Beauty, float32


@pytest.mark.shared
def test_rounding_alone_keeps_what_a_published_model_knows(cli, shared: Path, tmp_path: Path) -> None:
    """Four bits and int8: a 6.5th of the bytes. 0.98 leaves room for the rounding of other processors; 1.00 was seen."""
    path = tmp_path / "beauty.pocket"
    checkpoint, data = shared / "checkpoints/iclrec-sasrec-beauty.pt", shared / "data/beauty/Beauty.txt"
    result = cli(
        "compress", checkpoint, "--data", data, "-o", path, "--recipe", "lossless", "--threads", "1", "--json"
    )
    assert result.exit_code == 0, result.stderr
    done = json.loads(result.stdout)
    assert done["checkpoint_bytes"] == WEIGHTS_BYTES
    assert done["size_bytes"] == path.stat().st_size
    assert done["ratio"] > 6.5
    metrics = done["metrics"]
    # what the paper's own evaluation gives, within .0003
    assert metrics["teacher"]["metrics"]["hr@10"]["value"] == pytest.approx(0.0744, abs=3e-4)
    assert metrics["teacher"]["metrics"]["ndcg@10"]["value"] == pytest.approx(0.0403, abs=3e-4)
    assert metrics["kept"]["metrics"]["ndcg@10"]["ratio"]["value"] >= 0.98
    assert metrics["popularity"]["metrics"]["ndcg@10"]["value"] < 0.01
    assert done["seconds"] < 300
    manifest = Bundle.open(path).manifest
    assert manifest["items"]["count"] == 12_101
    assert manifest["steps"][-1]["name"] == "adapt"
    assert "taste" not in manifest["adaptation"]  # 18 bytes an item, and it gains 1% or nothing here
    assert manifest["items"]["ids"]["kind"] == "range"
    assert str(shared).encode() not in path.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["beauty.pocket"]
    engine = Engine.load(path)
    assert len(engine.top_k(engine.prior(), 10)[0]) == 10


GENERAL = {  # least ratio; NDCG@10 of the teacher on the test items, as measured
    "BPR": (["--recipe", "int8"], 4.0, 0.0725),
    "EASE": (["--neighbors", "256"], 13.0, 0.0725),
}


@pytest.mark.shared
@pytest.mark.parametrize("name", GENERAL)
def test_general_models_of_recbole(cli, shared: Path, tmp_path: Path, name: str) -> None:
    """Users folded in, and item-item weights: at least 4x smaller at 99% of the metric."""
    options, ratio, teacher = GENERAL[name]
    path, data = tmp_path / "x.pocket", shared / "data/ml-100k/ml-100k.inter"
    checkpoint = shared / f"checkpoints/recbole/{name}-ml100k.pth"
    result = cli("compress", checkpoint, "--data", data, "-o", path, *options, "--threads", "1", "--json")
    assert result.exit_code == 0, result.stderr
    done = json.loads(result.stdout)
    assert done["ratio"] > ratio
    assert done["size_bytes"] == path.stat().st_size
    metrics = done["metrics"]
    assert metrics["teacher"]["metrics"]["ndcg@10"]["value"] == pytest.approx(teacher, abs=1e-3)
    assert metrics["kept"]["metrics"]["ndcg@10"]["ratio"]["value"] >= 0.99
    if name == "BPR":
        own = metrics["own_users"]
        assert own["metrics"]["ndcg@10"]["value"] == pytest.approx(0.0670, abs=5e-4)  # RecBole's own figure
        assert own["folded_kept"]["metrics"]["ndcg@10"]["ratio"]["value"] >= 0.99
