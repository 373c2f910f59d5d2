"""Runs in a peer's own environment: one job in, one reply out (`protocol.py`). Nothing of pocketrec is imported here.

A job is {"peer", "graphs": {"catalogue": PATH, "candidates": PATH}, "calibration": {the same: [inputs, ...]}, "output":
FOLDER}; the reply {"files": {"catalogue": PATH, "candidates": PATH}, "errors": {graph: LINE}, "versions": {...}}, or
{"error": LINE, "versions"} where the catalogue's graph, which is the model, could not be made. What a peer makes is
checked by running it once in its own environment.

Tools are imported by name when they are asked for: no environment has all of them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

Inputs = Sequence[Mapping[str, Any]]
"""Calibration: for each call, a nested list of item rows for each input of the graph."""
PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnx", "optimum", "optimum-onnx", "olive-ai", "nvidia-modelopt", "neural-compressor", "torch")  # fmt: skip


def onnxruntime_dynamic(source: Path, target: Path, calibration: Inputs) -> None:
    """The defaults."""
    quantization: Any = import_module("onnxruntime.quantization")
    quantization.quantize_dynamic(source, target)


def onnxruntime_dynamic_best(source: Path, target: Path, calibration: Inputs) -> None:
    """With the flag without which the scoring product, whose table is transposed first, is left out."""
    quantization: Any = import_module("onnxruntime.quantization")
    quantization.quantize_dynamic(source, target, extra_options={"MatMulConstBOnly": False})


def onnxruntime_static(source: Path, target: Path, calibration: Inputs) -> None:
    """QDQ with scales from real histories."""
    quantization: Any = import_module("onnxruntime.quantization")
    calls = _arrays(calibration)
    methods = {"get_next": lambda self: next(calls, None)}
    reader: Any = type("Reader", (quantization.CalibrationDataReader,), methods)()
    quantization.quantize_static(source, target, reader)


def optimum_cli(source: Path, target: Path, calibration: Inputs) -> None:
    """The flag that fits the processor; the file that comes out is the only one in its folder."""
    folder, made = target.with_suffix(".in"), target.with_suffix(".out")
    folder.mkdir()
    shutil.copy(source, folder / "model.onnx")
    (folder / "config.json").write_text('{"model_type": "bert"}')  # it asks for one and does not use it
    flag = "--arm64" if os.uname().machine == "aarch64" else f"--{_x86_flag()}"
    _run("optimum-cli", "onnxruntime", "quantize", "--onnx_model", folder, flag, "-o", made)
    shutil.move(next(made.glob("*.onnx")), target)


def olive(source: Path, target: Path, calibration: Inputs) -> None:
    made = target.with_suffix(".out")
    what = ("--implementation", "ort", "--precision", "int8", "--disable_telemetry")
    _run("olive", "quantize", "-m", source, *what, "-o", made)
    shutil.move(made / "model.onnx", target)


def modelopt(source: Path, target: Path, calibration: Inputs) -> None:
    """Its calibration takes one array an input, so histories of one length."""
    numpy: Any = import_module("numpy")
    calls = list(_arrays(calibration))
    length = max(call["history"].shape[1] for call in calls)
    calls = [call for call in calls if call["history"].shape[1] == length]
    data = target.with_suffix(".npz")
    numpy.savez(data, **{name: numpy.concatenate([call[name] for call in calls]) for name in calls[0]})
    what = ("--quantize_mode", "int8", "--calibration_data_path", data, "--calibration_eps", "cpu")
    _run(sys.executable, "-m", "modelopt.onnx.quantization", "--onnx_path", source, *what, "--output_path", target)  # fmt: skip


def neural_compressor(source: Path, target: Path, calibration: Inputs) -> None:
    quantization: Any = import_module("neural_compressor.quantization")
    config: Any = import_module("neural_compressor.config")
    made = quantization.fit(str(source), config.PostTrainingQuantConfig(approach="dynamic"))
    if made is None:
        raise RuntimeError("quantization.fit returned no model")
    made.save(str(target))


PEERS: dict[str, Callable[[Path, Path, Inputs], None]] = {
    "onnxruntime dynamic": onnxruntime_dynamic,
    "onnxruntime dynamic, best flags": onnxruntime_dynamic_best,
    "onnxruntime static": onnxruntime_static,
    "optimum-cli": optimum_cli,
    "Olive": olive,
    "ModelOpt": modelopt,
    "neural-compressor": neural_compressor,
}


def answer(job: Mapping[str, Any]) -> dict[str, Any]:
    """The reply to one job."""
    files: dict[str, str] = {}
    errors: dict[str, str] = {}
    for graph, source in job["graphs"].items():
        target = Path(job["output"]) / f"{graph}.onnx"
        calibration = job["calibration"][graph]
        try:
            PEERS[job["peer"]](Path(source), target, calibration)
            _check(target, calibration)
            files[graph] = str(target)
        except Exception as error:  # noqa: BLE001 -- whatever the tool says no with is its row
            errors[graph] = _line(error)
    versions = {name: found for name in PACKAGES if (found := _version(name))}
    if "catalogue" in errors:
        return {"error": errors["catalogue"], "versions": versions}
    return {"files": files, "errors": errors, "versions": versions}


def _check(path: Path, calibration: Inputs) -> None:
    """It can be loaded and run; raises what onnxruntime says otherwise."""
    onnxruntime: Any = import_module("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    session.run(None, next(_arrays(calibration)))


def _arrays(calibration: Inputs) -> Iterator[dict[str, Any]]:
    numpy: Any = import_module("numpy")
    for call in calibration:
        yield {name: numpy.array(rows, numpy.int64) for name, rows in call.items()}


def _run(*command: str | Path) -> None:
    """A command of this environment; what it prints last is the error where it fails."""
    here = Path(sys.executable).parent
    program = here / command[0] if (here / command[0]).exists() else command[0]
    asked = [str(program), *map(str, command[1:])]
    environment = {**os.environ, "OLIVE_DISABLE_TELEMETRY": "1", "PATH": f"{here}{os.pathsep}{os.environ['PATH']}"}  # fmt: skip
    done = subprocess.run(asked, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise RuntimeError(said[-1] if said else f"exit code {done.returncode}")


def _x86_flag() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.exists() else []
    return next((flag for flag in ("avx512_vnni", "avx512") if flag in flags), "avx2")


def _line(error: Exception) -> str:
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    asked, answered = map(Path, sys.argv[1:])
    answered.write_text(json.dumps(answer(json.loads(asked.read_text()))))
