"""Other tools beside our bundles: the protocol with peers that work, fail, crash and hang; onnxruntime's on a tiny model."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketrec.benchmarks.peers import compare, environments, torch_peer
from pocketrec.benchmarks.peers.compare import REFERENCE, drawn_users
from pocketrec.benchmarks.peers.environments import make_environment
from pocketrec.benchmarks.peers.peer_list import ENVIRONMENTS, PEERS, REQUIREMENTS
from pocketrec.benchmarks.peers.peers_table import HEADER, peers_lines, peers_rows
from pocketrec.benchmarks.peers.protocol import LONGEST_LINE, ask, first_line, python_of
from pocketrec.benchmarks.peers.worker import PEERS as WORKS
from pocketrec.benchmarks.protocols import Split

OURS = Path(sys.prefix)
"""Our own environment, which has onnxruntime: good enough for a peer that is onnxruntime."""
START = "import json, sys, time\njob = json.load(open(sys.argv[1]))\n"


def fake(folder: Path, code: str) -> Path:
    """A worker of these lines."""
    path = folder / "fake.py"
    path.write_text(START + code)
    return path


def test_a_peer_gets_its_job_and_its_reply_comes_back(tmp_path: Path) -> None:
    worker = fake(tmp_path, "print('noise')\njson.dump({'twice': 2 * job['n']}, open(sys.argv[2], 'w'))")
    reply = ask(OURS, worker, {"n": 21}, timeout_s=60)
    assert reply.error is None
    assert reply.content == {"twice": 42}
    assert reply.versions == {}


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise RuntimeError('broken wheel')", "exit code 1: RuntimeError: broken wheel"),
        ("import os; os.kill(os.getpid(), 11)", "signal 11"),
        ("sys.exit(0)", "exit code 0: no message"),
        ("open(sys.argv[2], 'w').write('{')", "ended without a reply"),
        ("json.dump([1], open(sys.argv[2], 'w'))", "ended without a reply"),
        ("json.dump({'error': 'ValueError: no\\nlong story'}, open(sys.argv[2], 'w'))", "ValueError: no"),
    ],
)
def test_whatever_a_peer_does_is_one_line(tmp_path: Path, code: str, said: str) -> None:
    reply = ask(OURS, fake(tmp_path, code), {}, timeout_s=60)
    assert reply.error is not None
    assert said in reply.error
    assert "\n" not in reply.error
    assert len(reply.error) <= LONGEST_LINE


def test_a_peer_that_hangs_is_stopped_with_what_it_started(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    child = f"import time\nwhile True:\n  open({str(alive)!r}, 'a').write('x')\n  time.sleep(0.02)"
    code = f"import subprocess\nsubprocess.Popen([sys.executable, '-c', {child!r}])\ntime.sleep(60)"
    began = time.perf_counter()
    reply = ask(OURS, fake(tmp_path, code), {}, timeout_s=1.5)
    assert reply.error == "no reply within 1.5 s; stopped"
    assert time.perf_counter() - began < 20
    beats = alive.stat().st_size if alive.exists() else 0
    time.sleep(0.2)
    assert beats == (alive.stat().st_size if alive.exists() else 0)


def test_a_peer_ends_with_us(tmp_path: Path) -> None:
    """SIGTERM is what a shell, a scheduler or `timeout` sends."""
    alive, worker = tmp_path / "alive", tmp_path / "worker.py"
    worker.write_text(f"import time\nwhile True:\n  open({str(alive)!r}, 'a').write('x')\n  time.sleep(0.02)")
    code = (
        "from pathlib import Path; import sys; from pocketrec.benchmarks.peers.protocol import ask\n"
        "ask(Path(sys.prefix), Path(sys.argv[1]), {}, timeout_s=60)"
    )
    process = subprocess.Popen([sys.executable, "-P", "-c", code, str(worker)])
    deadline = time.monotonic() + 30
    while not alive.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert alive.exists(), "the worker did not start"
    process.terminate()
    assert process.wait(20) == 128 + signal.SIGTERM
    beats = alive.stat().st_size
    time.sleep(0.2)
    assert beats == alive.stat().st_size


def test_a_missing_environment_says_how_to_make_it_and_a_failed_one_why(tmp_path: Path) -> None:
    reply = ask(tmp_path / "olive", tmp_path / "none.py", {}, timeout_s=1)
    assert reply.error == "not installed: python -m pocketrec.benchmarks.peers.environments FOLDER olive"
    (tmp_path / "olive").mkdir()
    (tmp_path / "olive" / "failed.txt").write_text("pip install failed: no matching distribution\n")
    assert ask(tmp_path / "olive", tmp_path / "none.py", {}, timeout_s=1).error == (
        "pip install failed: no matching distribution"
    )


def test_a_long_line_is_cut() -> None:
    assert first_line("\n  \n" + "x" * 500) == "x" * (LONGEST_LINE - 3) + "..."
    assert first_line("") == "no message"


def test_an_environment_is_made_once_and_a_failure_is_noted(tmp_path: Path, monkeypatch) -> None:
    calls: list[list[str]] = []

    def pip(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        if "-c" in command:  # asked for its versions
            return subprocess.CompletedProcess(command, 1, "", "")
        calls.append(command)
        bad = "bad.txt" in command[-1]
        stderr = "WARNING: old\nERROR: No matching distribution found for nothing==1" if bad else ""
        return subprocess.CompletedProcess(command, int(bad), "", stderr)

    def create(folder: Path, **options: Any) -> None:
        python_of(folder).parent.mkdir(parents=True)
        python_of(folder).touch()
        (folder / "pyvenv.cfg").touch()

    monkeypatch.setattr(environments.subprocess, "run", pip)
    monkeypatch.setattr(environments.venv, "create", create)
    good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
    good.write_text("numpy==2.0\n")
    bad.write_text("nothing==1\n")
    assert make_environment(tmp_path / "a", good) is None
    assert make_environment(tmp_path / "a", good) is None
    assert len(calls) == 1
    good.write_text("numpy==2.1\n")  # other versions: made anew
    assert make_environment(tmp_path / "a", good) is None
    assert len(calls) == 2
    assert make_environment(tmp_path / "b", bad) == (
        "pip install failed: No matching distribution found for nothing==1"
    )
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["failed.txt"]
    assert make_environment(tmp_path / "b", good) is None  # tried again


def test_an_environment_that_somebody_else_made_is_kept_if_its_versions_are_those_wanted(
    tmp_path: Path, monkeypatch
) -> None:
    folder, requirements = tmp_path / "ours", tmp_path / "r.txt"
    folder.symlink_to(OURS, target_is_directory=True)
    monkeypatch.setattr(environments, "write_atomically", lambda *args, **options: None)  # not into ours
    requirements.write_text(f"# what it needs\nnumpy=={np.__version__}\n")
    assert make_environment(folder, requirements) is None
    for other in ("numpy==1.0", f"numpy=={np.__version__}\nno-such-package==1.0"):
        assert not environments.has_versions(python_of(folder), other)
    assert environments.has_versions(python_of(folder), f"numpy=={np.__version__}+local")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    requirements = tmp_path / "r.txt"
    requirements.touch()
    problem = make_environment(tmp_path, requirements)
    assert problem is not None
    assert "is no virtual environment" in problem
    assert (tmp_path / "thesis.tex").exists()


def test_every_peer_has_its_worker_and_pinned_requirements() -> None:
    assert {peer.name for peer in PEERS if not peer.runs_torch} == set(WORKS)
    assert {path.stem for path in REQUIREMENTS.glob("*.txt")} == set(ENVIRONMENTS)
    for path in REQUIREMENTS.glob("*.txt"):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        assert all("==" in line for line in lines), path.name
        assert lines == sorted(lines), path.name


def test_users_are_drawn_with_a_seed() -> None:
    split = Split(histories=[np.array([user]) for user in range(9)], targets=np.arange(9), users=np.arange(9))
    some, again = drawn_users(split, 4, 1), drawn_users(split, 4, 1)
    assert some.targets.tolist() == again.targets.tolist() == sorted(some.targets.tolist())
    assert [int(history[0]) for history in some.histories] == some.targets.tolist()
    assert drawn_users(split, 20, 1) is split


@pytest.fixture(scope="module")
def results(tiny_road, walked, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """`pocketrec bench --peers` where onnxruntime is installed, torchao is a fake, and the others are missing."""
    from pocketrec.cli.main import main

    folder = tmp_path_factory.mktemp("peers")
    for name in ("onnxruntime", "torchao"):
        (folder / name).symlink_to(OURS, target_is_directory=True)
    out = folder / "peers.json"
    with pytest.MonkeyPatch.context() as patch:
        link = torch_peer.link_packages

        def with_fake_torchao(packages: Path) -> None:
            link(packages)
            (packages.parent / "torchao").mkdir()
            (packages.parent / "torchao" / "__init__.py").touch()
            (packages.parent / "torchao" / "quantization.py").write_text(
                "def quantize_(module, config): pass\nclass Int8DynamicActivationInt8WeightConfig: pass\n"
            )

        patch.setattr(torch_peer, "link_packages", with_fake_torchao)
        for measure in (
            "baseline_memory",
            "measure_memory",
            "measure_graph_memory",
        ):  # one process instead of three
            patch.setattr(compare, measure, partial(getattr(compare, measure), n_repeats=1))
        code = main(
            [
                "bench", str(walked.done.path), "--teacher", str(walked.teacher_path), "--data", str(tiny_road.data),
                "--peers", str(tiny_road.checkpoint), "--environments", str(folder), "--users", "20", "--rounds", "8",
                "--ranked-users", "60", "--json", str(out),
            ]
        )  # fmt: skip
    assert code == 0
    return json.loads(out.read_text())


def of(results: dict[str, Any], name: str) -> dict[str, Any]:
    return next(entry for entry in results["contestants"] if entry["name"] == name)


def test_every_contestant_is_an_entry(results: dict[str, Any]) -> None:
    names = [entry["name"] for entry in results["contestants"]]
    assert names == [REFERENCE, "teacher", "tiny", *(peer.name for peer in PEERS)]
    assert results["settings"]["users"] == 60
    assert results["model"]["items"] == 50
    for name in ("optimum-cli", "Olive", "ModelOpt", "neural-compressor"):
        assert of(results, name)["error"].startswith("not installed")
        assert of(results, name)["accuracy"] is None


def test_onnxruntime_quantizes_and_is_measured(results: dict[str, Any]) -> None:
    for name in ("onnxruntime dynamic", "onnxruntime dynamic, best flags", "onnxruntime static"):
        entry = of(results, name)
        assert entry["error"] is None, name
        assert entry["errors"] == {}
        assert {"onnx", "onnxruntime"} <= set(entry["versions"])
        assert entry["size_bytes"] > 1000
        assert 0.3 < entry["overlap"]["overlap@10"] <= 1  # rounding reorders near ties; 0.2 is chance
        assert {len(row["percentiles_ms"]) for row in entry["latency"].values()} == {101}
        memory = entry["memory"]["recommend"]
        assert memory["peak_bytes"] > 1e7
        assert memory["added_bytes"] == memory["peak_bytes"] - results["memory_baseline_bytes"]
    dynamic = of(results, "onnxruntime dynamic")["kept"]["ndcg@10"]["ratio"]["value"]
    assert dynamic == pytest.approx(1, abs=0.2)


def test_a_graph_scores_as_the_teachers_bundle_does(results: dict[str, Any]) -> None:
    reference, teacher = of(results, REFERENCE), of(results, "teacher")
    assert reference["kept"]["ndcg@10"]["ratio"]["value"] == 1.0
    assert teacher["overlap"]["overlap@10"] > 0.999
    ndcg = [
        entry["accuracy"]["metrics"]["ndcg@10"]["value"]
        for entry in (reference, teacher, of(results, "torchao"))
    ]
    assert ndcg == pytest.approx([ndcg[0]] * 3, abs=1e-6)


def test_a_torch_module_ranks_and_times_in_its_own_process(results: dict[str, Any]) -> None:
    entry = of(results, "torchao")
    assert entry["error"] is None
    assert entry["overlap"]["overlap@10"] > 0.999  # the fake changes nothing
    assert entry["latency"]["best of catalogue"]["in_turns"] is False
    assert entry["latency"]["rerank"] is None
    assert entry["size_bytes"] > 50 * 16 * 4
    assert entry["memory"]["recommend"]["peak_bytes"] > 1e7


def test_the_table_has_a_row_for_each_and_says_what_did_not_work(results: dict[str, Any]) -> None:
    rows = peers_rows(results)
    assert rows[0] == HEADER
    assert len(rows) == 1 + len(results["contestants"])
    assert {len(row) for row in rows} == {len(HEADER)}
    lines = peers_lines(results)
    assert sum("did not work: not installed" in line for line in lines) == 4
    assert any(line.startswith("pocketrec, all steps") for line in lines)


def test_a_bundle_of_another_model_is_refused(
    cli_here: Callable[..., Any], tiny_road, walked, repository: Path, tmp_path: Path, monkeypatch
) -> None:
    from onnx import TensorProto, helper
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    from pocketrec.export import whole_graph

    ends = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n"]) for name in ("history", "scores")]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["history"], ["scores"])], "g", ends[:1], ends[1:]
    )
    empty = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    monkeypatch.setattr(whole_graph, "trace_graph", lambda *args, **options: empty)  # takes seconds
    other = repository / "tests" / "runtime" / "data" / "tiny-text.pocket"
    options = ("--data", tiny_road.data, "--peers", tiny_road.checkpoint)
    done = cli_here("bench", other, *options, "--environments", tmp_path)
    assert done.exit_code == 2
    assert "give bundles made of this checkpoint" in done.stderr
    twin = tmp_path / "twin.safetensors"  # the same items, other weights
    weights = load_file(tiny_road.checkpoint)
    with safe_open(tiny_road.checkpoint, "np") as checkpoint:
        save_file({name: 2 * of for name, of in weights.items()}, twin, checkpoint.metadata())
    done = cli_here(
        "bench", walked.done.path, "--data", tiny_road.data, "--peers", twin, "--environments", tmp_path
    )
    assert done.exit_code == 2
    assert "was made of another checkpoint" in done.stderr
    done = cli_here("bench", other, *options)
    assert done.exit_code == 2
    assert "pocketrec.benchmarks.peers.environments FOLDER" in done.stderr
    done = cli_here("bench", other, *options, "--environments", tmp_path, "--report", tmp_path / "r.html")
    assert done.exit_code == 2
    assert "leave --report out" in done.stderr
