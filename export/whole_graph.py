"""A sequence model as ONE standard ONNX graph, as any other tool would be given it: item rows in, scores out.

    catalogue graph     history int64 (B, n)                            -> scores float32 (B, N)
    candidates graph    history int64 (B, n), candidates int64 (B, C)   -> scores float32 (B, C)

Look-up, encoder and scoring product are in the graph, and the table is stored once (`torch.onnx.export(dynamo=True)`
ties it; the older exporter writes it twice). Standard operators in float32, nothing of ours: it is what other
quantizers are measured on (`benchmarks/peers`), and what an app without our runtime would ship. The scoring product is
`users @ table.T`, as research code has it: of the forms tried it is the one that lets onnxruntime's `quantize_dynamic`
keep one table in int8 (a linear layer becomes a Gemm, for which it writes the table a second time).
"""

from __future__ import annotations

import onnx
import torch
from torch import Tensor

from .encoder_graph import trace_graph
from .whole_model import Candidates, Catalogue


def catalogue_graph(model: Catalogue, *, max_length: int) -> onnx.ModelProto:
    """The graph of a model for any B >= 1 and 1 <= n <= max_length.

    Raises:
        torch.onnx.OnnxExporterError: the encoder has something that cannot be traced.
    """
    history, batch_and_length = _history(max_length)
    return trace_graph(
        model,
        args=(history,),
        input_names=["history"],
        output_names=["scores"],
        dynamic_shapes=(batch_and_length,),
    )


def candidates_graph(model: Candidates, *, max_length: int) -> onnx.ModelProto:
    """The same for any B, n and C >= 1."""
    history, batch_and_length = _history(max_length)
    return trace_graph(
        model,
        args=(history, torch.zeros(len(history), 3, dtype=torch.long)),
        input_names=["history", "candidates"],
        output_names=["scores"],
        dynamic_shapes=(batch_and_length, {0: batch_and_length[0], 1: torch.export.Dim("count")}),
    )


def _history(max_length: int) -> tuple[Tensor, dict[int, object]]:
    """An example, and which of its dimensions are free: as in `encoder_graph.export_encoder`."""
    length = torch.export.Dim("length", max=max(max_length, 3)) if max_length > 1 else torch.export.Dim.STATIC
    example = torch.zeros(2, min(max_length, 3), dtype=torch.long)
    return example, {0: torch.export.Dim("batch"), 1: length}
