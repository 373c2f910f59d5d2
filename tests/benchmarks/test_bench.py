"""The whole measurement of tiny bundles: one results object, the same figures everywhere, and clear refusals."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketrec.benchmarks import bench
from pocketrec.benchmarks.bench import BenchConfig, run_bench
from pocketrec.benchmarks.bench_accuracy import Accuracy, measure_accuracy
from pocketrec.benchmarks.bench_gates import Limits
from pocketrec.benchmarks.latency import Timing
from pocketrec.benchmarks.memory import baseline_memory
from pocketrec.benchmarks.progress import untracked
from pocketrec.runtime.bundle import Bundle, write_bundle
from pocketrec.runtime.errors import BundleError, InputError

torch = pytest.importorskip("torch", reason="the bundles of these tests are exported from torch modules")

N_ITEMS, WIDTH, MAX_LENGTH, N_USERS = 120, 16, 8, 60
QUICK = Timing(n_rounds=8, n_warmup=1, min_rounds=2)


class Mean(torch.nn.Module):
    """The mean of the history, through one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(WIDTH, WIDTH)
        torch.nn.init.eye_(self.linear.weight)
        torch.nn.init.zeros_(self.linear.bias)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:  # (B, n, D) -> (B, D)
        return self.linear(vectors.mean(dim=1))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """teacher.pocket, small.pocket (8 bits), clicks.tsv; histories stay within one of twelve groups of ten items."""
    from pocketrec.export.bundle_writer import BundleContent, export_bundle
    from pocketrec.runtime.item_ids import ItemIds
    from pocketrec.runtime.item_table import FloatRows, quantize_rows

    folder = tmp_path_factory.mktemp("bench")
    rng = np.random.default_rng(0)
    groups = np.repeat(rng.normal(size=(12, WIDTH)), 10, axis=0)
    values = (groups + 0.3 * rng.normal(size=(N_ITEMS, WIDTH))).astype(np.float32)
    histories = [rng.integers(12) * 10 + rng.permutation(10)[: rng.integers(4, 10)] for _ in range(N_USERS)]
    steps = [
        {
            "name": "item table",
            "before": {"bytes": values.nbytes + 1088, "parameters": 2192, "ndcg10": 0.4},
            "after": {"bytes": values.nbytes // 4 + 1088, "parameters": 2192, "ndcg10": 0.39},
            "detail": {"bits": 8},
            "seconds": 0.1,
        }
    ]
    for name, table, manifest in (
        ("teacher", FloatRows(values), {}),
        ("small", quantize_rows(values, 8), {"steps": steps, "metrics": {"ndcg10": 0.39}}),
    ):
        content = BundleContent(
            name=name,
            encoder=Mean(),
            max_length=MAX_LENGTH,
            table=table,
            item_ids=ItemIds.from_sequence([f"i{row}" for row in range(N_ITEMS)]),
            prior_user=np.zeros(WIDTH, np.float32),
            encoder_form="float32",
            manifest={"model": {"architecture": "Mean"}, "recipe": None, "provenance": {}, **manifest},
        )
        export_bundle(folder / f"{name}.pocket", content, histories[:3])
    rows = [f"u{u}\ti{item}\t{time}" for u, items in enumerate(histories) for time, item in enumerate(items)]
    (folder / "clicks.tsv").write_text("user\titem\ttime\n" + "\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="session")
def results(folder: Path) -> dict[str, Any]:
    return run_bench(config(folder, teacher=folder / "teacher.pocket"))


def config(folder: Path, **changes: Any) -> BenchConfig:
    usual = {"bundles": (folder / "small.pocket",), "data": folder / "clicks.tsv", "timing": QUICK}
    return BenchConfig(**{**usual, **changes})


def test_the_teacher_is_the_reference_and_popularity_stands_beside(results: dict[str, Any]):
    assert results["reference"] == "teacher"
    assert [system["name"] for system in results["systems"]] == ["teacher", "small"]
    teacher, small = (system["accuracy"]["metrics"]["ndcg@10"]["value"] for system in results["systems"])
    popularity = results["popularity"]["metrics"]["ndcg@10"]["value"]
    assert teacher > 2 * popularity, "the groups make the mean of the history a good model"
    kept = results["comparisons"]["small"]["accuracy"]["metrics"]["ndcg@10"]["ratio"]
    assert kept["value"] == pytest.approx(small / teacher)
    assert kept["low"] <= kept["value"] <= kept["high"]
    assert results["comparisons"]["small"]["accuracy"]["overlap"]["overlap@10"] > 0.8


def test_every_operation_is_timed_for_every_system(results: dict[str, Any]):
    measured = {(row["operation"], row["size"], row["system"]) for row in results["latency"]}
    operations = [*(("rerank", size) for size in (10, 50, 100)), ("recommend", 10), ("feedback", None)]
    operations += [("encode", None), *(("encode_batch", size) for size in (4, 16, 64, 256)), ("load", None)]
    cold = any("cold load" in note for note in results["notes"])
    operations += [] if cold else [("load_cold", None)]
    assert measured == {(*operation, name) for operation in operations for name in ("teacher", "small")}, (
        "lists of 500 candidates cannot be drawn from 120 items"
    )
    for row in results["latency"]:
        assert (row["speedup"] is None) == (row["system"] == "teacher")
        assert 0 < row["p50"]["value"] <= row["max_ms"]


def test_throughput_is_of_histories(results: dict[str, Any]):
    for row in results["latency"]:
        assert row["batch"] == (row["size"] if row["operation"] == "encode_batch" else 1)
        assert row["per_second"] == pytest.approx(1000 * row["batch"] / row["mean_ms"])


def test_first_calls_are_shown_apart(results: dict[str, Any]):
    assert [call["system"] for call in results["first_calls"]] == ["teacher", "small"]
    assert all(call[name] > 0 for call in results["first_calls"] for name in ("load_ms", "rerank_ms"))


def test_energy_is_measured_or_said_not_to_be(results: dict[str, Any]):
    assert (results["energy"] is None) == any("energy is not measured" in note for note in results["notes"])


def accuracy_of(asked: BenchConfig) -> Accuracy:
    """That part of the measurement alone."""
    return measure_accuracy(asked, bench.open_systems(asked), None, untracked)


def test_the_temporal_protocol_asks_each_user_for_the_first_event_after_the_cut(folder: Path):
    found = accuracy_of(config(folder, protocol="temporal", cut=3.0))
    assert found.split == {"kind": "temporal", "quantile": None, "cut": 3.0}
    assert found.data["users_evaluated"] == N_USERS, "every user has an event at each of the times 0 to 3"
    assert {len(history) for history in found.histories} == {3}
    by_share = accuracy_of(config(folder, protocol="temporal", quantile=0.5))
    assert 0 < by_share.split["cut"] < 9
    assert by_share.split["quantile"] == 0.5


def test_a_model_that_has_seen_what_came_after_the_cut_is_noted(folder: Path, tmp_path: Path):
    source = Bundle.open(folder / "small.pocket")
    digest = hashlib.sha256((folder / "clicks.tsv").read_bytes()).hexdigest()
    manifest = {**source.manifest, "provenance": {"data": {"sha256": digest}}}
    parts = {part["name"]: source.part(part["name"]).tobytes() for part in manifest.pop("parts")}
    write_bundle(tmp_path / "seen.pocket", manifest, parts)
    asked = config(folder, bundles=(tmp_path / "seen.pocket",), protocol="temporal", cut=3.0)
    assert any("seen was compressed with this very file" in note for note in accuracy_of(asked).notes)
    leave_one_out = dataclasses.replace(asked, protocol="leave-one-out")
    assert not any("very file" in note for note in accuracy_of(leave_one_out).notes)


def test_data_without_times_cannot_be_cut(folder: Path, tmp_path: Path):
    path = tmp_path / "untimed.tsv"
    path.write_text("user\titem\n" + "".join(f"u{u}\ti{n}\n" for u in range(3) for n in range(4)))
    with pytest.raises(InputError, match="the data have none; use leave-one-out"):
        run_bench(config(folder, data=path, protocol="temporal"))


def test_a_limited_drop_needs_something_to_compare_with(folder: Path):
    with pytest.raises(InputError, match="--max-drop: nothing to compare with; name the uncompressed model"):
        run_bench(config(folder, limits=Limits(max_drop=0.01)))


def test_the_parts_add_up_to_the_file(results: dict[str, Any], folder: Path):
    for system in results["systems"]:
        size = (folder / system["file"]).stat().st_size
        assert system["size_bytes"] == size == sum(part["bytes"] for part in system["parts"])
    small = results["systems"][1]
    assert small["checkpoint_ratio"] == small["checkpoint_bytes"] / small["size_bytes"]


def test_memory_is_measured_beyond_the_baseline(results: dict[str, Any]):
    for system in results["systems"]:
        for task in ("rerank", "recommend"):
            memory = system["memory"][task]
            assert memory["added_bytes"] == memory["peak_bytes"] - results["memory_baseline_bytes"]
            assert 0 < memory["added_bytes"] < 100e6


def test_memory_of_the_parent_does_not_count():
    before = baseline_memory(n_repeats=1)
    held = np.ones(60_000_000)  # 480 MB, touched
    assert baseline_memory(n_repeats=1) < before + 100e6
    del held


def test_the_results_are_json_and_match_the_documented_schema(results: dict[str, Any], repository: Path):
    text = json.dumps(results, allow_nan=False)
    schema = (repository / "docs" / "results-schema.md").read_text()
    documented = {word for span in re.findall(r"`([^`]+)`", schema) for word in re.findall(r"[\w@]+", span)}
    assert _names(json.loads(text)) - documented == set()


def _names(value: Any, below: str = "") -> set[str]:
    """Names of fields, but not those that are data: names of systems and metrics, and what manifests hold."""
    if isinstance(value, list):
        entries_below = "" if below == "systems" else below  # by name in a segment, else a list
        return set().union(*(_names(child, entries_below) for child in value))
    if not isinstance(value, dict) or below in FREE:
        return set()
    keyed_by_data = below in (
        "comparisons",
        "metrics",
        "coverage",
        "overlap",
        "sets",
        "lists",
        "kept",
        "systems",
    )
    return set().union(
        set() if keyed_by_data else set(value),
        *(_names(child, "" if keyed_by_data else name) for name, child in value.items()),
    )


FREE = {
    "model",
    "items",
    "item_table",
    "encoder",
    "recipe",
    "provenance",
    "recorded",
    "detail",
    "cleaned",
    "versions",
}


def test_ranks_do_not_depend_on_the_run(
    results: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bench, "baseline_memory", lambda: 0)
    monkeypatch.setattr(bench, "measure_memory", lambda *_args, **_named: {})
    again = run_bench(config(folder, teacher=folder / "teacher.pocket", seed=0))
    for one, other in zip(results["systems"], again["systems"], strict=True):
        assert one["accuracy"]["metrics"] == other["accuracy"]["metrics"]
    assert results["comparisons"] == again["comparisons"]


def test_without_a_teacher_the_first_of_several_is_the_reference(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bench, "baseline_memory", lambda: 0)
    monkeypatch.setattr(bench, "measure_memory", lambda *_args, **_named: {})
    both = (folder / "small.pocket", folder / "teacher.pocket")
    assert run_bench(config(folder, bundles=both))["reference"] == "small"
    alone = run_bench(config(folder))
    assert (alone["reference"], alone["comparisons"]) == (None, {})
    assert alone["systems"][0]["recorded"] == {"ndcg10": 0.39}


def test_a_bundle_named_twice_is_refused(folder: Path):
    with pytest.raises(InputError, match="one file is named twice"):
        run_bench(config(folder, bundles=(folder / "small.pocket", folder / "small.pocket")))


def test_manifests_of_an_unexpected_form_are_described_without_what_is_odd(folder: Path, tmp_path: Path):
    path = tmp_path / "odd.pocket"
    good = {"name": "x", "before": {"bytes": 2}, "after": {"bytes": 1}}
    odd = {"model": "text", "recipe": [1], "metrics": 7, "steps": [None, {"name": 1}, {"name": "a"}, good]}
    write_bundle(path, odd, {"part": b"abc"})
    described = bench.describe_system(bench.System("odd", "bundle", path, Bundle.open(path)))
    assert (described["model"], described["recipe"], described["recorded"]) == (None, None, {})
    assert described["steps"] == [good]


Cli = Callable[..., Any]
OPTIONS = ("--rounds", "4", "--users", "5", "--threads", "1")


def test_the_command_prints_a_table_and_writes_both_files(cli: Cli, folder: Path, tmp_path: Path):
    data, teacher = folder / "clicks.tsv", folder / "teacher.pocket"
    done = cli(
        *("bench", folder / "small.pocket", "--data", data, "--teacher", teacher, *OPTIONS),
        *("--json", tmp_path / "out.json", "--report", tmp_path / "out.html"),
    )
    assert done.exit_code == 0, done.stderr
    assert done.stderr == "", "no progress bar where stderr is no terminal"
    results = json.loads((tmp_path / "out.json").read_text())
    assert f"{results['systems'][1]['accuracy']['metrics']['ndcg@10']['value']:.4f}" in done.stdout
    assert "kept of teacher" in done.stdout
    assert results["command"].startswith("pocketrec bench ")
    html = (tmp_path / "out.html").read_text()
    assert f'value="{results["systems"][1]["accuracy"]["metrics"]["ndcg@10"]["value"]}"' in html


def test_a_broken_limit_fails_after_everything_is_written(cli: Cli, folder: Path, tmp_path: Path):
    done = cli(
        *("bench", folder / "small.pocket", "--data", folder / "clicks.tsv", *OPTIONS, "--max-size", "1kB"),
        *("--max-latency", "10s", "--json", tmp_path / "out.json", "--markdown", tmp_path / "out.md"),
    )
    assert done.exit_code == 1
    assert "small: size" in done.stderr
    assert "broken" in done.stderr
    gates = json.loads((tmp_path / "out.json").read_text())["gates"]
    assert [(gate["gate"], gate["passed"]) for gate in gates] == [("size", False), ("latency", True)]
    assert "latency" in (tmp_path / "out.md").read_text()


def test_measuring_runs_as_a_module_without_torch(folder: Path, tmp_path: Path):
    """As on a device: torch, onnx and the like cannot be imported, and neither can the compressor."""
    blocked = ("torch", "onnx", "onnxscript", "safetensors", "tqdm", "pocketrec.compress", "pocketrec.export")
    start = (
        f"import sys, runpy; sys.modules.update(dict.fromkeys({blocked!r}));"
        "runpy.run_module('pocketrec.benchmarks', run_name='__main__')"
    )
    arguments = [folder / "small.pocket", "--data", folder / "clicks.tsv", *OPTIONS, "--json", "out.json"]
    done = subprocess.run(
        [sys.executable, "-c", start, *map(str, arguments)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["command"].startswith("python -m pocketrec.benchmarks ")
    assert "accuracy" in done.stdout


def test_as_a_module_a_mistake_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]):
    from pocketrec.benchmarks.__main__ import main

    arguments = [str(folder / "small.pocket"), "--data", str(folder / "clicks.tsv")]
    assert main([*arguments, "--device", "abacus"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "python -m pocketrec.benchmarks: error: device: got 'abacus', expected one of cpu, cuda"
    )
    assert error.count("\n") == 1


def test_json_on_stdout_stands_alone(cli: Cli, folder: Path):
    done = cli("bench", folder / "small.pocket", "--data", folder / "clicks.tsv", *OPTIONS, "--json", "-")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["schema_version"] == 1


def test_a_device_with_memory_of_its_own_is_measured_with_its_copies_apart(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    """The CPU stands for the device: the same calls, in the CPU's memory."""
    from pocketrec.export.half_graph import half_graph
    from pocketrec.runtime import devices

    monkeypatch.setitem(devices.PROVIDERS, "cuda", ("CPUExecutionProvider",))
    monkeypatch.setitem(devices.MEMORY, "cuda", "cpu")
    monkeypatch.setattr(bench, "device_memory", lambda device: {"cuda": "cuda"}[device])
    monkeypatch.setattr(
        bench, "measure_memories", lambda systems, *args: (1, {system.name: {} for system in systems})
    )
    results = run_bench(
        BenchConfig(
            bundles=(folder / "small.pocket",), data=folder / "clicks.tsv", device="cuda", latency_users=10,
            timing=QUICK, half_graph=half_graph,
        )
    )  # fmt: skip
    rows = [(row["graph"], row["precision"], row["device"]) for row in results["device_times"]]
    assert rows == [
        ("encoder", "as it is", "cuda"),
        ("encoder", "float16", "cuda"),
        ("scorer", "as it is", "cuda"),
    ]
    assert results["settings"]["device"] == "cuda"


def test_cuda_that_is_not_there_is_one_line(cli: Cli, folder: Path):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    done = cli("bench", folder / "small.pocket", "--data", folder / "clicks.tsv", "--device", "cuda")
    assert done.exit_code == 2
    assert done.stderr == (
        "pocketrec: error: device cuda: this onnxruntime has CPUExecutionProvider only; "
        "install onnxruntime-gpu, or use another device\n"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--data": "missing.tsv"}, "missing.tsv"),
        ({"--report": "no/such/folder/r.html"}, "make it first"),
        ({"--report": "."}, "is a directory"),
        ({"--threads": "0"}, "expected a number of at least 1"),
        ({"--teacher": "missing.pocket"}, "missing.pocket: no such file"),
    ],
)
def test_bad_input_is_one_clear_line(cli: Cli, folder: Path, changes: dict[str, str], message: str):
    options = {"--data": str(folder / "clicks.tsv"), **changes}
    done = cli("bench", folder / "small.pocket", *(word for option in options.items() for word in option))
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_data_of_another_set_are_refused(folder: Path, tmp_path: Path):
    other = tmp_path / "other.tsv"
    other.write_text("user\titem\ttime\n" + "".join(f"a\tbook{n}\t{n}\n" for n in range(5)))
    with pytest.raises(InputError, match="is this the data set that the checkpoint was trained on"):
        run_bench(config(folder, data=other))


def test_a_truncated_bundle_is_refused_by_name(folder: Path, tmp_path: Path):
    cut = tmp_path / "cut.pocket"
    cut.write_bytes((folder / "small.pocket").read_bytes()[:-10])
    with pytest.raises(BundleError, match=r"cut\.pocket.*truncated"):
        run_bench(config(folder, bundles=(cut,)))


def test_measuring_needs_no_torch():
    code = "import sys, pocketrec.benchmarks.bench; print([m for m in ('torch', 'onnx', 'pocketrec.compress') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
