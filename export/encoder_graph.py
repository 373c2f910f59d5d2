"""An encoder module -> one small ONNX graph: item vectors (B, n, D) -> user vectors (B, D), B and n free.

`torch.onnx.export(dynamo=True)` traces and optimizes it. Two things follow that the exporter leaves to us: traces of
source lines in the metadata of each node are dropped (they are most of a small graph's bytes and leak paths of the
machine), and all names are made short. Holds afterwards: the same operators and weights, no metadata, standard
operators only.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import onnx
import torch
from torch import nn

OPSET = 20  # the first with Gelu as an operator


def export_encoder(module: nn.Module, *, width: int, max_length: int) -> onnx.ModelProto:
    """Export `module.forward`, float32 (B, n, width) -> (B, width), for any B >= 1 and 1 <= n <= max_length.

    Raises:
        torch.onnx.OnnxExporterError: the module has something that cannot be traced.
    """
    # torch.export specializes lengths 0 and 1, so the example is longer wherever the model allows it; and it takes a
    # range of one length, which 2 to 2 is to it, for a constant: no caller gives the 3 that it is told of there
    example = torch.zeros(2, min(max_length, 3), width)
    length = torch.export.Dim("length", max=max(max_length, 3)) if max_length > 1 else torch.export.Dim.STATIC
    return trace_graph(
        module,
        args=(example,),
        input_names=["history"],
        output_names=["users"],
        dynamic_shapes=({0: torch.export.Dim("batch"), 1: length},),
    )


def trace_graph(
    module: nn.Module,
    *,
    input_names: Sequence[str],
    output_names: Sequence[str],
    dynamic_shapes: Any,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> onnx.ModelProto:
    """Trace a module on example inputs; the graph is `shortened`.

    Raises:
        torch.onnx.OnnxExporterError: the module has something that cannot be traced.
    """
    with _quiet():
        program = torch.onnx.export(
            module.eval(),
            args,
            kwargs=None if kwargs is None else dict(kwargs),
            dynamo=True,
            opset_version=OPSET,
            input_names=input_names,
            output_names=output_names,
            dynamic_shapes=dynamic_shapes,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export(dynamo=True) returned no program")
    return shortened(program.model_proto)


def shortened(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph without metadata and with short names; inputs and outputs keep theirs."""
    graph = model.graph
    kept = {value.name for value in (*graph.input, *graph.output)}
    names: dict[str, str] = {"": ""}

    def short(name: str) -> str:
        if name in kept:
            return name
        return names.setdefault(name, f"v{len(names)}")

    for node in graph.node:
        node.input[:] = [short(name) for name in node.input]
        node.output[:] = [short(name) for name in node.output]
        node.name = ""
        node.doc_string = ""
        del node.metadata_props[:]
    for initializer in graph.initializer:
        initializer.name = short(initializer.name)
        initializer.doc_string = ""
        del initializer.metadata_props[:]
    for value in (*graph.input, *graph.output):
        del value.metadata_props[:]
    del graph.value_info[:]
    del graph.metadata_props[:]
    del model.metadata_props[:]
    del model.functions[:]
    graph.name, graph.doc_string, model.doc_string = "encoder", "", ""
    model.producer_name, model.producer_version = "pocketrec", ""
    return model


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """The exporter prints and warns about torchvision and its own deprecations; none of it is for our users."""
    loggers = [logging.getLogger("torch.onnx"), logging.getLogger("onnxscript"), logging.getLogger("onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
