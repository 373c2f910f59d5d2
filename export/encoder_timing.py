"""Which rounded forms of an encoder are faster on this machine, on histories of the lengths that its users have.

One thread, one user a call, as a device ranks; the forms take turns, so that a machine that slows down slows them all.
The median decides, and integer products must win by more than noise: at equal speed restored weights are more exact.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from ..runtime.engine import session_options
from ..runtime.pooled_encoder import PooledEncoder, PooledWeights
from .encoder_int8 import EncoderForm, form_of, quantize_encoder
from .encoder_static import Ranges

Form = TypeVar("Form", bound=str)

ROUNDS = 200
WARM_UP = 10
CLEAR_WIN = 0.97
"""Integer products must take at most this share of the time: less is within the noise of a busy machine."""


def faster_encoders(
    graph: onnx.ModelProto,
    *,
    width: int,
    lengths: Sequence[int],
    bits: int,
    seed: int,
    ranges: Ranges | None = None,
) -> tuple[list[EncoderForm], dict[str, float]]:
    """Forms to ship, the fastest first, and the median time of each in microseconds, "float32" for comparison.

    The last one restores weights on loading, and so is as fast as float; those before it are clearly faster.

    Args:
        graph: the float32 encoder.
        lengths: history lengths to draw from, each at least 1.
        bits: of weights, 4 or 8.
        ranges: of activations, where static products of 8 bits may be taken, too.
    """

    def draw(random: np.random.Generator) -> dict[str, NDArray[Any]]:
        return {"history": random.standard_normal((1, int(random.choice(lengths)), width)).astype(np.float32)}

    return faster_forms(graph, draw, bits=bits, seed=seed, ranges=ranges)


def faster_forms(
    graph: onnx.ModelProto,
    draw: Callable[[np.random.Generator], dict[str, NDArray[Any]]],
    *,
    bits: int,
    seed: int,
    ranges: Ranges | None = None,
) -> tuple[list[EncoderForm], dict[str, float]]:
    """The same of any graph; `draw` makes the inputs of a call."""
    restored = form_of(bits, "float32")
    rounded: list[EncoderForm] = [form_of(bits, "int8")]
    if bits == 8 and ranges:
        rounded.append("int8-static")
    runs: dict[EncoderForm, Callable[[dict[str, NDArray[Any]]], object]] = {"float32": _run(graph)}
    runs |= {form: _run(quantize_encoder(graph, form, ranges)) for form in (restored, *rounded)}
    medians = _median_us(runs, draw, seed=seed)
    limit = CLEAR_WIN * min(medians[restored], medians["float32"])
    faster: list[EncoderForm] = sorted(
        (form for form in rounded if medians[form] < limit), key=lambda form: medians[form]
    )
    return [*faster, restored], {str(form): round(median, 1) for form, median in medians.items()}


def pooled_times(
    weights: PooledWeights, graph: onnx.ModelProto, form: EncoderForm, *, lengths: Sequence[int], seed: int
) -> dict[str, float]:
    """Median times of an encoder in numpy (`form`, as it ships) and as a graph ("float32"), in microseconds.

    Args:
        lengths: history lengths to draw from, each at least 1.
    """
    encoder, width = PooledEncoder(weights), len(weights.bias_2)

    def draw(random: np.random.Generator) -> dict[str, NDArray[Any]]:
        return {"history": random.standard_normal((1, int(random.choice(lengths)), width)).astype(np.float32)}

    runs: dict[str, Callable[[dict[str, NDArray[Any]]], object]] = {
        "float32": _run(graph),
        form: lambda inputs: encoder(inputs["history"]),
    }
    medians = _median_us(runs, draw, seed=seed)
    return {name: round(median, 1) for name, median in medians.items()}


def graph_times(
    graphs: Mapping[Form, onnx.ModelProto], *, width: int, lengths: Sequence[int], seed: int
) -> dict[Form, float]:
    """Median times of encoders of one width, in microseconds, in turns on the same histories."""

    def draw(random: np.random.Generator) -> dict[str, NDArray[Any]]:
        return {"history": random.standard_normal((1, int(random.choice(lengths)), width)).astype(np.float32)}

    medians = _median_us({name: _run(graph) for name, graph in graphs.items()}, draw, seed=seed)
    return {name: round(median, 1) for name, median in medians.items()}


def _run(model: onnx.ModelProto) -> Callable[[dict[str, NDArray[Any]]], object]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options(threads=1), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: session.run(names, inputs)


def _median_us(
    runs: Mapping[Form, Callable[[dict[str, NDArray[Any]]], object]],
    draw: Callable[[np.random.Generator], dict[str, NDArray[Any]]],
    *,
    seed: int,
) -> dict[Form, float]:
    """All of them on the same inputs, in turns, another one first each time: who follows the drawing finds cold caches."""
    random, names = np.random.default_rng(seed), list(runs)
    times: dict[Form, list[int]] = {form: [] for form in runs}
    for round_number in range(WARM_UP + ROUNDS):
        inputs = draw(random)
        for turn in range(len(names)):
            form = names[(round_number + turn) % len(names)]
            began = time.perf_counter_ns()
            runs[form](inputs)
            if round_number >= WARM_UP:
                times[form].append(time.perf_counter_ns() - began)
    return {form: float(np.median(taken)) / 1e3 for form, taken in times.items()}
