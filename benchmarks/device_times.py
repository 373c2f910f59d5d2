"""What a graph costs on a device, and what the way there and back costs: `device_times` of the results.

    copy in    the history's vectors (or the user's) into the device's memory
    run        the graph, with its inputs and outputs in that memory
    copy out   the user's vector (or the catalogue's scores) back

All graphs of all bundles take turns, as everything that `bench` times; the first run of each, when a device compiles and chooses
its kernels, is shown by itself and in no distribution. Histories are cut to one length, since a device compiles anew for another.

Beside the encoder stands its copy in float16 (`export/half_graph.py`), where `onnx` is installed to make it. It is `kept` where
`run` is faster beyond doubt and the ten best of the catalogue stay (99% of them, over the users asked): a figure that says what
float16 is worth on this device. A bundle has float32, or int8, and its runtime runs that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ..runtime.catalogue_scorer import CatalogueScorer, Weights
from ..runtime.codebook_rows import CodebookRows
from ..runtime.deflated_part import inflated
from ..runtime.devices import device_memory, execution_providers
from ..runtime.engine import Engine, session_options
from .bound_run import BoundRun, node_placement
from .latency import Call, SpeedUp, Timing, compare, summarize, time_interleaved
from .operations import Workload
from .progress import Track, untracked

if TYPE_CHECKING:
    from ..runtime.devices import Device

Half = Callable[[bytes], bytes]
"""A serialized graph -> the same in float16."""
HOST = ["CPUExecutionProvider"]
KEPT_AGREEMENT = 0.99
AGREEMENT_USERS = 100
NO_HALF = "float16 was not tried: `onnx`, of the extra compress, makes the copy"


@dataclass(slots=True, kw_only=True)
class DeviceGraph:
    """One graph on the device, and what it is asked with."""

    system: str
    graph: Literal["encoder", "scorer"]
    precision: Literal["as it is", "float16"]
    bound: BoundRun
    ask: Callable[[int], Mapping[str, NDArray[Any]]]
    """The inputs of a round."""
    placement: Mapping[str, Any]
    first_ms: float = 0.0
    agreement: float | None = None


def measure_device(
    paths: Mapping[str, Path],
    work: Workload,
    *,
    timing: Timing,
    device: Device,
    threads: int = 1,
    half: Half | None = None,
    track: Track = untracked,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows for each graph of each bundle (docs/results-schema.md), and notes on what was not measured."""
    graphs: list[DeviceGraph] = []
    notes = [] if half is not None else [NO_HALF]
    for name, path in paths.items():
        engine = Engine.load(path, threads=threads, device=device, verify=False)
        opened, problems = _graphs_of(name, engine, work, device=device, threads=threads, half=half)
        graphs += opened
        notes += problems
    named = {f"{one.system} {one.graph} {one.precision}": one for one in graphs}
    samples: dict[str, dict[str, NDArray[np.float64]]] = {}
    for step in ("copy_in", "run", "copy_out"):
        with track(f"{device}, {step.replace('_', ' ')}", timing.n_rounds) as advance:
            samples[step] = time_interleaved(named, _STEPS[step], timing, progress=advance)
    rows: list[dict[str, Any]] = []
    for name, one in named.items():
        speedup: SpeedUp | None = None
        if one.precision == "float16":
            speedup = compare(samples["run"][name], samples["run"][f"{one.system} {one.graph} as it is"])
        rows.append(
            {
                "system": one.system, "graph": one.graph, "precision": one.precision, "device": device, "threads": threads,
                "first_ms": one.first_ms, **{step: summarize(samples[step][name]) for step in samples},
                "bytes_in": one.bound.bytes_in, "bytes_out": one.bound.bytes_out, **one.placement,
                "agreement": one.agreement, "speedup": None if speedup is None else speedup.to_json(),
                "kept": None if speedup is None or one.agreement is None else worth_it(speedup, one.agreement),
            }
        )  # fmt: skip
    return rows, notes


def worth_it(speedup: SpeedUp, agreement: float) -> bool:
    """Whether a float16 copy is faster than what it was made of, beyond doubt, and ranks the same."""
    return speedup.told_apart and speedup.ratio.low > 1.0 and agreement >= KEPT_AGREEMENT


def _prepare_copy_in(one: DeviceGraph, n: int) -> Call:
    inputs = one.ask(n)
    return lambda: one.bound.copy_in(inputs)


def _prepare_run(one: DeviceGraph, n: int) -> Call:
    one.bound.copy_in(one.ask(n))
    return one.bound.run


def _prepare_copy_out(one: DeviceGraph, n: int) -> Call:
    _prepare_run(one, n)()
    return one.bound.copy_out


_STEPS = {"copy_in": _prepare_copy_in, "run": _prepare_run, "copy_out": _prepare_copy_out}


def _graphs_of(
    name: str, engine: Engine, work: Workload, *, device: Device, threads: int, half: Half | None
) -> tuple[list[DeviceGraph], list[str]]:
    """The encoder, its copy in float16, and the catalogue's scorer, each run once; what has no graph is a note."""
    providers, memory = execution_providers(device), device_memory(device)
    graphs: list[DeviceGraph] = []
    notes: list[str] = []

    def opened(
        model: bytes, weights: Weights, ask: Callable[[int], Mapping[str, NDArray[Any]]], **what: Any
    ) -> DeviceGraph:
        def session(options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
            return onnxruntime.InferenceSession(model, options, providers=providers)

        bound = BoundRun(session(session_options(threads, weights)), memory)
        began = time.perf_counter()
        bound(ask(0))
        first_ms = 1e3 * (time.perf_counter() - began)
        placement = node_placement(session, session_options(threads, weights), ask(0))
        return DeviceGraph(system=name, bound=bound, ask=ask, placement=placement, first_ms=first_ms, **what)

    if engine.neighbors is not None:
        return [], [f"{name}: has item-item weights, which numpy looks up on the CPU"]
    ask_encoder = _encoder_questions(engine, work)
    users = [engine.encode_vectors(ask_encoder(n)) for n in range(min(AGREEMENT_USERS, len(work.histories)))]
    graph = _encoder_graph(engine)
    if graph is None:
        notes.append(f"{name}: its encoder is no graph, and runs in numpy on the CPU")
    else:
        given = onnxruntime.InferenceSession(graph, session_options(1), providers=HOST).get_inputs()[0].name

        def ask(n: int) -> dict[str, NDArray[np.float32]]:
            return {given: ask_encoder(n)}

        graphs.append(opened(graph, {}, ask, graph="encoder", precision="as it is"))
        if half is not None:
            try:
                made = opened(half(graph), {}, ask, graph="encoder", precision="float16")
            except Exception as error:  # noqa: BLE001 -- the converter and onnxruntime raise many types, none of them public
                notes.append(
                    f"{name}: no float16 copy of its encoder: {(str(error).strip() or type(error).__name__).splitlines()[0]}"
                )
            else:
                made.agreement = _agreement(engine, users, [made.bound(ask(n))[0] for n in range(len(users))])
                graphs.append(made)
    if isinstance(engine.table, CodebookRows):
        return graphs, [*notes, f"{name}: its catalogue is scored in numpy, on the CPU"]
    kept: list[Weights] = []

    def made_by(weights: Weights) -> onnxruntime.InferenceSession:
        kept.append(weights)
        return onnxruntime.InferenceSession(scorer, session_options(1, weights), providers=HOST)

    scorer = engine.bundle.part("scorer.onnx").tobytes()
    block = engine.manifest["item_table"].get("block", 0)
    CatalogueScorer(engine.table, block, made_by).score_all(users[0])
    graphs.append(
        opened(
            scorer, kept[0], lambda n: {"users": users[n % len(users)]}, graph="scorer", precision="as it is"
        )
    )
    return graphs, notes


def _encoder_graph(engine: Engine) -> bytes | None:
    """As onnxruntime reads it; None where numpy encodes."""
    said = engine.manifest.get("encoder", {})
    if said.get("format", "onnx") != "onnx":
        return None
    if said.get("bytes") is not None:
        return inflated(engine.bundle, "encoder.onnx", said["bytes"])
    return engine.bundle.part("encoder.onnx").tobytes()


def _encoder_questions(engine: Engine, work: Workload) -> Callable[[int], NDArray[np.float32]]:
    """The vectors of a history for each round, float32 (1, n, D), all of the median length."""
    length = min(engine.max_length, int(np.median([len(history) for history in work.histories])))
    histories: Sequence[Sequence[int | str]] = [h for h in work.histories if len(h) >= length]

    def ask(n: int) -> NDArray[np.float32]:
        rows = engine.item_ids.rows(histories[n % len(histories)][-length:])
        return engine.table.lookup(rows[None])

    return ask


def _agreement(
    engine: Engine, users: Sequence[NDArray[np.float32]], others: Sequence[NDArray[np.float32]]
) -> float:
    """Mean share of the ten best of the catalogue that two encoders have in common."""
    shares: list[float] = []
    for user, other in zip(users, others, strict=True):
        best, again = (set(engine.top_k(of[0], 10)[0].tolist()) for of in (user, other))
        shares.append(len(best & again) / len(best))
    return float(np.mean(shares))
