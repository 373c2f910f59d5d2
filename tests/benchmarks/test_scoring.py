"""The graphs that pocketrec's scoring is compared with are those that onnx and onnxruntime would make."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import quantize_dynamic

from pocketrec.benchmarks import onnx_bytes, scoring, synthetic_catalogue
from pocketrec.benchmarks.latency import Timing
from pocketrec.export.scorer_graph import scorer_graph
from pocketrec.runtime.engine import Engine


@pytest.fixture(scope="module", params=[4, 8])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    path = tmp_path_factory.mktemp("catalogue") / "c.pocket"
    synthetic_catalogue.write_catalogue(path, 3000, width=32, bits=request.param, seed=1)
    return Engine.load(path)


def model_of(monkeypatch: pytest.MonkeyPatch, make) -> tuple[onnx.ModelProto, scoring.TopK]:
    """The model that a function of `scoring` makes, its weights put in."""
    kept: dict = {}

    def session_of(model: bytes, weights: dict) -> onnxruntime.InferenceSession:
        kept.update(model=onnx.load_from_string(model), weights=weights)
        return onnx_bytes.session_of(model, weights)

    monkeypatch.setattr(scoring, "session_of", session_of)
    find = make()
    for initializer in kept["model"].graph.initializer:
        if initializer.name in kept["weights"]:
            initializer.CopyFrom(numpy_helper.from_array(kept["weights"][initializer.name], initializer.name))
    onnx.checker.check_model(kept["model"], full_check=True)
    return kept["model"], find


def test_the_table_is_one_of_normal_values(engine: Engine) -> None:
    values = engine.table.lookup(np.arange(3000))
    assert abs(values.mean()) < 0.05 / np.sqrt(32)
    assert values.std() == pytest.approx(1 / np.sqrt(32), rel=0.05)
    lengths = np.linalg.norm(values, axis=1)
    assert 0.1 < lengths.std() / lengths.mean() < 0.25


def test_its_scorer_is_the_exporters(engine: Engine) -> None:
    ours = onnx.load_from_string(engine.bundle.part("scorer.onnx").tobytes())
    exported = scorer_graph(engine.table)  # type: ignore[arg-type]
    assert list(ours.graph.node) == list(exported.graph.node)
    assert list(ours.graph.input) == list(exported.graph.input)
    assert list(ours.graph.output) == list(exported.graph.output)
    assert list(ours.graph.initializer) == list(exported.graph.initializer)


def test_its_encoder_takes_the_mean(engine: Engine) -> None:
    history = np.array([[5, 7, 9]])
    np.testing.assert_allclose(engine.encode(history), engine.table.lookup(history).mean(1), rtol=1e-6)


def test_the_int8_graph_is_that_of_quantize_dynamic(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made, find = model_of(monkeypatch, lambda: scoring.dynamic_graph(engine.table, 20))
    floats, _ = model_of(monkeypatch, lambda: scoring.float_graph(engine.table, 20))
    onnx.save(floats, tmp_path / "float.onnx")
    quantize_dynamic(tmp_path / "float.onnx", tmp_path / "int8.onnx")
    theirs = onnx.load(tmp_path / "int8.onnx")
    assert sorted(node.op_type for node in made.graph.node) == sorted(
        node.op_type for node in theirs.graph.node
    )
    session = onnxruntime.InferenceSession(tmp_path / "int8.onnx", providers=["CPUExecutionProvider"])
    for user in np.random.default_rng(0).standard_normal((5, 32)).astype(np.float32):
        assert find(user).tolist() == session.run(["rows"], {"users": user[None]})[0][0].tolist()  # type: ignore[index]


def test_what_is_measured(engine: Engine) -> None:
    found = scoring.measure(engine, 20, Timing(n_rounds=3, n_warmup=1), seed=3)
    systems = found["systems"]
    assert systems["pocketrec"]["agreement"] == systems["float32"]["agreement"] == 1.0
    assert systems["quantize_dynamic"]["agreement"] > 0.8
    bits = engine.manifest["item_table"]["bits"]
    assert {name: of["table_bytes"] for name, of in systems.items()} == {
        "float32": 3000 * 32 * 4,
        "quantize_dynamic": 3000 * 32,
        "pocketrec": 3000 * 32 * bits // 8 + 3000 * 2,
    }
    for name, speedup in found["speedups"].items():
        assert (
            speedup["ratio"]["value"] == systems[name]["p50"]["value"] / systems["pocketrec"]["p50"]["value"]
        )


def test_as_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "scoring.json"
    argv = ["--items", "2000", "--width", "16", "-k", "5", "--rounds", "2", "--json", str(path)]
    assert scoring.main(argv) == 0
    whole = json.loads(path.read_text())
    assert whole["settings"] == {
        "items": 2000,
        "width": 16,
        "bits": 4,
        "k": 5,
        "rounds": 2,
        "seed": 0,
        "threads": 1,
    }
    assert json.loads(capsys.readouterr().out) == whole["results"]


@pytest.mark.parametrize(("width", "bits"), [(24, 4), (64, 3)])
def test_catalogues_that_cannot_be_made_up(tmp_path: Path, width: int, bits: int) -> None:
    with pytest.raises(
        ValueError, match=rf"catalogue: width {width} in {bits} bits, expected 16, 32, .* in 4 or 8"
    ):
        synthetic_catalogue.write_catalogue(tmp_path / "c.pocket", 10, width=width, bits=bits)
    assert not list(tmp_path.iterdir())
