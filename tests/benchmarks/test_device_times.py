"""Copies to a device and back are times and bytes of their own; the same calls run in the CPU's memory, where there is no device."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest

from pocketrec.benchmarks import bound_run
from pocketrec.benchmarks.bound_run import BoundRun, node_placement
from pocketrec.benchmarks.device_times import KEPT_AGREEMENT, NO_HALF, measure_device, worth_it
from pocketrec.benchmarks.latency import SpeedUp, Timing
from pocketrec.benchmarks.onnx_bytes import Node, model_bytes
from pocketrec.benchmarks.operations import Workload
from pocketrec.benchmarks.ranking_metrics import Interval
from pocketrec.runtime.engine import session_options

SHAPES = {"a": ("float32", ["rows", 3]), "b": ("float32", [3, 2])}
MODEL = model_bytes(
    [Node(op="MatMul", inputs=["a", "b"], outputs=["c"]), Node(op="Relu", inputs=["c"], outputs=["d"])],
    SHAPES, {"c": ("float32", ["rows", 2]), "d": ("float32", ["rows", 2])}, {}, {},
)  # fmt: skip


def session(options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])


def questions(rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(rows)
    return {
        "a": rng.normal(size=(rows, 3)).astype(np.float32),
        "b": rng.normal(size=(3, 2)).astype(np.float32),
    }


def test_a_bound_run_says_what_a_session_says() -> None:
    opened = session(session_options(1))
    bound = BoundRun(opened, "cpu")
    for rows in (4, 1, 7):  # outputs of another shape, of the same binding
        asked = questions(rows)
        found, expected = bound(asked), opened.run(None, asked)
        assert len(found) == 2
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
        assert (bound.bytes_in, bound.bytes_out) == (4 * (3 * rows + 6), 2 * 4 * 2 * rows)


def test_inputs_are_put_on_the_device_once_and_outputs_stay_until_they_are_fetched(monkeypatch) -> None:
    did: list[tuple[Any, ...]] = []

    class Binding:
        def __getattr__(self, name: str) -> Any:
            def called(*args: Any) -> Any:
                did.append((name, *args))
                return [np.zeros((2, 5), np.float32)] if name == "copy_outputs_to_cpu" else None

            return called

    class Session:
        def get_outputs(self) -> list[Any]:
            return [type("Output", (), {"name": "scores"})()]

        def io_binding(self) -> Binding:
            return Binding()

        def run_with_iobinding(self, binding: Binding) -> None:
            did.append(("run_with_iobinding",))

    class Value:
        @staticmethod
        def ortvalue_from_numpy(array: np.ndarray, memory: str, device_id: int) -> str:
            return f"{array.shape} in {memory} {device_id}"

    monkeypatch.setattr(bound_run.onnxruntime, "OrtValue", Value)
    bound = BoundRun(Session(), "cuda", 1)  # type: ignore[arg-type]
    bound.copy_in({"users": np.zeros((1, 8), np.float32)})
    assert ("bind_ortvalue_input", "users", "(1, 8) in cuda 1") in did
    assert ("bind_output", "scores", "cuda", 1) in did
    assert did[-1] == ("synchronize_inputs",)
    did.clear()
    bound.run()
    assert did == [("run_with_iobinding",), ("synchronize_outputs",)]
    did.clear()
    bound.copy_out()
    assert did == [("copy_outputs_to_cpu",)]
    assert (bound.bytes_in, bound.bytes_out) == (32, 40)


def test_nodes_are_counted_by_who_runs_them() -> None:
    found = node_placement(session, session_options(1), questions(3))
    assert found == {"nodes": {"CPUExecutionProvider": 2}, "copies_inside": 0}


def test_copies_that_onnxruntime_put_inside_are_counted(monkeypatch, tmp_path) -> None:
    events = [
        {"cat": "Node", "name": f"{op}_{n}_kernel_time", "args": {"op_name": op, "provider": provider}}
        for n, (op, provider) in enumerate(
            [("MatMul", "CUDAExecutionProvider"), ("MemcpyToHost", "CUDAExecutionProvider"),
             ("TopK", "CPUExecutionProvider"), ("MemcpyFromHost", "CUDAExecutionProvider")]
        )
    ]  # fmt: skip
    events += [events[0], {"cat": "Session", "name": "model_run"}]  # a node twice, and what is no node
    profile = tmp_path / "profile.json"
    profile.write_text(bound_run.json.dumps(events))

    class Session:
        def run(self, names: None, inputs: dict[str, Any]) -> None: ...

        def end_profiling(self) -> str:
            return str(profile)

    found = node_placement(lambda options: Session(), session_options(1), {})  # type: ignore[arg-type,return-value]
    assert found == {"nodes": {"CPUExecutionProvider": 1, "CUDAExecutionProvider": 1}, "copies_inside": 2}


@pytest.mark.parametrize(
    ("ratio", "told_apart", "agreement", "kept"),
    [
        ((2.0, 1.8, 2.2), True, 1.0, True),
        ((2.0, 1.8, 2.2), True, KEPT_AGREEMENT - 0.001, False),
        ((1.1, 0.9, 1.3), False, 1.0, False),
        ((0.5, 0.4, 0.6), True, 1.0, False),
    ],
)
def test_float16_is_kept_where_it_is_faster_and_ranks_the_same(
    ratio: tuple[float, float, float], told_apart: bool, agreement: float, kept: bool
) -> None:
    assert worth_it(SpeedUp(Interval(*ratio), told_apart), agreement) is kept


def test_graphs_of_bundles_are_timed_with_their_copies_apart(walked) -> None:
    from pocketrec.export.half_graph import half_graph

    rng = np.random.default_rng(0)
    work = Workload(
        histories=[(1 + rng.permutation(50)[: rng.integers(2, 9)]).tolist() for _ in range(12)],
        catalogue=list(range(1, 51)),
    )
    paths = {"teacher": walked.teacher_path, "tiny": walked.done.path}
    timing = Timing(n_rounds=6, n_warmup=1, min_rounds=2)
    rows, notes = measure_device(paths, work, timing=timing, device="cpu", half=half_graph)
    assert notes == []
    assert [(row["system"], row["graph"], row["precision"]) for row in rows] == [
        (system, graph, precision)
        for system in paths
        for graph, precision in (("encoder", "as it is"), ("encoder", "float16"), ("scorer", "as it is"))
    ]
    length = int(np.median([len(history) for history in work.histories]))
    for row in rows:
        assert row["first_ms"] > 0
        assert {row[step]["n"] for step in ("copy_in", "run", "copy_out")} == {6}
        assert sum(row["nodes"].values()) > 0
        width = 16 if row["system"] == "teacher" else 12
        n_in, n_out = (length * width, width) if row["graph"] == "encoder" else (width, 50)
        assert (row["bytes_in"], row["bytes_out"]) == (4 * n_in, 4 * n_out)
        assert (row["kept"] is None) == (row["precision"] != "float16")
        if row["precision"] == "float16":
            assert row["agreement"] > 0.9  # float16 has eleven bits; near ties may swap
            assert row["speedup"]["ratio"]["value"] > 0
    rows, notes = measure_device({"tiny": walked.done.path}, work, timing=timing, device="cpu")
    assert notes == [NO_HALF]
    assert len(rows) == 2
