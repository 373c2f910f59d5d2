"""Runs in the environment of a peer that quantizes torch modules: makes it, ranks, and times it (`torch_peer.py`).

The job's `modules` are whole modules that our own command saved a moment ago, for this worker; `task` is `measure` or
`memory`. The reply: {"size_bytes", "quantize_seconds", "ranking_seconds", "samples_ms", "versions"}, with the ranks in the
file `answers`; or {"peak_bytes"}; or {"error": LINE}.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

WARM_UP = 10


def torchao(module: Any) -> None:
    """int8 weights, activations rounded per call: torchao's int8 for the CPU. It looks for linear layers."""
    quantization: Any = import_module("torchao.quantization")
    quantization.quantize_(module, quantization.Int8DynamicActivationInt8WeightConfig())


PEERS: dict[str, Callable[[Any], None]] = {"torchao": torchao}


def answer(job: Mapping[str, Any]) -> dict[str, Any]:
    """The reply to one job."""
    torch: Any = import_module("torch")
    torch.set_num_threads(job["threads"])
    made: dict[str, Any] = {}
    began = time.perf_counter()
    for name, path in job["modules"].items():
        made[name] = torch.load(path, weights_only=False).eval()  # our own file of a moment ago
        PEERS[job["peer"]](made[name])
    quantize_seconds = time.perf_counter() - began
    with torch.no_grad():
        if job["task"] == "memory":
            made["catalogue"](torch.arange(min(10, made["catalogue"].encoder.max_length))[None])
            return {"peak_bytes": _peak_bytes()}
        size_file = Path(job["answers"]).with_name("size.pt")
        torch.save(made["catalogue"].state_dict(), size_file)
        return {
            "size_bytes": size_file.stat().st_size,
            "quantize_seconds": quantize_seconds,
            "ranking_seconds": _rank(job, made["catalogue"]),
            "samples_ms": _time(job, made),
        }


def _rank(job: Mapping[str, Any], catalogue: Any) -> float:
    """With our evaluator, in batches: torchao's activations have a scale a row, so users do not share one."""
    numpy: Any = import_module("numpy")
    torch: Any = import_module("torch")
    evaluate: Any = import_module("pocketrec.benchmarks.evaluate")
    with numpy.load(job["questions"]) as asked:
        histories = numpy.split(asked["rows"], asked["lengths"].cumsum()[:-1])
        split = SimpleNamespace(histories=histories, targets=asked["targets"])

    class Scorer:
        n_items = catalogue.items.num_embeddings
        max_length = catalogue.encoder.max_length

        def __call__(self, rows: Any) -> Any:
            return catalogue(torch.from_numpy(rows)).numpy()

    ranking = evaluate.evaluate_ranks(Scorer(), split, keep_repeats=job["keep_repeats"])
    found = {"ranks": ranking.ranks, "top_rows": ranking.top_rows}
    numpy.savez(job["answers"], repeated_targets=ranking.repeated_targets, **found)
    return ranking.seconds


def _time(job: Mapping[str, Any], made: Mapping[str, Any]) -> dict[str, list[float]]:
    """Milliseconds of each round of the two operations of the model alone."""
    torch: Any = import_module("torch")
    length, k = made["catalogue"].encoder.max_length, job["k"]
    samples: dict[str, list[float]] = {"score candidates": [], "best of catalogue": []}
    deadline = time.perf_counter() + job["max_seconds"]

    def best(history: Any) -> Any:
        scores = made["catalogue"](history)[0]
        scores[history[0]] = -torch.inf
        return torch.topk(scores, k).indices.numpy()

    for n, asked in enumerate(job["rounds"] * 2):
        history = torch.tensor([asked["history"][-length:]])
        candidates = torch.tensor([asked["candidates"]])
        calls: dict[str, Callable[[], Any]] = {
            "score candidates": lambda h=history, c=candidates: made["candidates"](h, c).numpy(),
            "best of catalogue": lambda h=history: best(h),
        }
        for name, call in calls.items():
            began = time.perf_counter_ns()
            call()
            if n >= WARM_UP:
                samples[name].append((time.perf_counter_ns() - began) / 1e6)
        if n >= WARM_UP + 20 and time.perf_counter() > deadline:
            break
    return samples


def _peak_bytes() -> int:
    """As `memory.PEAK` reads it."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    usage: Any = import_module("resource")
    peak = usage.getrusage(usage.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ("torch", "torchao"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    asked, answered = map(Path, sys.argv[1:])
    job = json.loads(asked.read_text())
    try:
        reply = answer(job)
    except Exception as error:  # noqa: BLE001 -- whatever the tool says no with is its row
        said = str(error).strip().splitlines()
        reply = {"error": f"{type(error).__name__}: {said[0] if said else 'no message'}"}
    answered.write_text(json.dumps({**reply, "versions": _versions()}))
